# Raw files -> index, label subsets, superpixels. A data set with `synthetic` parameters is made first.


for dataset, files in experiment.synthetic.items():

    rule:
        name:
            f"synthetic_{dataset}"
        output:
            files,
        log:
            f"<logs>/synthetic_data/{dataset}.log",
        benchmark:
            f"<benchmarks>/synthetic_data/{dataset}.jsonl"
        priority: 3  # all else waits for these
        conda:
            "../environment.yml"
        threads: workflow.cores or 1
        params:
            dataset=dataset,
            identity=layout.prepared(settings, dataset).name,
            code=experiment.writer_code(dataset),
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


rule superpixel_chunk:
    input:
        "<results>/prepared/{data}/index.parquet",
    output:
        temp("<results>/prepared/{data}/superpixels-{settings}/{scatteritem}.arrow"),
    log:
        "<logs>/superpixels/{data}-{settings}-{scatteritem}.log",
    benchmark:
        "<benchmarks>/superpixels/{data}-{settings}-{scatteritem}.jsonl"
    priority: 2  # pre-training waits for these
    conda:
        "../environment.yml"
    threads: settings.threads
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=code_hash("clip2scene.pairing.superpixels"),
    message:
        "Compute the superpixels of {params.dataset}, chunk {wildcards.scatteritem} (progress: {log})"
    shell:
        "clip2scene superpixels {params.dataset} --chunk {wildcards.scatteritem} --processes {threads} 2> {log}"


rule superpixels:
    input:
        index="<results>/prepared/{data}/index.parquet",
        chunks=gather.superpixels(
            "<results>/prepared/{{data}}/superpixels-{{settings}}/{scatteritem}.arrow"
        ),
    output:
        "<results>/prepared/{data}/superpixels-{settings}.arrow",
    log:
        "<logs>/superpixels/{data}-{settings}.log",
    priority: 2
    conda:
        "../environment.yml"
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=code_hash("clip2scene.pairing.superpixels"),
    message:
        "Pack the superpixels of {params.dataset}"
    shell:
        "clip2scene pack-superpixels {params.dataset} {input.chunks} 2> {log}"
