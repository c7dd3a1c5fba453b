# Pictures: scenes in every view with each prediction; and the report.


rule figures:
    input:
        f"<receipts>/main-{study.name}.json",
    output:
        f"<receipts>/figures-{study.name}.json",
    log:
        "<logs>/figures.log",
    conda:
        "../environment.yml"
    params:
        code=code_hash("clip2scene.reporting.figures"),
    message:
        "Draw the figures"
    shell:
        "clip2scene figures 2> {log:q}"


# It waits for the tables that this workflow makes anyway. None is made for it alone, but for the main one.
rule report_page:
    input:
        rules.figures.output if "main" in study.tables else [],
        lambda w: [
            layout.shown(settings, name)
            for name in study.reported(workflow.dag_settings)
        ],
    output:
        report(
            settings.results / "report.html",
            caption=captions.path("report"),
            category="Report",
            labels={"table": "all, with curves, scenes and runs", "as": "HTML"},
        ),
    log:
        "<logs>/report.log",
    conda:
        "../environment.yml"
    params:
        code=page_stamp(),
        beside=lambda w: study.beside(study.reported(workflow.dag_settings)),
    message:
        "Write {output}"
    shell:
        "clip2scene report 2> {log:q}"
