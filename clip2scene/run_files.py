"""Reading what a run left behind, checked; see `clip2scene.record`. Imports no torch."""

import json
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import held, read_json, read_object, read_text, sha256
from clip2scene.runs import Run


def _iso(value: str) -> str:
    """Refuse a text that is no time."""
    datetime.fromisoformat(value)
    return value


Time = Annotated[str, AfterValidator(_iso)]
_TIME = "a time such as 2026-01-31T12:00:00+00:00"


class Started(BaseModel):
    """The entries of ``run.json`` that readers rely on, of a run that was started."""

    model_config = ConfigDict(strict=True)

    status: Literal["running", "finished"] = Field(description="running or finished")
    fingerprint: str = Field(description="a hash")
    code: dict[str, str] = Field(default={}, description="hashes by module")
    reads: dict[str, str] = Field(default={}, description="digests by role")
    started: Time | None = Field(default=None, description=_TIME)
    ended: Time | None = Field(default=None, description=_TIME)


class Finished(Started):
    """The entries of ``run.json`` that readers rely on, of a run that is finished."""

    kind: str = Field(description="a stage")
    device: str = Field(description="a device")
    fields: dict[str, Any] = Field(description="an object")
    settings: dict[str, Any] = Field(description="an object")
    files: dict[str, str] = Field(description="hashes by name")
    products: dict[str, str] = Field(description="digests by name")
    started: Time = Field(description=_TIME)


def read_description(folder: Path) -> dict[str, Any] | None:
    """Return a run's ``run.json``; None if the run was never started.

    Raises:
        InputError: the file is damaged, or is another run's.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    values = read_json(path)
    if not isinstance(values, dict) or not {"key", "status", "fingerprint"} <= values.keys():
        raise InputError(f"{path}: expected the keys key, status and fingerprint; remove the folder {folder}")
    if values["key"] != folder.name:
        raise InputError(f"{path}: describes run {values['key']}; expected {folder.name}")
    model = Finished if values["status"] == "finished" else Started
    try:
        model.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        field = str(item["loc"][0])
        found = f"{values[field]!r:.60}" if field in values else "nothing"
        raise InputError(
            f"{path}: {field}: found {found}; expected {model.model_fields[field].description} (remove the "
            f"folder {folder}, and the run starts again)"
        ) from None
    return values


def state(config: Config, run: Run) -> str:
    """Return how far a run is.

    Returns:
        ``finished``; ``running``, if a process is at it; ``stopped``, if it was killed or ended in an error,
        and goes on when it is computed again; ``-``, if it was never started.
    """
    there = read_description(layout.run_folder(config, run))
    if there is None or there["status"] == "finished":
        return there["status"] if there else "-"
    lock = layout.lock(config, run)
    parts = lock.parent.glob(f"{lock.stem}-*.lock")
    return "running" if any(map(held, [lock, *parts])) else "stopped"


def finished(folder: Path, fingerprint: str | None = None) -> bool:
    """Say whether a folder holds a finished run, of this fingerprint if one is given, with all its files."""
    values = read_description(folder)
    return (
        values is not None
        and values["status"] == "finished"
        and fingerprint in (None, values["fingerprint"])
        and all((folder / name).is_file() for name in values["files"])
    )


def refuse_missing(folder: Path, pattern: str) -> None:
    """Raise an InputError if a file of this pattern that ``run.json`` lists is gone.

    Whoever shows what a run left, and takes the files that are there, would leave it out in silence.
    """
    for name in (read_description(folder) or {}).get("files", {}):
        if fnmatch(name, pattern) and not (folder / name).is_file():
            raise InputError(
                f"{folder / name}: no such file, though run.json lists it; expected what the run wrote"
            )


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the logged steps of a run.

    A last line without its end is left out: the process was killed while it wrote it.

    Args:
        path: ``metrics.jsonl``.

    Returns:
        Numbers by name, of each step; one of them is ``step``.

    Raises:
        InputError: the file is missing, damaged, or holds no step.
    """
    *lines, _ = read_text(path, "a line of JSON a logged step").split("\n")
    steps = []
    for number, line in enumerate(lines, start=1):
        try:
            step = json.loads(line)
        except (ValueError, RecursionError):
            step = None
        if not isinstance(step, dict) or "step" not in step or not all(map(_is_number, step.values())):
            raise InputError(f"{path}: line {number}: found {line[:40]!r}; expected numbers, one named step")
        steps.append(step)
    if not steps:
        raise InputError(f"{path}: holds no logged step; expected a line of JSON a logged step")
    return steps


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read a run's ``metrics.json``.

    Raises:
        InputError: the file is missing, damaged or another run's.
    """
    path = folder / "metrics.json"
    values = read_object(path)
    if values.get("key") != folder.name:
        raise InputError(f"{path}: key is {values.get('key')!r}; expected {folder.name!r}")
    return values


def refuse_changed(path: Path) -> None:
    """Raise an InputError if a file in a finished run's folder is not the one that the run wrote.

    Files that lie elsewhere, such as imported checkpoints, pass.
    """
    if not (path.parent / "run.json").is_file():
        return
    there = read_description(path.parent)
    if there["status"] == "finished" and sha256(path) != there["files"].get(path.name):
        raise InputError(
            f"{path}: its SHA-256 is not the one in run.json; the run did not write this file (remove the "
            f"folder {path.parent}, and the run starts again)"
        )
