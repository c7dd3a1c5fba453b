"""Fractions of the labels, as files of frame ids: written once by a rule, hashed, shared by every method.

"1 % of nuScenes" is not one protocol. SLidR takes every 100th scene with all its keyframes, CLIP2Scene every
100th keyframe of all scenes: as many frames, of a hundred times the scenes. Results under the two
never share a cell.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from clip2scene.datasets.index import Index, read_index
from clip2scene.errors import InputError
from clip2scene.files import read_json, write_json


def scene_skip(ids: Sequence[str], scenes: Sequence[str], skip: int) -> list[str]:
    """Every `skip`-th scene with all its keyframes: of 700 scenes and skip 100, the 100th, the 200th, ...

    SLidR @ 14729d0, downstream/dataloader_nuscenes.py, NuScenesDataset.__init__.

    Args:
        ids: Frame ids, in the data set's own order.
        scenes: The scene of each.
        skip: One scene in so many is kept.
    """
    number = {scene: count for count, scene in enumerate(dict.fromkeys(scenes), start=1)}
    return [frame for frame, scene in zip(ids, scenes, strict=True) if number[scene] % skip == 0]


def frame_skip(ids: Sequence[str], skip: int) -> list[str]:
    """Every `skip`-th keyframe, from the first: ``ids[::skip]``.

    CLIP2Scene @ f37dae7, downstream/dataloader_nuscenes.py:188.
    """
    return list(ids[::skip])


def select(index: Index, rule: str, percent: float) -> list[str]:
    """Ids of the keyframes that `rule` takes for `percent` of the labels.

    Args:
        index: The labelled split, in the data set's own order.
        rule: ``scene_skip``, ``frame_skip``, ``file:<path>`` (a text file with an id a line, taken as it is),
            or ``all``.
        percent: Share of the labels, percent.

    Raises:
        InputError: the rule is unknown, takes no keyframe, or names one that is not in the index.
    """
    skip = round(100 / percent)
    if rule == "scene_skip":
        ids = scene_skip(index.ids, index.frames["scene"].tolist(), skip)
    elif rule == "frame_skip":
        ids = frame_skip(index.ids, skip)
    elif rule.startswith("file:"):
        ids = index.subset(_read_lines(Path(rule.removeprefix("file:")))).ids
    elif rule == "all":
        ids = index.ids
    else:
        raise InputError(f"rule {rule!r}: unknown; expected scene_skip, frame_skip, all or file:<path>")
    if not ids:
        raise InputError(
            f"rule {rule} at {percent:g} %: takes one in {skip}, hence none of the {len(index)} keyframes "
            f"in {index.frames['scene'].nunique()} scenes of {index.root}; expected a larger percentage"
        )
    return ids


def write(index: Path, split: str, rule: str, percent: float, out: Path) -> None:
    """Write the subset file of one split, rule and percentage; see `select`."""
    part = read_index(index).split(split)
    write_subset(out, select(part, rule, percent), split=split, rule=rule, percent=percent)


def write_subset(path: Path, ids: Sequence[str], split: str, rule: str, percent: float) -> None:
    """Write a subset with how it was chosen and the SHA-256 of its ids."""
    provenance = {"split": split, "rule": rule, "percent": percent, "frames": len(ids), "sha256": digest(ids)}
    write_json(path, provenance | {"ids": list(ids)})


def read_subset(path: Path) -> list[str]:
    """Read the ids of a subset.

    Raises:
        InputError: the file is missing, is not a subset, or its ids are not those it was written with.
    """
    subset = read_json(path)
    if not isinstance(subset, dict) or not {"ids", "sha256"} <= subset.keys():
        raise InputError(f"{path}: not a label subset; expected the keys ids and sha256")
    if (found := digest(subset["ids"])) != subset["sha256"]:
        raise InputError(
            f"{path}: its ids have the SHA-256 {found}, expected {subset['sha256']}; write it again"
        )
    return subset["ids"]


def digest(ids: Sequence[str]) -> str:
    """SHA-256 of frame ids in their order."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a text file with a frame id a line") from None
