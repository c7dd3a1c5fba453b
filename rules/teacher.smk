# What pre-training distils: a CLIP model with its text embeddings, and a self-supervised image encoder.


rule teacher:
    input:
        experiment.teacher_inputs(),
    output:
        RESULTS + "/runs/{run}/checkpoint.pt",
        RESULTS + "/runs/{run}/metrics.json",
    params:
        code=experiment.code("clip2scene.training.teacher"),
    wildcard_constraints:
        run=experiment.keys("teacher"),
    threads: settings.threads
    resources:
        gpu=experiment.gpu,
    log:
        RESULTS + "/logs/teacher/{run}.log",
    benchmark:
        RESULTS + "/benchmarks/teacher/{run}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Prepare the CLIP teacher (progress: {log})"
    shell:
        "{CLI} teacher {wildcards.run} 2> {log}"


rule text_embeddings:
    input:
        RESULTS + "/runs/{run}/checkpoint.pt",
    output:
        RESULTS + "/runs/{run}/text-{format}.pt",
    params:
        code=experiment.code("clip2scene.models.prompts"),
    threads: settings.threads
    log:
        RESULTS + "/logs/text_embeddings/{run}-{format}.log",
    conda:
        "../environment.yml"
    message:
        "Embed the prompts of {wildcards.format}"
    shell:
        "{CLI} text-embeddings {wildcards.format} 2> {log}"


rule image_encoder:
    input:
        lambda w: experiment.encoder_inputs(w.run),
    output:
        RESULTS + "/runs/{run}/checkpoint.pt",
        RESULTS + "/runs/{run}/metrics.json",
    params:
        code=experiment.code("clip2scene.training.encoder"),
    wildcard_constraints:
        run=experiment.keys("encoder"),
    threads: settings.threads
    resources:
        gpu=experiment.gpu,
    log:
        RESULTS + "/logs/image_encoder/{run}.log",
    benchmark:
        RESULTS + "/benchmarks/image_encoder/{run}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Prepare the self-supervised image encoder (progress: {log})"
    shell:
        "{CLI} encoder {wildcards.run} 2> {log}"
