"""Shares of the labels, as files of keyframe ids: drawn once by a rule, hashed, shared by every method.

"1 % of nuScenes" is not one protocol. SLidR takes every 100th scene with all its keyframes, CLIP2Scene every
100th keyframe of all scenes: the same number of keyframes from a hundred times as many scenes. Results under
the two rules never share a cell.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from clip2scene.datasets.identity import split_digests
from clip2scene.datasets.index import Index, read_index
from clip2scene.datasets.plausible import warn
from clip2scene.datasets.rules import RULES, TOLERANCE, id_file, skip_of
from clip2scene.errors import InputError
from clip2scene.files import read_json, reading, write_json
from clip2scene.task import Task


def scene_skip(ids: Sequence[str], scenes: Sequence[str], skip: int) -> list[str]:
    """Return every `skip`-th scene with all its keyframes: of 700 scenes the 100th, the 200th, ...

    SLidR @ 14729d0, downstream/dataloader_nuscenes.py, NuScenesDataset.__init__.

    Args:
        ids: Keyframe ids, in the data set's own order.
        scenes: Scene of each keyframe.
        skip: One scene in this many is kept.
    """
    number = {scene: count for count, scene in enumerate(dict.fromkeys(scenes), start=1)}
    return [frame for frame, scene in zip(ids, scenes, strict=True) if number[scene] % skip == 0]


def frame_skip(ids: Sequence[str], skip: int) -> list[str]:
    """Return every `skip`-th keyframe, from the first: ``ids[::skip]``.

    CLIP2Scene @ f37dae7, downstream/dataloader_nuscenes.py:188.
    """
    return list(ids[::skip])


def select(index: Index, rule: str, percent: float) -> list[str]:
    """Return the ids of the keyframes that `rule` takes for `percent` of the labels.

    Args:
        index: The labelled split, in the data set's own order.
        rule: ``scene_skip``, ``frame_skip``, ``file:<path>`` (a text file with an id a line, taken as it is),
            or ``all``.
        percent: Share of the labels, percent.

    Raises:
        InputError: the rule is unknown, cannot draw this share, takes no keyframe, or names one that is not
            in the index.
    """
    if file := id_file(rule):
        ids = _listed(index, file)
        if abs(len(ids) - percent / 100 * len(index)) > 1 + TOLERANCE * len(ids):
            share = f"{len(ids):,} of {len(index):,} keyframes, {100 * len(ids) / len(index):.3g} %"
            warn(f"{file}: lists {share}; asked for are {percent:g} %")
        return ids
    if rule == "all":
        return index.ids
    if rule not in RULES:
        raise InputError(f"rule {rule!r}: unknown; expected {', '.join(RULES)}, all or file:<path>")
    skip = skip_of(percent, rule)
    scenes = index.frames["scene"].tolist()
    ids = scene_skip(index.ids, scenes, skip) if rule == "scene_skip" else frame_skip(index.ids, skip)
    if not ids:
        raise InputError(
            f"rule {rule} at {percent:g} %: takes one in {skip}, hence none of the {len(index)} keyframes "
            f"in {len(set(scenes))} scenes of {index.root}; expected a larger percentage"
        )
    return ids


def compute(task: Task) -> None:
    """Draw the label subset of a run of the stage ``subset``: ``subset.json``.

    Its products are the digests of the keyframes that it holds, by kind of data.

    Raises:
        InputError: see `select`.
    """
    task.record.begin(task.config, "cpu")
    run, data = task.run, task.config.datasets[task.run.target]
    index = read_index(task.inputs["index"], data.root).split(data.train_split)
    rule = run.rule or "all"
    ids = select(index, rule, run.percent)
    path = task.record.folder / "subset.json"
    write_subset(path, ids, split=data.train_split, rule=rule, percent=run.percent)
    task.record.finish(products=split_digests(index.subset(ids).frames["identity"]))


def write_subset(path: Path, ids: Sequence[str], split: str, rule: str, percent: float) -> None:
    """Write a subset with how it was chosen and the SHA-256 of its ids."""
    provenance = {"split": split, "rule": rule, "percent": percent, "frames": len(ids), "sha256": digest(ids)}
    write_json(path, provenance | {"ids": list(ids)})


class _Subset(BaseModel):
    """Content of a subset file."""

    split: str
    rule: str
    percent: float = Field(gt=0, le=100)
    frames: int
    sha256: str
    ids: list[str] = Field(min_length=1)


def read_subset(
    path: Path, split: str | None = None, rule: str | None = None, percent: float | None = None
) -> list[str]:
    """Read the ids of a subset.

    Args:
        path: File of `write_subset`.
        split: Split that it must be of; None for any.
        rule: Rule that it must be drawn by; None for any.
        percent: Share of the labels that it must be, percent; None for any.

    Raises:
        InputError: the file is missing, is not a subset, its ids are not those it was written with, or it is
            another one than asked for.
    """
    values = read_json(path)
    if not isinstance(values, dict) or not {"ids", "sha256"} <= values.keys():
        raise InputError(f"{path}: not a label subset; expected the keys ids and sha256")
    try:
        subset = _Subset.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        field = ".".join(map(str, item["loc"]))
        raise InputError(f"{path}: {field}: {item['msg']}; write it again") from None
    if (found := digest(subset.ids)) != subset.sha256:
        raise InputError(
            f"{path}: its ids have the SHA-256 {found}, expected {subset.sha256}; write it again"
        )
    if len(set(subset.ids)) != len(subset.ids) or subset.frames != len(subset.ids):
        found = f"{len(subset.ids)} ids, of which {len(set(subset.ids))} differ"
        raise InputError(f"{path}: {found}; expected {subset.frames}, each once; write it again")
    for name, wanted in (("split", split), ("rule", rule), ("percent", percent)):
        if wanted is not None and getattr(subset, name) != wanted:
            raise InputError(f"{path}: {name} {getattr(subset, name)!r}; expected {wanted!r}; write it again")
    return subset.ids


def digest(ids: Sequence[str]) -> str:
    """Return the SHA-256 of keyframe ids in their order."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def _listed(index: Index, file: Path) -> list[str]:
    """Return the ids that a user's file lists, in the order of the index."""
    expected = "a text file with a keyframe id a line"
    with reading(file, expected):
        try:
            listed = file.read_text(encoding="utf-8-sig").split()
        except UnicodeDecodeError:
            raise InputError(f"{file}: is no text; expected {expected}") from None
    try:
        ids = index.subset(listed).ids
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if not ids:
        raise InputError(f"{file}: is empty; expected a keyframe id a line")
    return ids
