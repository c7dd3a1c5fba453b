"""`clip2scene clean`: the only place that deletes results, after it has said what."""

import shutil
from pathlib import Path

from clip2scene.record import read_description
from clip2scene.runs import KEY_LENGTH
from clip2scene.study import Study


def removable(study: Study, everything: bool) -> dict[Path, str]:
    """Return the folders of a results folder that may be deleted, each with what it is.

    Args:
        study: The study; its runs stay.
        everything: List the study's own runs too.
    """
    results = study.config.results
    found = {path: "superseded result" for path in sorted(results.glob("superseded/*/*")) if path.is_dir()}
    for path in sorted(results.glob("runs/*")):
        if not path.is_dir() or len(path.name) != KEY_LENGTH:
            continue
        there = read_description(path)
        if there and (everything or path.name not in study.runs):
            words = " ".join(str(value) for value in there["fields"].values())
            found[path] = f"{there['kind']}: {words}"
    return found


def size(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file() and not item.is_symlink())


def remove(path: Path) -> None:
    """Delete one of the folders that `removable` listed."""
    shutil.rmtree(path)
