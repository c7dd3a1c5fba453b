# Finished runs -> MLflow and the tables. Tables read run files; MLflow mirrors them.


rule mlflow_store:
    output:
        touch(RESULTS + "/mlflow-store.done"),
    params:
        uri=settings.tracking.uri,
    log:
        f"{RESULTS}/logs/mlflow_store.log",
    conda:
        "../environment.yml"
    message:
        "Make or migrate the MLflow store {params.uri}"
    shell:
        "{CLI} mlflow-store 2> {log}"


rule mlflow:
    input:
        store=ancient(RESULTS + "/mlflow-store.done"),
        runs=[layout.metrics(settings, run) for run in experiment.upstream],
        jobs=experiment.manifests(),
    output:
        f"{RESULTS}/mlflow/{experiment.name}.json",
    params:
        tracking=settings.tracking.model_dump(),
        code=code_hash("clip2scene.reporting.mlflow_sink"),
    log:
        f"{RESULTS}/logs/mlflow.log",
    benchmark:
        f"{RESULTS}/benchmarks/mlflow.jsonl"
    conda:
        "../environment.yml"
    message:
        "Send finished runs to MLflow"
    shell:
        "{CLI} mlflow {output} 2> {log}"


rule table_main:
    input:
        f"{RESULTS}/mlflow/{experiment.name}.json",
        experiment.manifests(),
        published="results/published/published.csv",
    output:
        report(f"{RESULTS}/table_main.csv", category="Tables"),
        f"{RESULTS}/table_main.md",
        report(f"{RESULTS}/table_per_class.csv", category="Tables"),
    params:
        config=experiment.name,
        code=code_hash("clip2scene.reporting.tables"),
    log:
        f"{RESULTS}/logs/table_main.log",
    conda:
        "../environment.yml"
    message:
        "Write {output}"
    shell:
        "{CLI} table 2> {log}"
