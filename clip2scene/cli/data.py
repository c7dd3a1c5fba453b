"""Commands that prepare a data set."""

import click

from clip2scene.cli.base import data_set, examples, processes_option, study_of
from clip2scene.cli.completion import completing, dataset_argument, datasets
from clip2scene.compute import compute
from clip2scene.datasets.rules import RULES, SMALLEST, id_file, skip_of
from clip2scene.errors import InputError, unknown
from clip2scene.method.spec import method_names, method_spec
from clip2scene.runs import Run


@click.command(
    epilog=examples("clip2scene synthesize nuscenes", "clip2scene synthesize scannet --processes 4")
)
@dataset_argument
@processes_option
@click.pass_obj
def synthesize(path: str, dataset: str, processes: int) -> None:
    """Make a synthetic DATASET, in the on-disk format of the real one.

    It lies in a folder of its own below the data root, named after its parameters and its writer, and never
    takes the place of anything.
    """
    study = data_set(path, dataset)
    section = study.config.datasets[dataset]
    if section.synthetic is None:
        raise InputError(
            f"{path}: datasets.{dataset}: has no section `synthetic`; it is read from {section.root}"
        )
    compute(study, study.keyed(Run("synthetic", target=dataset, seed=study.config.seed)), processes)
    click.echo(study.configuration().datasets[dataset].root)


@click.command(
    "check-data",
    epilog=examples(
        "clip2scene --config config/paper.yaml check-data",
        "clip2scene --config config/paper.yaml check-data nuscenes --thorough --processes 8",
    ),
)
@click.argument("datasets", nargs=-1, shell_complete=completing(datasets))
@click.option("--thorough", is_flag=True, help="Read every file, rather than see that it is there.")
@processes_option
@click.pass_context
def check_data(context: click.Context, datasets: tuple[str, ...], thorough: bool, processes: int) -> None:
    """Count what of DATASETS (all of them) is there, name what is missing, and say what can run.

    The exit code is 1 where something is missing or unreadable.
    """
    from clip2scene.check import check_data as check

    study = study_of(context.obj)
    for name in datasets:
        data_set(context.obj, name)
    report, complete = check(study, datasets or tuple(study.config.datasets), thorough, processes)
    click.echo("\n".join(report))
    context.exit(0 if complete else 1)


@click.command(epilog=examples("clip2scene index nuscenes"))
@dataset_argument
@click.pass_obj
def index(path: str, dataset: str) -> None:
    """Index DATASET: a row for each keyframe, so that no other stage reads the data set's own tables."""
    study = data_set(path, dataset)
    compute(study, study.keyed(Run("index", target=dataset)))
    click.echo(study.index(dataset))


@click.command(
    epilog=examples("clip2scene subset nuscenes frame_skip 1", "clip2scene subset scannet file:ids.txt 20")
)
@dataset_argument
@click.argument("rule")
@click.argument("percent")
@click.pass_obj
def subset(path: str, dataset: str, rule: str, percent: str) -> None:
    """Draw PERCENT of the labels of DATASET by RULE: scene_skip, frame_skip, file:<path>, or all."""
    study = data_set(path, dataset)
    share = _share(rule, percent)
    run = study.keyed(Run("subset", target=dataset, percent=share, rule="" if rule == "all" else rule))
    compute(study, run)
    click.echo(study.config.results / "runs" / run.key / "subset.json")


def _share(rule: str, percent: str) -> float:
    """Return the share of the labels, percent, if `rule` can draw it."""
    try:
        share = float(percent)
    except ValueError:
        raise InputError(f"percent: found {percent!r}, expected a number from {SMALLEST} to 100") from None
    if not SMALLEST <= share <= 100:
        raise InputError(f"percent: found {percent}, expected a number from {SMALLEST} to 100")
    if rule == "all" and share != 100:
        raise InputError(f"percent: found {percent}, expected 100 with the rule all")
    if rule in RULES:
        skip_of(share, rule)
    elif rule != "all" and id_file(rule) is None:
        raise unknown("rule", rule, ["all", *RULES, "file:<path>"])
    return share


@click.command(epilog=examples("clip2scene superpixels nuscenes --processes 4"))
@dataset_argument
@click.option("--method", default="slidr", show_default=True, help="Method with SLIC's parameters.")
@processes_option
@click.pass_obj
def superpixels(path: str, dataset: str, method: str, processes: int) -> None:
    """Segment the pre-training images of DATASET into SLIC superpixels."""
    study = data_set(path, dataset)
    users = [name for name in method_names() if "superpixels" in method_spec(name).needs]
    if method not in users:
        raise unknown("method that needs superpixels", method, users)
    compute(study, study.keyed(Run("superpixels", method=method, target=dataset)), processes)


@click.command("text-embeddings", epilog=examples("clip2scene text-embeddings nuscenes"))
@dataset_argument
@click.pass_obj
def text_embeddings(path: str, dataset: str) -> None:
    """Embed the class prompts of DATASET with the teacher."""
    study = data_set(path, dataset)
    compute(study, study.keyed(Run("text", target=dataset)))
