# Raw files -> index, label subsets, superpixels. A data set with `synthetic` parameters is made first.


rule synthetic_data:
    output:
        tables="{folder}/scene.json",
        captions="{folder}/captions.parquet",
    params:
        dataset=lambda w, output: experiment.synthetic[output.tables],
        identity=lambda w, output: layout.prepared(settings, experiment.synthetic[output.tables]).name,
        code=code_hash("clip2scene.synthetic.generate"),
    wildcard_constraints:
        folder="|".join(str(Path(tables).parent) for tables in experiment.synthetic) or "none",
    threads: workflow.cores or 1
    log:
        RESULTS + "/logs/synthetic_data/{folder}.log",
    benchmark:
        RESULTS + "/benchmarks/synthetic_data/{folder}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Make the synthetic data set {params.dataset} (progress: {log})"
    shell:
        "{CLI} synthesize {params.dataset} --processes {threads} 2> {log}"


rule index:
    input:
        lambda w: experiment.index_inputs(experiment.prepared[w.data]),
    output:
        RESULTS + "/prepared/{data}/index.parquet",
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=lambda w: code_hash("clip2scene.datasets.index", experiment.module(w.data)),
    log:
        RESULTS + "/logs/index/{data}.log",
    benchmark:
        RESULTS + "/benchmarks/index/{data}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Index the keyframes of {params.dataset}"
    shell:
        "{CLI} index {params.dataset} 2> {log}"


rule label_subset:
    input:
        RESULTS + "/prepared/{data}/index.parquet",
    output:
        RESULTS + "/prepared/{data}/subsets/{rule}-{percent}.json",
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=code_hash("clip2scene.datasets.fractions"),
    log:
        RESULTS + "/logs/label_subset/{data}-{rule}-{percent}.log",
    conda:
        "../environment.yml"
    message:
        "Draw {wildcards.percent} % of the labels of {params.dataset} ({wildcards.rule})"
    shell:
        "{CLI} subset {params.dataset} {wildcards.rule} {wildcards.percent} 2> {log}"


rule superpixels:
    input:
        RESULTS + "/prepared/{data}/index.parquet",
    output:
        RESULTS + "/prepared/{data}/superpixels-{settings}.arrow",
    params:
        dataset=lambda w: experiment.prepared[w.data],
        code=code_hash("clip2scene.pairing.superpixels"),
    threads: workflow.cores or 1
    log:
        RESULTS + "/logs/superpixels/{data}-{settings}.log",
    benchmark:
        RESULTS + "/benchmarks/superpixels/{data}-{settings}.jsonl"
    conda:
        "../environment.yml"
    message:
        "Compute the superpixels of {params.dataset} (progress: {log})"
    shell:
        "{CLI} superpixels {params.dataset} --processes {threads} 2> {log}"
