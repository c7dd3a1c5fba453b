"""`clip2scene clean`: the only place that deletes results, after it has said what."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from clip2scene import layout
from clip2scene.files import locked
from clip2scene.run_files import read_description
from clip2scene.runs import KEY_LENGTH
from clip2scene.study import Study


def removable(study: Study, everything: bool) -> dict[Path, str]:
    """Return the folders of a results folder that may be deleted, each with what it is.

    Args:
        study: The study; its runs stay.
        everything: List the study's own runs too.
    """
    results = study.config.results
    found = dict.fromkeys(_folders(results, "superseded/*/*"), "superseded result")
    for path in _folders(results, "runs/*"):
        if len(path.name) != KEY_LENGTH:
            continue
        there = read_description(path)
        if there and (everything or path.name not in study.runs):
            words = " ".join(str(value) for name, value in there["fields"].items() if name != "kind")
            found[path] = f"{there['kind']}: {words}"
    return found


def _folders(results: Path, pattern: str) -> list[Path]:
    """Return the folders that match a pattern; what a link leads to is not ours to delete."""
    return [path for path in sorted(results.glob(pattern)) if path.is_dir() and not path.is_symlink()]


def size(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file() and not item.is_symlink())


def remove(study: Study, paths: Iterable[Path], everything: bool) -> None:
    """Delete folders that `removable` listed, once no workflow works on the results folder.

    A run that another process computes by hand is waited for. What has come back meanwhile stays.
    """
    with locked(layout.lock(study.config, "workflow"), f"workflow on {study.config.results}"):
        still = removable(study, everything)
        for path in (path for path in paths if path in still):
            key = path.name if path.parent.name == "runs" else path.parent.name
            with locked(layout.lock(study.config, key), f"run {key}"):
                shutil.rmtree(path)
