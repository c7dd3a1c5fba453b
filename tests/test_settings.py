"""No stage reads a setting that its key does not hold: such a setting could change a number in silence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clip2scene import compute as computing
from clip2scene.config import Config, parse_config
from clip2scene.config_data import merged
from clip2scene.record import RunRecord
from clip2scene.study import Study

ROWS = """\
protocol	method	recipe	backbone	pretrain	target	percent	rule	pretrain_seeds	seeds
annotation_free	maskclip_projection				streets
annotation_free	clip2scene	fixed	spvcnn	streets	streets			0
finetune	random		spvcnn		streets	50	scene_skip		0
finetune	ppkt		spvcnn	streets	streets	100		0	0
finetune	pointcontrast		spvcnn	streets	streets	100		0	0
linear_probe	slidr		spvcnn	streets	streets	100		0	0
"""
NOT_IN_KEYS = {
    "device", "threads", "workers", "results", "checkpoints", "datasets.streets.root", "checkpoint_minutes",
    "validation.every", "validation.frames",
}  # fmt: skip
"""Settings of where and how fast; a checkpoint's content is part of the fingerprint. With native arithmetic
the number of threads is in the keys."""
WHOLE = (int, float, str, bool, tuple, list, type(None), Path)


class Spy:
    """A section of the configuration that writes down which of its settings are read."""

    def __init__(self, section: Any, place: str, seen: set[str]) -> None:
        vars(self).update(_section=section, _place=place, _seen=seen)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._section, name)
        if name.startswith("_"):
            return value
        if callable(value):  # pretraining(...), method(...): built of sections that keys hold whole
            return value
        return self._look(name, value)

    def __getitem__(self, name: str) -> Any:
        return self._look(name, self._section[name])

    def __contains__(self, name: str) -> bool:
        return name in self._section

    def _look(self, name: str, value: Any) -> Any:
        place = f"{self._place}.{name}".strip(".")
        # sections that are handed on whole are read whole
        if isinstance(value, WHOLE) or name in ("synthetic", "training", "optimiser"):
            self._seen.add(place)
            return value
        if name in ("checkpoints", "variants"):
            self._seen.add(place)
        return Spy(value, place, self._seen)


def leaves(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting of a nested mapping with its dotted place."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def changed(value: Any) -> Any:
    """Return another value of the same type, valid where the old one was."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.5 if value else 0.25
        case [first, *rest] if isinstance(first, int | float):
            return [changed(first), *rest]
        case _:
            return None


def deep(place: str, value: Any) -> dict[str, Any]:
    """Return a nested mapping that holds one value."""
    first, _, rest = place.partition(".")
    return {first: deep(rest, value)} if rest else {first: value}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    (folder / "rows.tsv").write_text(ROWS)
    tiny = {
        "train_scenes": 2, "val_scenes": 1, "keyframes": 2, "azimuth_steps": 90, "image_size": [48, 80],
    }  # fmt: skip
    values = {
        "experiments": str(folder / "rows.tsv"),
        "results": str(folder / "results"),
        "datasets": {
            "streets": {
                "root": str(folder / "data"), "version": "v1.0-tiny", "pretrain_split": "train",
                "voxel_size": 0.5, "synthetic": tiny,
            }
        },
        "teacher": {"datasets": ["streets"], "training": {"steps": 2, "batch_size": 8}},
        "image_encoder": {"datasets": ["streets"], "training": {"steps": 2, "batch_size": 2}},
        "pretrain": {"epochs": 1, "sweeps": 2, "crop": {"size": [32, 48], "minimum_pairs": 20}},
        "finetune": {"epochs": 1, "minimum_steps": 0},
    }  # fmt: skip
    return Study(parse_config(values, "config.yaml")), values


def test_every_setting_that_a_stage_reads_is_in_its_key(study, monkeypatch):
    study, _ = study
    read: dict[str, set[str]] = {}
    real = computing._task

    def spied(study, run, processes, part):
        task = real(study, run, processes, part)
        seen = read.setdefault(run.key, set())
        return replace(task, config=Spy(task.config, "", seen))

    def begin(record, config, device):  # it only writes down what it reads
        real_begin(record, getattr(config, "_section", config), device)

    real_begin = RunRecord.begin
    monkeypatch.setattr(RunRecord, "begin", begin)
    monkeypatch.setattr(computing, "_task", spied)
    for run in study.runs.values():
        computing.compute(study, run)
    assert read.keys() == study.runs.keys()

    values = study.config.model_dump(mode="json")
    bearing: dict[str, set[str]] = {key: set() for key in study.runs}
    for place, value in leaves(values):
        other = changed(value)
        if other is None or place in NOT_IN_KEYS:
            continue
        varied = Study(Config.model_validate(merged(values, deep(place, other))))
        pairs = zip(study.runs, varied.runs, strict=True)
        for before, after in pairs:
            if before != after:
                bearing[before].add(place)
    for key, places in read.items():
        run = study.runs[key]
        for place in places - NOT_IN_KEYS:
            own = [leaf for leaf, value in leaves(values) if leaf == place or leaf.startswith(f"{place}.")]
            own = [leaf for leaf in own if changed(dict(leaves(values))[leaf]) is not None]
            missing = sorted(set(own) - bearing[key])
            assert not missing, f"{run.kind} {run.title} reads {missing}, which its key does not hold"


PRETRAINED = {"pretrain", "annotation_free", "finetune", "linear_probe", "predict"}
"""Stages of which a run reads a pre-trained network, or what was made of one."""
WORDS = {
    "teacher.judged_at": ("crop", {"projection"}),
    "pretrain.augmentation": ("cloud", PRETRAINED),
    "pretrain.prompts": ("cityscapes", PRETRAINED | {"text"}),
    "pretrain.optimiser.schedule": ("epoch", PRETRAINED),
    "finetune.optimiser.schedule": ("epoch", {"finetune", "linear_probe", "predict"}),
}
"""Settings whose values are words: another value, and the stages whose keys it changes."""


@pytest.mark.parametrize("place", WORDS)
def test_a_word_changes_the_keys_that_it_bears_on_and_no_other(study, place):
    study, values = study
    word, kinds = WORDS[place]
    varied = Study(parse_config(merged(values, deep(place, word)), "config.yaml"))
    assert {run.kind for key, run in varied.runs.items() if key not in study.runs} == kinds
