"""The command line: one subcommand a stage; the Snakemake rules call these, and so may you.

Nothing heavy is imported before the subcommand that needs it runs.
"""

import gc
import sys
from pathlib import Path
from typing import Any, get_args

import click

from clip2scene import layout
from clip2scene.config import Config, load_config
from clip2scene.errors import InputError, unknown
from clip2scene.experiments import Table
from clip2scene.files import sha256, write_json
from clip2scene.workflow import Workflow


class _Group(click.Group):
    """Ends a user's mistake in one line and exit code 2; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    envvar="CLIP2SCENE_CONFIG",
    default="config/config.yaml",
    show_default=True,
    show_envvar=True,
    help="Configuration file (YAML).",
)
@click.version_option(package_name="clip2scene")
@click.pass_context
def main(context: click.Context, path: str) -> None:
    """From raw data sets to a table beside CLIP2Scene's published numbers, stage by stage.

    The whole of it: snakemake --cores all results/table_main.csv
    """
    gc.set_threshold(50_000)  # what torch's import makes stays: to look through it takes half a second
    context.obj = path


dataset_argument = click.argument("dataset")
table_argument = click.argument("table", type=click.Choice(get_args(Table)))
keys_argument = click.argument("keys", nargs=-1, required=True)
processes_option = click.option("--processes", default=1, show_default=True, help="Worker processes.")
manifest_option = click.option(
    "--manifest", type=click.Path(path_type=Path), help="Write here which runs are finished."
)


def _config(path: str, dataset: str) -> Config:
    """The configuration, which must hold `dataset`."""
    config = load_config(path)
    if dataset not in config.datasets:
        raise unknown(f"{path}: datasets", dataset, config.datasets)
    return config


def _workflow(path: str, *keys: str) -> Workflow:
    """The experiment, which must ask for runs of these keys."""
    workflow = Workflow(load_config(path))
    for key in keys:
        if key not in workflow.runs:
            raise unknown(f"{workflow.config.experiments}: run", key, workflow.runs)
    return workflow


@main.command()
@dataset_argument
@processes_option
@click.pass_obj
def synthesize(path: str, dataset: str, processes: int) -> None:
    """Make a synthetic DATASET, in the on-disk format of the real one."""
    from clip2scene.synthetic.generate import generate

    config = _config(path, dataset)
    section = config.datasets[dataset]
    if section.synthetic is None:
        raise InputError(
            f"{path}: datasets.{dataset}: has no section `synthetic`; it is read from {section.root}"
        )
    generate(section, config.seed, processes)


@main.command("check-data")
@click.argument("datasets", nargs=-1)
@click.option("--thorough", is_flag=True, help="Read every file, rather than see that it is there.")
@processes_option
@click.pass_context
def check_data(context: click.Context, datasets: tuple[str, ...], thorough: bool, processes: int) -> None:
    """Count what of DATASETS (all of them) is there, name what is missing, and say what can run.

    The exit code is 1 where something is missing or unreadable.
    """
    from clip2scene.check import check_data

    config = load_config(context.obj)
    for name in datasets:
        _config(context.obj, name)
    report, complete = check_data(config, datasets or tuple(config.datasets), thorough, processes)
    click.echo("\n".join(report))
    context.exit(0 if complete else 1)


@main.command()
@dataset_argument
@click.pass_obj
def index(path: str, dataset: str) -> None:
    """Index DATASET: a row a keyframe, so that no other stage reads the data set's own tables."""
    from clip2scene.datasets.index import build

    config = _config(path, dataset)
    build(config.datasets[dataset], layout.index(config, dataset))


@main.command()
@dataset_argument
@click.argument("rule")
@click.argument("percent", type=float)
@click.pass_obj
def subset(path: str, dataset: str, rule: str, percent: float) -> None:
    """Draw PERCENT of the labels of DATASET by RULE: scene_skip, frame_skip, or all."""
    from clip2scene.datasets.fractions import write

    config = _config(path, dataset)
    split = config.datasets[dataset].train_split
    out = layout.subset(config, dataset, rule, percent)
    write(layout.index(config, dataset), split, rule, percent, out)


@main.command()
@dataset_argument
@click.option(
    "--chunk", default="1-of-1", show_default=True, help="K-of-N: the K-th of N parts of the images."
)
@processes_option
@click.pass_obj
def superpixels(path: str, dataset: str, chunk: str, processes: int) -> None:
    """Cut the pre-training images of DATASET, or a chunk of them, into SLIC superpixels."""
    from clip2scene.pairing.superpixels import write_superpixels

    config = _config(path, dataset)
    out = layout.superpixel_chunk(config, dataset, chunk)
    split, parameters = config.datasets[dataset].pretrain_split, config.on(dataset).pretrain.superpixels
    write_superpixels(layout.index(config, dataset), split, parameters, out, chunk, processes)


@main.command("pack-superpixels")
@dataset_argument
@click.argument("chunks", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_obj
def pack_superpixels(path: str, dataset: str, chunks: tuple[Path, ...]) -> None:
    """Join the CHUNKS of DATASET's superpixels, files in their order, into the one that training reads."""
    from clip2scene.datasets.index import read_index
    from clip2scene.pairing.superpixels import pack_superpixels, split_images

    config = _config(path, dataset)
    split = config.datasets[dataset].pretrain_split
    images = split_images(read_index(layout.index(config, dataset)).split(split), split)
    pack_superpixels(chunks, images, layout.superpixels(config, dataset))


@main.command("text-embeddings")
@dataset_argument
@click.pass_obj
def text_embeddings(path: str, dataset: str) -> None:
    """Embed the class prompts of DATASET with the teacher."""
    from clip2scene.datasets.registry import get_dataset
    from clip2scene.models.prompts import write_text_embeddings

    config = _config(path, dataset)
    prompts = get_dataset(config.datasets[dataset].format).prompts
    write_text_embeddings(layout.teacher(config), prompts, layout.text(config, dataset))


@main.command()
@keys_argument
@manifest_option
@click.pass_obj
def run(path: str, keys: tuple[str, ...], manifest: Path | None) -> None:
    """Compute the runs of these KEYS, one after the other; finished ones are left as they are.

    `clip2scene runs` lists the keys. What a run starts from must be there.
    """
    from clip2scene.stages import compute

    workflow = _workflow(path, *keys)
    for key in keys:
        compute(workflow, key)
    if manifest:
        write_json(manifest, {key: sha256(layout.metrics(workflow.config, key)) for key in keys})


@main.command()
@click.pass_obj
def runs(path: str) -> None:
    """List every run that the table of experiments asks for, and whether it is there."""
    workflow = _workflow(path)
    for key, item in workflow.runs.items():
        state = "finished" if layout.metrics(workflow.config, key).exists() else "-"
        click.echo(f"{key}  {state:8}  {item.kind:15}  {item.title}")


@main.command("import-checkpoint")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--method", required=True, help="Registered method that trained it, e.g. slidr.")
@click.option("--recipe", default="", help="The method's recipe; CLIP2Scene's own code is `released`.")
@click.option("--backbone", required=True, help="Key of the configuration's backbones.")
@click.option("--dataset", required=True, help="Key of the configuration's datasets: what it was trained on.")
@click.pass_obj
def import_checkpoint(
    path: str, file: Path, out: Path, method: str, recipe: str, backbone: str, dataset: str
) -> None:
    """Make FILE, a 3D network as SLidR's or CLIP2Scene's code saves it, a pre-training checkpoint OUT.

    The configuration's key `checkpoints` gives OUT a name, and a row of the table of experiments with this
    name as its recipe starts from it.
    """
    from clip2scene.method.spec import method_spec
    from clip2scene.training import exchange

    config = _config(path, dataset)
    if backbone not in config.backbones:
        raise unknown(f"{path}: backbones", backbone, config.backbones)
    if recipe not in (recipes := method_spec(method).recipes):
        raise unknown(f"recipe of method {method}", recipe, recipes)
    parts, missing = exchange.import_checkpoint(config, file, out, method, recipe, backbone, dataset)
    click.echo(f"{out}: {len(parts.backbone)} tensors of {backbone}, {len(parts.heads)} of {method}'s heads")
    click.echo(f"not in {file}: {', '.join(missing) or 'none'}")
    click.echo(f"only in {file}, kept for export: {', '.join(parts.rest) or 'none'}")


@main.command("export-checkpoint")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def export_checkpoint(file: Path, out: Path) -> None:
    """Write FILE, a pre-training checkpoint, to OUT as SLidR's or (SPVCNN) CLIP2Scene's code saves it."""
    from clip2scene.training import exchange

    exchange.export_checkpoint(file, out)


@main.command("mlflow-store")
@click.pass_obj
def mlflow_store(path: str) -> None:
    """Make or migrate the MLflow store, before anything is sent to it."""
    from clip2scene.reporting.mlflow_sink import prepare_store

    prepare_store(load_config(path).tracking.uri)


@main.command()
@table_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.pass_obj
def mlflow(path: str, table: Table, out: Path) -> None:
    """Send the finished runs of TABLE to MLflow and write its run ids to OUT."""
    from clip2scene.reporting.mlflow_sink import send

    workflow = _workflow(path)
    write_json(out, send(workflow.config, list(workflow.tables[table].values())))


@main.command()
@table_argument
@click.pass_obj
def table(path: str, table: Table) -> None:
    """Write the result TABLE, main or cross_domain, from its finished runs."""
    workflow = _workflow(path)
    if table == "main":
        from clip2scene.reporting.tables import PUBLISHED, write_tables

        write_tables(workflow.config, workflow.name, PUBLISHED)
    else:
        from clip2scene.reporting.cross_domain import write_cross_domain

        write_cross_domain(workflow.config, workflow.name)


@main.command()
@click.pass_obj
def figures(path: str) -> None:
    """Draw scans, label-fraction curves and training curves of the main table's runs."""
    from clip2scene.reporting.figures import draw_figures

    workflow = _workflow(path)
    results, runs = workflow.config.results, list(workflow.tables["main"].values())
    draw_figures(workflow.config, runs, results / "table_main.csv", results / "figures")


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
def schema(out: Path) -> None:
    """Write the JSON schema of the configuration to OUT."""
    write_json(out, Config.model_json_schema())
