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
        lambda w: experiment.upstream(w.table) + experiment.manifests(w.table),
        store=ancient("<results>/mlflow-store.done"),
    output:
        f"<results>/mlflow/{{table}}-{experiment.name}.json",
    log:
        "<logs>/mlflow-{table}.log",
    benchmark:
        "<benchmarks>/mlflow-{table}.jsonl"
    conda:
        "../environment.yml"
    params:
        tracking=settings.tracking.model_dump(),
        code=code_hash("clip2scene.reporting.mlflow_sink"),
    message:
        "Send the finished runs of table {wildcards.table} to MLflow"
    shell:
        "clip2scene mlflow {wildcards.table} {output} 2> {log}"


rule table_main:
    input:
        f"<results>/mlflow/main-{experiment.name}.json",
        experiment.manifests("main"),
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
        "clip2scene table main 2> {log}"


# Source x target x method: what features learned on one sensor are worth on another.
rule table_cross_domain:
    input:
        f"<results>/mlflow/cross_domain-{experiment.name}.json",
        experiment.manifests("cross_domain"),
    output:
        report("<results>/table_cross_domain.csv", category="Tables"),
        "<results>/table_cross_domain.md",
        report("<results>/table_cross_domain.png", category="Figures"),
    log:
        "<logs>/table_cross_domain.log",
    conda:
        "../environment.yml"
    params:
        config=experiment.name,
        code=code_hash("clip2scene.reporting.cross_domain"),
    message:
        "Write {output}"
    shell:
        "clip2scene table cross_domain 2> {log}"
