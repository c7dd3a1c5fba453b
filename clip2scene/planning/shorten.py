"""A run shortened to a few steps at its real size: its settings, its index, its subset; and its real length.

It gets as many units of work as the pilot asks for, from keyframes of the data at hand. Where these are
fewer, they come again, so that a batch is as large as it will be.
"""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from clip2scene.config import Config
from clip2scene.config_data import merged
from clip2scene.datasets import fractions
from clip2scene.datasets.index import Index
from clip2scene.method.spec import method_spec
from clip2scene.pairing.plausibility import leave_out_blind
from clip2scene.pairing.superpixels import split_images
from clip2scene.runs import Run
from clip2scene.stages.base import get_stage
from clip2scene.training import finetune
from clip2scene.training.loading import Order

PHASES = 4
"""Epochs of a shortened training, at most: self-training starts after a share of them."""


def unit(config: Config, run: Run) -> str:
    """Return the unit of a run's work: step, image, frame; or "" if it is measured as a whole."""
    stage = get_stage(run.kind)
    if stage.trains:
        return "step"
    if run.kind in ("teacher", "encoder"):
        section = config.teacher if run.kind == "teacher" else config.image_encoder
        return "step" if section.pretrained == "train" else ""
    if stage.parts:
        return "image"
    return "frame" if stage.gpu else ""


def split_of(config: Config, run: Run) -> tuple[str, str]:
    """Return the data set and the split whose keyframes a run computes with."""
    if run.kind == "pretrain":
        return run.pretrain, config.datasets[run.pretrain].pretrain_split
    section = config.datasets[run.target]
    stage = get_stage(run.kind)
    split = (
        section.pretrain_split if stage.parts else section.train_split if stage.trains else section.val_split
    )
    return run.target, split


def units(config: Config, run: Run, index: Index | None) -> int:
    """Return the units of a run's work, counted by the code that will do it.

    Args:
        config: The configuration as the run sees it.
        run: The run.
        index: Every keyframe of the data set that `split_of` names; None for a run that reads none.
    """
    kind = unit(config, run)
    if run.kind in ("teacher", "encoder"):
        section = config.teacher if run.kind == "teacher" else config.image_encoder
        return section.training.steps if kind else 0
    if not kind:
        return 0
    split = split_of(config, run)[1]
    frames = index.split(split)
    if kind == "image":
        return len(split_images(frames, split))
    if kind == "frame":
        return len(frames)
    if run.kind == "pretrain":
        if "images" in method_spec(run.method).needs:
            frames = leave_out_blind(frames, tell=lambda line: None)
        return steps(config, run, len(frames))
    return steps(config, run, len(fractions.select(frames, run.rule or "all", run.percent)))


def steps(config: Config, run: Run, frames: int) -> int:
    """Return the steps of a training on so many keyframes."""
    if run.kind == "pretrain":
        settings = config.pretraining(run.pretrain, run.method, run.recipe)
        epochs = settings.epochs
    else:
        settings = config.finetuning(run.target, run.backbone)
        # private there: under another name, every finished fine-tuning would be computed again
        epochs = finetune._epochs(settings, frames)
    processes = SimpleNamespace(world_size=config.processes, global_rank=0)
    return epochs * Order(frames, settings.batch_size, run.seed, processes).steps


def validated(config: Config, run: Run, steps: int) -> int:
    """Return the keyframes that a training is validated on, each as often as it is seen."""
    if not config.validation.every or not get_stage(run.kind).trains:
        return 0
    if run.kind == "pretrain" and "text" not in method_spec(run.method).needs:
        return 0
    return steps // config.validation.every * config.validation.frames


def short_config(config: Config, run: Run, count: int) -> tuple[Config, int]:
    """Return the configuration of a run of about `count` units, and the keyframes that it needs.

    Every setting that decides what a unit costs stays: batch size, resolution, width, sweeps, precision.
    """
    values: dict[str, Any] = {"validation": config.validation.model_copy(update={"every": 0})}
    if run.kind in ("teacher", "encoder"):
        name = "teacher" if run.kind == "teacher" else "image_encoder"
        section = getattr(config, name)
        training = section.training.model_copy(update={"steps": min(count, section.training.steps)})
        values[name] = section.model_copy(update={"training": training})
        return config.model_copy(update=values), 0
    if not get_stage(run.kind).trains:
        return config, count
    dataset = split_of(config, run)[0]
    if run.kind == "pretrain":
        settings = config.pretraining(dataset, run.method, run.recipe)
        key, names = "pretrain", ("by_method", run.method)
    else:
        settings = config.finetuning(dataset, run.backbone)
        key, names = "finetune", ("by_backbone", run.backbone)
    epochs = min(settings.epochs, PHASES, count)
    own: dict[str, int] = {"epochs": epochs} | ({} if key == "pretrain" else {"minimum_steps": 0})
    section = config.datasets[dataset]
    changed = merged(getattr(section, key), {names[0]: {names[1]: own}})  # the strongest layer of settings
    values["datasets"] = {**config.datasets, dataset: section.model_copy(update={key: changed})}
    return config.model_copy(update=values), math.ceil(count / epochs) * settings.batch_size


def short_index(index: Index, split: str, count: int) -> Index:
    """Return `count` keyframes of a split, drawn at random; where there are fewer, they come again.

    Those of a smaller count are among those of a larger one, as their superpixels have to be.
    """
    frames = index.split(split).frames
    if count <= len(frames):
        rows = np.random.default_rng(0).permutation(len(frames))[:count]
        return replace(index, frames=frames.iloc[np.sort(rows)])
    rows = np.arange(count)
    again = rows // len(frames)
    frames = frames.iloc[rows % len(frames)].reset_index(drop=True)
    ids = frames["id"].where(again == 0, frames["id"] + "-again-" + pd.Series(again).astype(str))
    return replace(index, frames=frames.assign(id=ids))


def write_short_subset(path: Path, config: Config, run: Run, index: Index) -> None:
    """Write a subset that holds every keyframe of a shortened index, under the name of the run's own."""
    split = config.datasets[run.target].train_split
    fractions.write_subset(path, index.ids, split=split, rule=run.rule or "all", percent=run.percent)
