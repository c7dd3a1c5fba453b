# Pictures: a validation scan with its prediction, the label-fraction curves, what training did.


rule figures:
    input:
        "<results>/table_main.csv",
    output:
        report(
            directory("<results>/figures"),
            patterns=["{name}.png"],
            category="Figures",
        ),
    log:
        "<logs>/figures.log",
    conda:
        "../environment.yml"
    params:
        config=experiment.name,
        code=code_hash("clip2scene.reporting.figures"),
    message:
        "Draw {output}"
    shell:
        "clip2scene figures 2> {log}"
