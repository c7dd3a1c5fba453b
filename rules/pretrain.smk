# Pre-training of a 3D network: one job a method, recipe and seed.


rule pretrain:
    input:
        lambda w: experiment.pretrain_inputs(w.run),
    output:
        RESULTS + "/runs/{run}/checkpoint.pt",
        RESULTS + "/runs/{run}/metrics.json",
    params:
        what=lambda w: experiment.runs[w.run],
        code=lambda w: experiment.run_code("clip2scene.training.pretrain", w.run),
    wildcard_constraints:
        run=experiment.keys("pretrain"),
    threads: settings.threads
    resources:
        gpu=experiment.gpu,
    log:
        RESULTS + "/logs/pretrain/{run}.log",
    benchmark:
        RESULTS + "/benchmarks/pretrain/{run}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Pre-train {params.what} (progress: {log})"
    shell:
        "{CLI} pretrain {wildcards.run} 2> {log}"
