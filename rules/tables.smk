# Finished runs -> result tables, one rule for every registered table.


# Stands between runs and a table, named after the study: another row, or another configuration, is another file.
rule collect:
    input:
        lambda w: study.receipts(w.table),
    output:
        f"<receipts>/{{table}}-{study.name}.json",
    log:
        f"<logs>/collect-{{table}}-{study.name}.log",
    wildcard_constraints:
        table="|".join(study.tables),
    conda:
        "../environment.yml"
    message:
        "Collect the runs of table {wildcards.table}"
    shell:
        "clip2scene collect {wildcards.table:q} {output:q} 2> {log:q}"


for name in study.tables:

    rule:
        name:
            f"table_{name}"
        input:
            study.collected(name),
            layout.wanted(settings, name),
            get_table(name).reads(settings),
        output:
            [
                report(
                    settings.results / file,
                    caption=captions.path(Path(file).stem),
                    category="Tables",
                    labels={
                        "table": Path(file)
                        .stem.removeprefix("table_")
                        .replace("_", " "),
                        "as": Path(file).suffix[1:].upper(),
                    },
                )
                for file in get_table(name).files
            ],
            layout.shown(settings, name),
        log:
            f"<logs>/table-{name}.log",
        conda:
            "../environment.yml"
        params:
            # a function, as the lint takes the name `results` for the start of a path
            table=lambda w, name=name: name,
            study=study.name,
            code=study.table_stamp(name),
        message:
            "Write {output[0]}"
        shell:
            "clip2scene table {params.table:q} 2> {log:q}"
