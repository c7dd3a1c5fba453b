# What pre-training distils: a CLIP model with its text embeddings, and a self-supervised image encoder.


rule teacher:
    input:
        lambda w: experiment.inputs(w.run),
    output:
        RESULTS + "/runs/{run}/checkpoint.pt",
        RESULTS + "/runs/{run}/metrics.json",
    params:
        code=lambda w: experiment.code(w.run),
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
        "{CLI} run {wildcards.run} 2> {log}"


use rule teacher as image_encoder with:
    wildcard_constraints:
        run=experiment.keys("encoder"),
    log:
        RESULTS + "/logs/image_encoder/{run}.log",
    benchmark:
        RESULTS + "/benchmarks/image_encoder/{run}.jsonl"
    message:
        "Prepare the self-supervised image encoder (progress: {log})"


rule text_embeddings:
    input:
        RESULTS + "/runs/{run}/checkpoint.pt",
    output:
        RESULTS + "/runs/{run}/text-{dataset}.pt",
    params:
        code=code_hash("clip2scene.models.prompts"),
    threads: settings.threads
    log:
        RESULTS + "/logs/text_embeddings/{run}-{dataset}.log",
    conda:
        "../environment.yml"
    message:
        "Embed the class prompts of {wildcards.dataset}"
    shell:
        "{CLI} text-embeddings {wildcards.dataset} 2> {log}"
