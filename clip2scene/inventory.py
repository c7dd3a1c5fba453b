"""Inventory of a data set: its files, counted against those that its index names and those it must hold."""

import os
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.index import Index
from clip2scene.datasets.parts import file_of
from clip2scene.errors import InputError
from clip2scene.files import first_line
from clip2scene.machine import worker_pool
from clip2scene.pairing.images import read_depth, read_image

COLUMNS = {
    "points": "points", "labels": "labels", "images": "camera_images", "sweeps": "sweep_points",
    "depth": "depth_images",
}  # fmt: skip
"""Kinds of files, and the column of the index that names them; depth only where cameras measure it."""
_SIZES = {"images": "camera_sizes", "depth": "depth_sizes"}


@dataclass(frozen=True)
class Holding:
    """Holding of a split in one kind: keyframes, points, labels, images or sweeps.

    Attributes:
        expected: Number that must be there; a file that several keyframes name counts once.
        problems: A line for each one that is missing or unreadable; of keyframes, one line for all.
        lacking: Number that is missing or unreadable.
    """

    expected: int
    problems: tuple[str, ...] = ()
    lacking: int = 0


def take_inventory(
    dataset: Dataset,
    index: Index,
    splits: Collection[str],
    keyframes: dict[str, int],
    thorough: bool = False,
    processes: int = 1,
) -> dict[str, dict[str, Holding]]:
    """Count the keyframes and files of some splits.

    A file is there if its folder lists it. Where `thorough`, every file is read too, and is a problem if it
    is damaged, or if it does not hold one label for each point.

    Args:
        dataset: Says what a keyframe has, and reads its files.
        index: Names the files.
        splits: Splits to count.
        keyframes: Number of keyframes that a split must hold, where that is known.
        thorough: Read every file.
        processes: Number of processes that read.

    Returns:
        Holdings by split and kind.
    """
    parts = {split: _split(index, split) for split in splits}
    measured = index.frames["depth_images"].map(len).any()
    kinds = [kind for kind in COLUMNS if kind != "depth" or measured]
    names = pd.concat([_names(index.frames, kind) for kind in kinds])
    names = names[names["keyframe"].isin({row for part in parts.values() for row in part.index})]
    files = names.drop_duplicates("path")
    problems = _absent(index.root, files["path"])
    if thorough:
        problems |= _damaged(dataset, index, files[~files["path"].isin(problems)], processes)
    inventory = {}
    for split, part in parts.items():
        known = max(keyframes.get(split, 1), len(part))
        fewer = f"split {split}: {len(part)} keyframes, expected {known}"
        lacking = known - len(part)
        inventory[split] = {"keyframes": Holding(known, (fewer,) if lacking else (), lacking)}
        mine = names[names["keyframe"].isin(part.index)]
        for kind in kinds:
            named = mine[mine["kind"] == kind]
            unnamed = tuple(_unnamed(dataset, part, split, kind, named["keyframe"]))
            paths = named["path"].unique()
            found = tuple(problems[path] for path in paths if path in problems)
            holding = Holding(len(paths) + len(unnamed), unnamed + found, len(unnamed + found))
            inventory[split][kind] = holding
    return inventory


def _split(index: Index, split: str) -> pd.DataFrame:
    """Return the rows of a split; there may be none."""
    try:
        return index.split(split).frames
    except InputError:
        return index.frames.iloc[:0]


def _names(frames: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return every file of a kind that an index names: keyframe (row of the index), kind, path."""
    paths = frames[COLUMNS[kind]].explode().dropna()
    names = pd.DataFrame({"keyframe": paths.index, "kind": kind, "path": paths.to_numpy(object)})
    sizes: list[tuple[int, int] | None] = [None] * len(names)
    if kind in _SIZES and len(names):
        pixels = np.concatenate([np.asarray(size, np.int64) for size in frames[_SIZES[kind]]])
        sizes = [(height, width) for height, width in pixels.reshape(-1, 2).tolist()]
    return names.assign(size=sizes)


def _unnamed(dataset: Dataset, part: pd.DataFrame, split: str, kind: str, named: pd.Series) -> Iterator[str]:
    """Yield a line for each file that a keyframe should have and the index does not name."""
    labels = 0 if split in dataset.unlabelled else 1
    each = {"points": 1, "labels": labels, "images": dataset.images_each, "sweeps": 0, "depth": 0}[kind]
    lacking = each - named.value_counts().reindex(part.index, fill_value=0)
    for row, count in lacking[lacking > 0].items():
        yield from [f"keyframe {part['id'][row]}: has {each - count} of {each} {kind}"] * count


def _absent(root: Path, paths: pd.Series) -> dict[str, str]:
    """Return a line for each file that is not there; a folder is listed once."""
    folders: dict[str, frozenset[str]] = {}
    problems = {}
    for path in tqdm(paths, "files looked up", unit="file"):
        file = file_of(path)  # a part of a file is there if the file is
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            folders[folder] = _listed(root / folder)
        if name not in folders[folder]:
            problems[path] = f"{root / file}: no such file"
    return problems


def _listed(folder: Path) -> frozenset[str]:
    """Return the names of the files in a folder; a link counts as what it leads to, and may lead nowhere."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if _is_file(entry))
    except OSError:
        return frozenset()


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


def _damaged(dataset: Dataset, index: Index, files: pd.DataFrame, processes: int) -> dict[str, str]:
    """Return the complaint about each file that cannot be read."""
    points = index.frames["points"].reindex(files["keyframe"])
    tasks = list(zip(files["kind"], files["path"], points, files["size"], strict=True))
    pool = worker_pool(processes) if processes > 1 else None
    with pool or nullcontext():
        read = partial(_read, dataset, index.root)
        complaints = pool.map(read, tasks, chunksize=64) if pool else map(read, tasks)
        bar = tqdm(complaints, "files read", len(tasks), unit="file")
        return {task[1]: text for task, text in zip(tasks, bar, strict=True) if text}


def _read(dataset: Dataset, root: Path, task: tuple[str, str, str, tuple[int, int] | None]) -> str | None:
    """Read one file (kind, path, the keyframe's points, size of the image); return a complaint, if any."""
    kind, path, points, size = task
    try:
        if kind == "images":
            read_image(root / path, expected=size)
        elif kind == "depth":
            read_depth(root / path, size)
        elif kind == "labels":
            labels, cloud = dataset.read_labels(root / path), dataset.read_points(root / points)[0]
            if len(labels) != len(cloud):
                return f"{root / path}: {len(labels)} labels; expected {len(cloud)}, one for each point"
        else:
            dataset.read_points(root / path)
    except InputError as error:
        return str(error)
    except Exception as error:  # of a data set from elsewhere: the other files are still to be read
        return f"{root / path}: cannot be read ({type(error).__name__}: {first_line(error)})"
    return None
