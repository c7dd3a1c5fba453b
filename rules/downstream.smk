# What a pre-trained network is worth: without annotations, and fine-tuned on shares of them.
# A job holds the runs of one method, unless `share_process` is false; its manifest lists them.


rule evaluate:
    input:
        lambda w: experiment.job_inputs(w.job),
    output:
        RESULTS + "/jobs/{job}.json",
    params:
        runs=lambda w: [run.key for run in experiment.jobs[w.job]],
        code=lambda w: experiment.code(experiment.jobs[w.job][0].key),
    wildcard_constraints:
        job=experiment.names("annotation_free", "projection"),
    threads: settings.threads
    resources:
        gpu=experiment.gpu,
    log:
        RESULTS + "/logs/evaluate/{job}.log",
    benchmark:
        RESULTS + "/benchmarks/evaluate/{job}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Evaluate: {wildcards.job} (progress: {log})"
    shell:
        "{CLI} run --manifest {output} {params.runs} 2> {log}"


use rule evaluate as finetune with:
    wildcard_constraints:
        job=experiment.names("finetune", "linear_probe"),
    log:
        RESULTS + "/logs/finetune/{job}.log",
    benchmark:
        RESULTS + "/benchmarks/finetune/{job}.jsonl"
    message:
        "Fine-tune: {wildcards.job} (progress: {log})"
