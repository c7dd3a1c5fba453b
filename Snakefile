# From raw data sets to results/table_main.csv: the whole experiment on one screen.
# Which cells are filled: config/experiments.tsv. With which settings: config/config.yaml, or --configfile.
from clip2scene import layout
from clip2scene.config import parse_config
from clip2scene.provenance import code_hash
from clip2scene.workflow import Workflow

# A --configfile is a whole configuration, not a layer over the default.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


experiment = Workflow(parse_config(config, "configuration"))
settings = experiment.config
shell.prefix(f"export CLIP2SCENE_CONFIG={experiment.file}; ")


pathvars:
    results=str(settings.results),
    logs=f"{settings.results}/logs",
    benchmarks=f"{settings.results}/benchmarks",


# More, with --set-scatter, for more machines: `superpixels` is packed to the same file.
scattergather:
    superpixels=1 if settings.share_process else 100,


wildcard_constraints:
    data="|".join(experiment.prepared),
    job="|".join(experiment.jobs),
    run="[0-9a-f]{12}",
    settings="[0-9a-f]{12}",


rule all:
    default_target: True
    input:
        "<results>/table_main.csv",
        "<results>/figures",


include: "rules/datasets.smk"
include: "rules/teacher.smk"
include: "rules/pretrain.smk"
include: "rules/downstream.smk"
include: "rules/tables.smk"
include: "rules/report.smk"
