# Pictures: a validation scan with its prediction, the label-fraction curves, the losses of training.


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
