# What pre-training distils: a CLIP model with its text embeddings, and a self-supervised image encoder.


rule teacher:
    input:
        lambda w: experiment.inputs(w.run),
    output:
        "<results>/runs/{run}/checkpoint.pt",
        "<results>/runs/{run}/metrics.json",
    log:
        "<logs>/teacher/{run}.log",
    benchmark:
        "<benchmarks>/teacher/{run}.jsonl"
    wildcard_constraints:
        run=experiment.keys("teacher"),
    priority: 2  # pre-training waits for these
    conda:
        "../environment.yml"
    threads: settings.threads
    resources:
        gpu=experiment.gpu,
    params:
        code=lambda w: experiment.code(w.run),
    message:
        "Prepare the CLIP teacher (progress: {log})"
    shell:
        "clip2scene run {wildcards.run} 2> {log}"


use rule teacher as image_encoder with:
    log:
        "<logs>/image_encoder/{run}.log",
    benchmark:
        "<benchmarks>/image_encoder/{run}.jsonl"
    wildcard_constraints:
        run=experiment.keys("encoder"),
    message:
        "Prepare the self-supervised image encoder (progress: {log})"


rule text_embeddings:
    input:
        "<results>/runs/{run}/checkpoint.pt",
    output:
        "<results>/runs/{run}/text-{dataset}.pt",
    log:
        "<logs>/text_embeddings/{run}-{dataset}.log",
    priority: 2
    conda:
        "../environment.yml"
    threads: settings.threads
    params:
        code=code_hash("clip2scene.models.prompts"),
    message:
        "Embed the class prompts of {wildcards.dataset}"
    shell:
        "clip2scene text-embeddings {wildcards.dataset} 2> {log}"
