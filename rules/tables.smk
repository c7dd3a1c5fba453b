# Finished runs -> MLflow and the tables. Tables read run files; MLflow mirrors them.


rule mlflow_store:
    output:
        touch("<results>/mlflow-store.done"),
    log:
        "<logs>/mlflow_store.log",
    conda:
        "../environment.yml"
    params:
        uri=settings.tracking.uri,
    message:
        "Make or migrate the MLflow store {params.uri}"
    shell:
        "clip2scene mlflow-store 2> {log}"


rule mlflow:
    input:
        store=ancient("<results>/mlflow-store.done"),
        runs=[layout.metrics(settings, run) for run in experiment.upstream],
        jobs=experiment.manifests(),
    output:
        f"<results>/mlflow/{experiment.name}.json",
    log:
        "<logs>/mlflow.log",
    benchmark:
        "<benchmarks>/mlflow.jsonl"
    conda:
        "../environment.yml"
    params:
        tracking=settings.tracking.model_dump(),
        code=code_hash("clip2scene.reporting.mlflow_sink"),
    message:
        "Send finished runs to MLflow"
    shell:
        "clip2scene mlflow {output} 2> {log}"


rule table_main:
    input:
        f"<results>/mlflow/{experiment.name}.json",
        experiment.manifests(),
        published="results/published/published.csv",
    output:
        report("<results>/table_main.csv", category="Tables"),
        "<results>/table_main.md",
        report("<results>/table_per_class.csv", category="Tables"),
    log:
        "<logs>/table_main.log",
    conda:
        "../environment.yml"
    params:
        config=experiment.name,
        code=code_hash("clip2scene.reporting.tables"),
    message:
        "Write {output}"
    shell:
        "clip2scene table 2> {log}"
