# Raw files -> index, label subsets, superpixels. A data set with `synthetic` parameters is made first.


rule synthetic_data:
    output:
        "{folder}/captions.parquet",
    log:
        "<logs>/synthetic_data/{folder}.log",
    benchmark:
        "<benchmarks>/synthetic_data/{folder}.jsonl"
    wildcard_constraints:
        folder="|".join(str(Path(captions).parent) for captions in experiment.synthetic)
        or "none",
    conda:
        "../environment.yml"
    threads: workflow.cores or 1
    params:
        dataset=lambda w, output: experiment.synthetic[output[0]],
        identity=lambda w, output: layout.prepared(
            settings, experiment.synthetic[output[0]]
        ).name,
        code=lambda w, output: code_hash(experiment.writer(output[0])),
    message:
        "Make the synthetic data set {params.dataset} (progress: {log})"
    shell:
        "clip2scene synthesize {params.dataset} --processes {threads} 2> {log}"


rule index:
    input:
        lambda w: experiment.index_inputs(experiment.prepared[w.data]),
    output:
        "<results>/prepared/{data}/index.parquet",
    log:
        "<logs>/index/{data}.log",
    benchmark:
        "<benchmarks>/index/{data}.jsonl"
    conda:
        "../environment.yml"
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=lambda w: code_hash("clip2scene.datasets.index", experiment.module(w.data)),
    message:
        "Index the keyframes of {params.dataset}"
    shell:
        "clip2scene index {params.dataset} 2> {log}"


rule label_subset:
    input:
        "<results>/prepared/{data}/index.parquet",
    output:
        "<results>/prepared/{data}/subsets/{rule}-{percent}.json",
    log:
        "<logs>/label_subset/{data}-{rule}-{percent}.log",
    conda:
        "../environment.yml"
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=code_hash("clip2scene.datasets.fractions"),
    message:
        "Draw {wildcards.percent} % of the labels of {params.dataset} ({wildcards.rule})"
    shell:
        "clip2scene subset {params.dataset} {wildcards.rule} {wildcards.percent} 2> {log}"


rule superpixels:
    input:
        "<results>/prepared/{data}/index.parquet",
    output:
        "<results>/prepared/{data}/superpixels-{settings}.arrow",
    log:
        "<logs>/superpixels/{data}-{settings}.log",
    benchmark:
        "<benchmarks>/superpixels/{data}-{settings}.jsonl"
    priority: 2  # pre-training waits for these
    conda:
        "../environment.yml"
    threads: settings.threads
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=code_hash("clip2scene.pairing.superpixels"),
    message:
        "Compute the superpixels of {params.dataset} (progress: {log})"
    shell:
        "clip2scene superpixels {params.dataset} --processes {threads} 2> {log}"
