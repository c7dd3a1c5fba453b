# From raw data sets to results/table_main.csv: the whole study on one screen.
# Which cells are filled: config/experiments.tsv. With which settings: config/config.yaml, or $CLIP2SCENE_CONFIG.
import os
from pathlib import Path

from clip2scene import layout, progress
from clip2scene.planning.resources import planned
from clip2scene.provenance import code_hash
from clip2scene.report import captions, stamp as page_stamp
from clip2scene.reporting.base import get_table
from clip2scene.workflow import Workflow

# CLIP2SCENE_CONFIG, or a --configfile, is a whole configuration, not a layer over the default. Snakemake reads a
# --configfile before it comes to this file, and ends in a traceback where that is missing or damaged.
study = Workflow.read(
    workflow.overwrite_configfiles
    or [os.environ.get("CLIP2SCENE_CONFIG") or "config/config.yaml"],
    workflow.config_settings.config,
)
if "CLIP2SCENE_CONFIG" in os.environ:

    # for jobs on other machines
    envvars:
        "CLIP2SCENE_CONFIG",


settings = study.config
if workflow.is_main_process and not workflow.output_settings.dryrun:
    study.hold()
    study.retire()
    progress.watch(workflow.output_settings.quiet)
if workflow.is_main_process:
    study.want()
shell.prefix("export CLIP2SCENE_CONFIG={study.file:q}; ")


report: captions.path("workflow")


pathvars:
    results=str(settings.results),
    receipts=f"{settings.results}/receipts",
    logs=f"{settings.results}/logs",
    benchmarks=f"{settings.results}/benchmarks",


# More parts, with --set-scatter, for more machines: the packed file is the same.
scattergather:
    superpixels=1 if settings.share_process else 100,


rule all:
    default_target: True
    input:
        [settings.results / get_table(name).files[0] for name in study.tables],
        settings.results / "report.html",


include: "rules/stages.smk"
include: "rules/tables.smk"
include: "rules/report.smk"


# MLflow mirrors finished runs. Nothing waits for it, so that a store that is away costs no table.
onsuccess:
    shell("clip2scene sync || true")


onerror:
    shell("clip2scene sync || true")
