"""`clip2scene why`: what would be computed again, and because of what."""

from collections.abc import Iterator, Mapping
from typing import Any

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.record import Identity
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run, flat
from clip2scene.stages.base import get_stage
from clip2scene.study import Study


def why(study: Study, runs: Mapping[str, Run]) -> list[str]:
    """Return a line for every run that would be computed again, with its reason.

    Args:
        study: The study.
        runs: Runs by key, each after those it reads from.
    """
    again: dict[str, Run] = {}
    lines = []
    for key, run in runs.items():
        if reason := "; ".join(_reasons(study, run, again)):
            again[key] = run
            lines.append(f"{key}  {run.kind}: {run.title}: {reason}")
    return lines


def _reasons(study: Study, run: Run, again: Mapping[str, Run]) -> Iterator[str]:
    """Yield why a run would be computed again; nothing if it would not."""
    parents = {role: parent for role, parent in study.parents(run).items() if parent.key in again}
    folder = layout.run_folder(study.config, run)
    there = read_description(folder)
    if there is None:
        yield from _absent(study, run)
        return
    if there["status"] != "finished":
        yield "it was not finished"
        return
    if not finished(folder):
        missing = [name for name in there["files"] if not (folder / name).is_file()]
        yield f"{folder / missing[0]} is missing"
    outside = get_stage(run.kind).outside(study.configuration(run.variant), run)
    if outside and not outside.is_file():
        yield f"{outside} is missing"
    if parents:
        yield f"it reads {_listed(f'the {role} of {parent.key}' for role, parent in parents.items())}"
        yield from _different(there, study.partial_identity(run))
        return
    try:
        identity = study.identity(run)
    except InputError as error:
        yield str(error)
        return
    if identity.fingerprint != there["fingerprint"]:
        yield from _different(there, identity)
        if (layout.superseded(study.config, run) / identity.fingerprint[:12]).exists():
            yield "an earlier result has what is asked for now, and would come back"


def _absent(study: Study, run: Run) -> Iterator[str]:
    """Yield how a run that was never computed differs from the nearest one that was."""
    now = study.partial_identity(run).values()
    settings, row = flat(now["settings"]), _row(now)
    nearest: tuple[int, str, list[str]] | None = None
    for path in (study.config.results / "runs").glob("*/run.json"):
        there = read_description(path.parent)
        others = there and there.get("kind") == run.kind and there["key"] not in study.runs
        if others and _row(there) == row:
            differences = list(_changes("setting", flat(there["settings"]), settings))
            if nearest is None or len(differences) < nearest[0]:
                nearest = (len(differences), there["key"], differences)
    if nearest is None:
        yield "it was never computed"
    elif nearest[2]:
        yield f"it was never computed; run {nearest[1]} is there with another {_listed(nearest[2])}"
    else:
        yield f"it was never computed; run {nearest[1]} is there, of another seed or from other runs"


def _row(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run computes, whatever its seed."""
    return {name: value for name, value in description["fields"].items() if name != "seed"}


def _different(there: Mapping[str, Any], now: Identity) -> Iterator[str]:
    """Yield the differences between a run's record and what it would be computed from now."""
    values = now.values()
    if changed := sorted(_differing(there["code"], values["code"])):
        yield f"code has changed: {_listed(changed)}"
    yield from _changes("setting", flat(there["settings"]), flat(values["settings"]))
    if changed := sorted(_differing(there["reads"], values["reads"])):
        yield f"what it reads has changed: {_listed(changed)}"
    if there["survey"] != values["survey"]:
        yield "files were added to the data set, removed, or changed in size"


def _changes(what: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(_differing(there, now)):
        yield f"{what} {name} ({there.get(name, 'none')} → {now.get(name, 'none')})"


def _differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    return {name for name in there.keys() | now.keys() if there.get(name) != now.get(name)}


def _listed(names: Any, most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
