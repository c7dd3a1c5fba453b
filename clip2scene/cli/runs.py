"""Commands on runs: compute, list, explain, delete."""

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from clip2scene import layout
from clip2scene.cli.base import examples, json_option, processes_option, select, study_of
from clip2scene.cli.completion import completing, stages, tables
from clip2scene.cli.completion import runs as run_names
from clip2scene.errors import InputError, unknown
from clip2scene.run_files import state
from clip2scene.runs import Run
from clip2scene.stages.base import get_stage, stage_names
from clip2scene.study import Study

_complete = completing(run_names, stages, tables)
FILTERED = ("stage", "status", *(field.name for field in fields(Run) if field.name != "kind"))
"""Names that `runs --filter` knows: the fields of a run, its stage, and whether it is there."""


@click.command(
    epilog=examples(
        "clip2scene run main --parents",
        "clip2scene run 1f2e3d4c5b6a",
        "clip2scene run superpixels --part 3-of-100 --processes 8",
    )
)
@click.argument("names", nargs=-1, required=True, shell_complete=_complete)
@click.option("--receipt", type=click.Path(path_type=Path), help="Write here which runs are finished.")
@click.option("--parents", is_flag=True, help="Compute the runs that they read from first.")
@click.option("--part", default="", help="K-of-N: compute only the K-th of N parts of the run.")
@processes_option
@click.pass_obj
def run(
    path: str, names: tuple[str, ...], receipt: Path | None, parents: bool, part: str, processes: int
) -> None:
    """Compute runs, one after the other, and print their scores; finished ones are left as they are.

    NAMES are keys or names of runs, stages or tables. `clip2scene runs` lists the keys. A run that was
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
    elif not part:
        click.echo("\n".join(line for item in chosen for line in _scores(study, item)))


def _scores(study: Study, run: Run) -> Iterable[str]:
    """Yield a finished run in words, with its scores or those of its network; else which runs read it."""
    from clip2scene.publish.scores import scores_of, scores_of_network

    folder = layout.run_folder(study.config, run)
    yield f"{folder}: {run.kind}, {run.title}"
    predicts = (folder / "confusion.npz").is_file()
    found = scores_of(study, run) if predicts else scores_of_network(study, run)
    for score in found:
        interval = f"95 % interval {score.miou.low:.1f} to {score.miou.high:.1f} over {score.unit}s"
        where = "" if predicts else f", run {score.run.key}"
        yield f"  mIoU {score.miou.value:.1f} %, {interval}, {score.points} points{where}"
    if predicts:
        classes = ((name, iou.value) for name, iou in found[0].classes.items() if iou.value == iou.value)
        yield "  IoU: " + ", ".join(f"{name} {value:.1f}" for name, value in classes)
    elif not found:
        parents = {
            item.key: [parent.key for parent in study.parents(item).values()] for item in study.runs.values()
        }
        readers = [key for key, read in parents.items() if run.key in read]
        if readers:
            yield f"  read by {', '.join(readers)}; `clip2scene run KEY` computes one"


def _check_part(part: str, chosen: list[Run]) -> None:
    """Refuse what is no part of a run, and a run that has no parts."""
    numbers = re.fullmatch(r"([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})", part)
    if numbers is None or int(numbers[1]) > int(numbers[2]):
        raise InputError(f"--part: found {part!r}, expected K-of-N, K at most N, e.g. 1-of-100")
    for item in chosen:
        if not get_stage(item.kind).parts:
            raise InputError(f"--part: {item.key} is a run of the stage {item.kind}, which has no parts")


@click.command(
    epilog=examples(
        "clip2scene runs",
        "clip2scene runs --stage finetune --filter 'method=ppkt,slidr target=nuscenes'",
        "clip2scene runs --filter status=finished --json",
    )
)
@click.option(
    "--stage",
    help="List runs of this stage only.",
    shell_complete=lambda context, parameter, typed: [s for s in stage_names() if s.startswith(typed)],
)
@click.option(
    "--filter",
    "conditions",
    multiple=True,
    metavar="FIELD=VALUE...",
    help="List runs only whose fields have these values; a comma stands between values that will do.",
)
@json_option
@click.pass_obj
def runs(path: str, stage: str | None, conditions: tuple[str, ...], as_json: bool) -> None:
    """List every run that the table of experiments asks for, and whether it is there.

    A line has the key, `finished`, `running`, `stopped` or `-` (never started), the stage, and the run in
    words. Fields for --filter are stage, status, method, recipe, variant, backbone, pretrain (data set of
    pre-training), target (data set), percent, rule, pretrain_seed, seed, protocol and prompts.
    """
    study = study_of(path)
    if stage is not None and stage not in stage_names():
        raise unknown("--stage", stage, stage_names())
    wanted = _conditions(conditions) | ({"stage": {stage}} if stage else {})
    listed = []
    for item in study.runs.values():
        values = _fields(item) | {"status": state(study.config, item)}
        if all(_text(values[name]) in accepted for name, accepted in wanted.items()):
            listed.append(values | {"name": item.name, "title": item.title})
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for values in listed:
        click.echo(f"{values['key']}  {values['status']:8}  {values['stage']:15}  {values['title']}")


def _fields(run: Run) -> dict[str, Any]:
    values = {field.name: getattr(run, field.name) for field in fields(Run)}
    return {"stage": values.pop("kind"), **values}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _conditions(texts: Iterable[str]) -> dict[str, set[str]]:
    """Return the values that will do, by field.

    Raises:
        InputError: a condition is not FIELD=VALUE, or names no field.
    """
    found: dict[str, set[str]] = {}
    for text in " ".join(texts).split():
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--filter: found {text!r}; expected FIELD=VALUE, e.g. method=ppkt")
        if name not in FILTERED:
            raise unknown("--filter", name, FILTERED)
        found[name] = set(values.split(","))
    return found


@click.command(epilog=examples("clip2scene why main", "clip2scene why --json"))
@click.argument("names", nargs=-1, shell_complete=_complete)
@json_option
@click.pass_obj
def why(path: str, names: tuple[str, ...], as_json: bool) -> None:
    """Say what would be computed again, and because of what: which file, setting or input.

    NAMES are keys or names of runs, stages or tables; everything if none is given. Prints "nothing" if all of
    it is there.
    """
    from clip2scene.why import why as explain

    study = study_of(path)
    chosen = study.with_parents(select(study, names)) if names else list(study.runs.values())
    lines = explain(study, {item.key: item for item in chosen})
    click.echo(json.dumps(lines, indent=2) if as_json else "\n".join(lines) or "nothing")


@click.command(epilog=examples("clip2scene clean", "clip2scene clean --yes"))
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
