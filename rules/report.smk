# Pictures: scenes in every view with each prediction, label fractions, losses of training; and the report.


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


# Tables that this workflow makes anyway. None is made for the report alone, but for the main one.
def reported():
    if workflow.dag_settings.target_jobs:
        return []  # a job of its own on a cluster: what it waits for is there
    asked = {Path(target) for target in workflow.dag_settings.targets or ["all"]}
    every = study.tables if Path("all") in asked or "main" not in study.tables else []
    return every or [
        name
        for name in study.tables
        if name == "main"
        or asked & {settings.results / file for file in get_table(name).files}
    ]


rule report_page:
    input:
        rules.figures.output if "main" in study.tables else [],
        lambda w: [layout.shown(settings, name) for name in reported()],
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
        beside=lambda w: study.beside(reported()),
    message:
        "Write {output}"
    shell:
        "clip2scene report 2> {log:q}"
