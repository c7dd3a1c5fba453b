# What a pre-trained network is worth: without annotations, and fine-tuned on shares of them.
# A job holds the runs of one method, unless `share_process` is false; its manifest lists them.


rule evaluate:
    input:
        lambda w: experiment.job_inputs(w.job),
    output:
        "<results>/jobs/{job}.json",
    log:
        "<logs>/evaluate/{job}.log",
    benchmark:
        "<benchmarks>/evaluate/{job}.jsonl"
    wildcard_constraints:
        job=experiment.names("annotation_free", "projection"),
    conda:
        "../environment.yml"
    threads: settings.threads
    resources:
        gpu=experiment.gpu,
    params:
        runs=lambda w: [run.key for run in experiment.jobs[w.job]],
        code=lambda w: sorted(
            {experiment.code(run.key) for run in experiment.jobs[w.job]}
        ),
    message:
        "Evaluate: {wildcards.job} (progress: {log})"
    shell:
        "clip2scene run --manifest {output} {params.runs} 2> {log}"


use rule evaluate as finetune with:
    log:
        "<logs>/finetune/{job}.log",
    benchmark:
        "<benchmarks>/finetune/{job}.jsonl"
    wildcard_constraints:
        job=experiment.names("finetune", "linear_probe"),
    message:
        "Fine-tune: {wildcards.job} (progress: {log})"
