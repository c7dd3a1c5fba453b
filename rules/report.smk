# Pictures: a validation scan with its prediction, the label-fraction curves, what training did.


rule figures:
    input:
        f"{RESULTS}/table_main.csv",
    output:
        report(
            directory(f"{RESULTS}/figures"),
            patterns=["{name}.png"],
            category="Figures",
        ),
    params:
        config=experiment.name,
        code=code_hash("clip2scene.reporting.figures"),
    log:
        f"{RESULTS}/logs/figures.log",
    conda:
        "../environment.yml"
    message:
        "Draw {output}"
    shell:
        "{CLI} figures 2> {log}"
