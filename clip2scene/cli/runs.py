"""Commands on runs: compute, list, explain, delete."""

import re
from pathlib import Path

import click

from clip2scene import layout
from clip2scene.cli.base import processes_option, select, study_of
from clip2scene.errors import InputError, unknown
from clip2scene.run_files import read_description
from clip2scene.runs import Run
from clip2scene.stages.base import get_stage, stage_names

names_argument = click.argument("names", nargs=-1)


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--receipt", type=click.Path(path_type=Path), help="Write here which runs are finished.")
@click.option("--parents", is_flag=True, help="Compute the runs that they read from first.")
@click.option("--part", default="", help="K-of-N: compute only the K-th of N parts of the run.")
@processes_option
@click.pass_obj
def run(
    path: str, names: tuple[str, ...], receipt: Path | None, parents: bool, part: str, processes: int
) -> None:
    """Compute runs, one after the other; finished ones are left as they are.

    NAMES are keys of runs, or names of stages or tables. `clip2scene runs` lists the keys. A run that was
    superseded comes back if it is what is asked for now.
    """
    from clip2scene.compute import compute, write_receipt

    study = study_of(path)
    chosen = select(study, names)
    if part:
        _check_part(part, chosen)
    for item in study.with_parents(chosen) if parents else chosen:
        compute(study, item, processes, part)
    if receipt:
        write_receipt(study, () if part else tuple(item.key for item in chosen), receipt)


def _check_part(part: str, chosen: list[Run]) -> None:
    """Refuse what is no part of a run, and a run that has no parts."""
    numbers = re.fullmatch(r"([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})", part)
    if numbers is None or int(numbers[1]) > int(numbers[2]):
        raise InputError(f"--part: found {part!r}, expected K-of-N, K at most N, e.g. 1-of-100")
    for item in chosen:
        if not get_stage(item.kind).parts:
            raise InputError(f"--part: {item.key} is a run of the stage {item.kind}, which has no parts")


@click.command()
@click.option("--stage", help="List runs of this stage only.")
@click.pass_obj
def runs(path: str, stage: str | None) -> None:
    """List every run that the table of experiments asks for, and whether it is there."""
    study = study_of(path)
    if stage is not None and stage not in stage_names():
        raise unknown("--stage", stage, stage_names())
    for key, item in study.runs.items():
        if stage in (None, item.kind):
            there = read_description(layout.run_folder(study.config, item))
            state = there["status"] if there else "-"
            click.echo(f"{key}  {state:8}  {item.kind:15}  {item.title}")


@click.command()
@names_argument
@click.pass_obj
def why(path: str, names: tuple[str, ...]) -> None:
    """Say what would be computed again, and because of what: which file, setting or input.

    NAMES are keys of runs, or names of stages or tables; everything if none is given. Prints "nothing" if
    all of it is there.
    """
    from clip2scene.why import why as explain

    study = study_of(path)
    chosen = study.with_parents(select(study, names)) if names else list(study.runs.values())
    click.echo("\n".join(explain(study, {item.key: item for item in chosen})) or "nothing")


@click.command()
@click.option("--all", "everything", is_flag=True, help="Delete the runs of this study too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def clean(path: str, everything: bool, yes: bool) -> None:
    """Delete superseded results, and runs that the table of experiments does not ask for.

    Lists what would be deleted, with sizes, and asks. No other command deletes results.
    """
    from clip2scene.clean import removable, remove, size

    study = study_of(path)
    found = removable(study, everything)
    total = 0
    for folder, words in found.items():
        total += (bytes_ := size(folder))
        click.echo(f"{bytes_ / 2**20:10.1f} MiB  {folder}  {words}")
    if not found:
        click.echo(f"{study.config.results}: nothing to delete")
        return
    click.echo(f"{total / 2**20:10.1f} MiB in {len(found)} folders")
    if yes or click.confirm("Delete them?"):
        remove(study, found, everything)
