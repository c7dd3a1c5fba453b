# From raw data sets to results/table_main.csv: the whole experiment on one screen.
# Which cells are filled: config/experiments.tsv. With which settings: config/config.yaml, or --configfile.
from clip2scene import layout
from clip2scene.config import parse_config
from clip2scene.provenance import code_hash
from clip2scene.workflow import Workflow


configfile: "config/config.yaml"


experiment = Workflow(parse_config(config, "configuration"))
settings = experiment.config
RESULTS = str(settings.results)
CLI = f"clip2scene --config {experiment.file}"


wildcard_constraints:
    data="|".join(experiment.prepared),
    job="|".join(experiment.jobs),
    run="[0-9a-f]{12}",


rule all:
    input:
        f"{RESULTS}/table_main.csv",
        f"{RESULTS}/figures",
    default_target: True


include: "rules/datasets.smk"
include: "rules/teacher.smk"
include: "rules/pretrain.smk"
include: "rules/downstream.smk"
include: "rules/tables.smk"
include: "rules/report.smk"
