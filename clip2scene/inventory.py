"""Inventory of a data set: its files, counted against those that its index names and those it must hold."""

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.index import Index
from clip2scene.datasets.parts import file_of
from clip2scene.errors import InputError
from clip2scene.machine import worker_pool
from clip2scene.pairing.images import read_image

COLUMNS = {"points": "points", "labels": "labels", "images": "camera_images", "sweeps": "sweep_points"}
"""Kinds of files, and the column of the index that names them."""


@dataclass(frozen=True)
class Holding:
    """Holding of a split in one kind: keyframes, points, labels, images or sweeps.

    Attributes:
        expected: Number that must be there; a file that several keyframes name counts once.
        problems: A line for each one that is missing or unreadable.
    """

    expected: int
    problems: tuple[str, ...] = ()


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
    names = pd.concat([_names(index.frames, kind) for kind in COLUMNS])
    names = names[names["keyframe"].isin({row for part in parts.values() for row in part.index})]
    files = names.drop_duplicates("path")
    problems = _absent(index.root, files["path"])
    if thorough:
        problems |= _damaged(dataset, index, files[~files["path"].isin(problems)], processes)
    inventory = {}
    for split, part in parts.items():
        known = max(keyframes.get(split, 1), len(part))
        fewer = f"split {split}: {len(part)} keyframes, expected {known}"
        inventory[split] = {"keyframes": Holding(known, (fewer,) * (known - len(part)))}
        mine = names[names["keyframe"].isin(part.index)]
        for kind in COLUMNS:
            named = mine[mine["kind"] == kind]
            unnamed = tuple(_unnamed(dataset, part, split, kind, named["keyframe"]))
            paths = named["path"].unique()
            found = tuple(problems[path] for path in paths if path in problems)
            inventory[split][kind] = Holding(len(paths) + len(unnamed), unnamed + found)
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
    return pd.DataFrame({"keyframe": paths.index, "kind": kind, "path": paths.to_numpy(object)})


def _unnamed(dataset: Dataset, part: pd.DataFrame, split: str, kind: str, named: pd.Series) -> Iterator[str]:
    """Yield a line for each file that a keyframe should have and the index does not name."""
    labels = 0 if split in dataset.unlabelled else 1
    each = {"points": 1, "labels": labels, "images": dataset.images_each, "sweeps": 0}[kind]
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
            listed = (root / folder).iterdir() if (root / folder).is_dir() else ()
            folders[folder] = frozenset(item.name for item in listed)
        if name not in folders[folder]:
            problems[path] = f"{root / file}: no such file"
    return problems


def _damaged(dataset: Dataset, index: Index, files: pd.DataFrame, processes: int) -> dict[str, str]:
    """Return the complaint about each file that cannot be read."""
    points = index.frames["points"].reindex(files["keyframe"])
    tasks = list(zip(files["kind"], files["path"], points, strict=True))
    pool = worker_pool(processes) if processes > 1 else None
    with pool or nullcontext():
        read = partial(_read, dataset, index.root)
        complaints = pool.map(read, tasks, chunksize=64) if pool else map(read, tasks)
        bar = tqdm(complaints, "files read", len(tasks), unit="file")
        return {path: text for (_, path, _), text in zip(tasks, bar, strict=True) if text}


def _read(dataset: Dataset, root: Path, task: tuple[str, str, str]) -> str | None:
    """Read one file (kind, path, the keyframe's points) and return the complaint, if there is one."""
    kind, path, points = task
    try:
        if kind == "images":
            read_image(root / path)
        elif kind == "labels":
            labels, cloud = dataset.read_labels(root / path), dataset.read_points(root / points)[0]
            if len(labels) != len(cloud):
                return f"{root / path}: {len(labels)} labels; expected {len(cloud)}, one for each point"
        else:
            dataset.read_points(root / path)
    except InputError as error:
        return str(error)
    return None
