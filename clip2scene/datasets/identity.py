"""Digests that say which data a split or a label subset holds: what they are, never where they lie.

A keyframe has a digest for each of four kinds of data, so that what changes re-trains only what reads it: new
labels leave pre-training as it is, and new sequences leave the subset that was drawn before. A file counts by
its relative path and its size; a file of a synthetic data set by its content, which the marker holds.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clip2scene.datasets.parts import file_of
from clip2scene.errors import InputError
from clip2scene.files import read_json

MARKER = "synthetic.json"
"""File in the root of a synthetic data set: the parameters it was made from and the hash of every file."""
KINDS: dict[str, tuple[str, ...]] = {
    "points": ("points",),
    "labels": ("labels",),
    "images": (
        "camera_names", "camera_images", "camera_sizes", "camera_intrinsics", "camera_poses", "depth_images",
        "depth_sizes", "depth_intrinsics",
    ),
    "sweeps": ("sweep_points", "sweep_poses"),
}  # fmt: skip
"""Columns of an index by the kind of data that they describe; the id of a keyframe belongs to each."""
_PATHS = frozenset({"points", "labels", "camera_images", "depth_images", "sweep_points"})


def keyframe_digests(frames: pd.DataFrame, root: Path) -> list[list[str]]:
    """Return a digest for every keyframe and kind.

    Args:
        frames: Rows of an index.
        root: Data root, where sizes are looked up. A file that is missing has none; whoever reads it says so.

    Returns:
        For each row the digests of `KINDS`, 16 hexadecimal digits each, in this order.
    """
    signatures = _Signatures(root)
    columns = {name: frames[name].tolist() for names in KINDS.values() for name in names}
    return [
        [
            _digest([identifier, *(_described(name, columns[name][row], signatures) for name in names)])
            for names in KINDS.values()
        ]
        for row, identifier in enumerate(frames["id"])
    ]


def split_digests(identity: Iterable[Iterable[str]]) -> dict[str, str]:
    """Return a digest by kind over keyframes in their order.

    Args:
        identity: Digests of each keyframe, as `keyframe_digests` gives them.
    """
    rows = [list(row) for row in identity]
    return {kind: _digest([row[number] for row in rows]) for number, kind in enumerate(KINDS)}


class _Signatures:
    """Sizes of files, looked up folder by folder, or the hashes that a synthetic data set's marker holds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        marker = root / MARKER
        self._hashes: dict[str, str] = _hashes(marker) if marker.is_file() else {}
        self._folders: dict[Path, dict[str, int]] = {}

    def __getitem__(self, path: str) -> str | int | None:
        file = file_of(path)
        if file in self._hashes:
            return self._hashes[file]
        folder = (self._root / file).parent
        if folder not in self._folders:
            try:
                items = folder.iterdir() if folder.is_dir() else ()
                self._folders[folder] = {item.name: item.stat().st_size for item in items if item.is_file()}
            except OSError:  # whoever reads its files says that they cannot be read
                self._folders[folder] = {}
        return self._folders[folder].get(Path(file).name)


def _hashes(marker: Path) -> dict[str, str]:
    """Return the hash of every file of a synthetic data set.

    Raises:
        InputError: the marker is damaged.
    """
    values = read_json(marker)
    files = values.get("files") if isinstance(values, dict) else None
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise InputError(f"{marker}: holds no hashes of files; expected a mapping under the key files")
    return files


def _described(name: str, value: Any, signatures: _Signatures) -> Any:
    """Return a value of an index as JSON values; paths with the signature of their files."""
    if isinstance(value, str):
        return [value, signatures[value]] if name in _PATHS else value
    if isinstance(value, int | float | np.number):
        return None if value != value else float(value)
    return None if value is None else [_described(name, item, signatures) for item in value]


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
