"""Verdicts: does a number of ours reproduce the published one, or why can the two not be compared?"""

import math
from typing import Any

import pandas as pd

from clip2scene.config import Config
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.method.spec import method_spec
from clip2scene.reporting.base import Cell
from clip2scene.reporting.statistics import CONFIDENCE

_CANDIDATE = {
    "protocol": "protocol", "method": "method", "dataset": "target", "label_percent": "percent",
}  # fmt: skip
"""Columns of the published numbers that a number shares with every row that it could be compared with."""
_UNCLEAR = {
    "secondary": "another work's word for it",
    "ambiguous": "two ways to read which row of the table it is",
    "inconsistent": "another number elsewhere in the same table",
}


def judge(cell: Cell, config: Config, row: dict[str, Any], numbers: pd.DataFrame) -> dict[str, Any]:
    """Return the published number that stands beside a cell, and the verdict.

    Everything that the number depends on has to agree: network and its width, data set and split of
    pre-training and of evaluation, rule, recipe, variant, teacher. Its confidence is ``primary``. On
    synthetic data, where nothing can be compared, a number is shown where the row would stand beside it on
    real data, to say which cell it is.

    Args:
        cell: The cell.
        config: The configuration under its variant.
        row: Its mIoU with spreads and interval, as in ``results.csv``.
        numbers: See `clip2scene.reporting.published.read_published`.

    Returns:
        The columns ``published`` to ``explanation`` of ``results.csv``.
    """
    e = cell.experiment
    same = numbers["value"].notna()
    for column, field in _CANDIDATE.items():
        same &= numbers[column] == getattr(e, field)
    candidates = [] if e.method == TEACHER else numbers[same].to_dict("records")
    if not candidates:
        return {}
    both = [(candidate, _reasons(e, config, candidate)) for candidate in candidates]
    number, differing = min(both, key=lambda pair: _distance(pair[1]))  # the first of equals
    value, source = number["value"], number["source"]
    if cell.synthetic:
        ignored = {"teacher", "split", "width"}
        shown = {"published": value, "printed_in": source} if not differing.keys() - ignored else {}
        words = "Our data are synthetic, the published number is for the real data set."
        return shown | {"verdict": "not comparable", "reason": "data", "explanation": words}
    if differing:
        reason = next(iter(differing))
        words = f"{source} has {value:g} with {'; '.join(differing.values())}."
        code = "backbone" if reason == "width" else reason
        return {"verdict": "not comparable", "reason": code, "explanation": words}
    return {"published": value, "printed_in": source, **_against(row, value)}


def _distance(differing: dict[str, str]) -> tuple[int, bool]:
    """Return how far a published number is from a row; one that is not clear is further than one that is."""
    return len(differing.keys() - {"source"}), "source" in differing


def _reasons(e: Experiment, config: Config, number: dict[str, Any]) -> dict[str, str]:
    """Return what a published number depends on that differs from a row, by code, most important first."""
    source = config.datasets[e.pretrain].pretrain_split if e.pretrain else ""
    start = config.checkpoints.get(e.recipe)
    recipe = start.recipe if start else e.recipe
    width = config.backbones[e.backbone].width if e.backbone else 1.0
    checks = (
        ("split", "predicted split", number["split"], config.datasets[e.target].val_split, True),
        ("rule", "labels drawn by", number["fraction_rule"], e.rule, False),
        ("backbone", "network", number["backbone"], e.backbone, False),
        ("width", "width", 1.0, width, False),
        ("pretraining", "pre-training on", number["pretrain_dataset"], e.pretrain, False),
        ("split", "pre-training split", number["pretrain_split"], source, True),
        ("teacher", "image network", number["teacher"], _teacher(e, config), True),
        ("variant", "variant", number["variant"], e.variant, False),
    )
    found: dict[str, str] = {}
    for code, words, theirs, ours, may_be_unsaid in checks:
        if theirs != ours and (theirs or not may_be_unsaid):
            found.setdefault(code, f"{words} {theirs or 'none'}, ours {ours or 'none'}")
    if recipe not in (number["recipes"].split() or [""]):
        found["recipe"] = f"recipe {number['recipes'] or 'none'}, ours {recipe or 'none'}"
    if number["confidence"] != "primary":
        found["source"] = _UNCLEAR[number["confidence"]]
    return found


def _teacher(e: Experiment, config: Config) -> str:
    """Return the architecture of the image network that a row's method learns from; empty if none does."""
    needs = method_spec(e.method).needs
    if {"teacher", "text"} & needs:
        return config.teacher.architecture.removesuffix("-quickgelu")  # an activation: the same weights
    return config.image_encoder.architecture if "encoder" in needs else ""


def _against(row: dict[str, Any], value: float) -> dict[str, Any]:
    """Return the verdict on a mIoU that can be compared with a published one."""
    seeds = seed_tolerance(row)
    if seeds is None:
        words = "Ours is a single run, so that nothing is known of its spread; run more seeds."
        return {"verdict": "not comparable", "reason": "seeds", "explanation": words}
    scenes = 0.0 if math.isnan(row["low"]) else (row["high"] - row["low"]) / 2
    tolerance = math.hypot(seeds, scenes)
    difference = row["value"] - value
    verdict = "reproduced" if abs(difference) <= tolerance else "above" if difference > 0 else "below"
    spread = "pre-training" if row["pretrain_seeds"] > 1 else "fine-tuning alone"
    words = (
        f"Ours less published is {difference:+.1f}; the tolerance is {tolerance:.1f} "
        f"({seeds:.1f} from seeds of {spread}, {scenes:.1f} from {row['unit']}s)."
    )
    return {"tolerance": tolerance, "verdict": verdict, "explanation": words}


def seed_tolerance(row: dict[str, Any]) -> float | None:
    """Return how far one more run may lie from the mean of a row's runs; None for fewer than two runs.

    The published number is such a run. Half the 95 % prediction interval of Student: t s sqrt(1 + 1/n), over
    n seeds of pre-training, or of fine-tuning where there is one pre-training. Of several fine-tunings from
    each of several pre-trainings, s is the spread of single runs, of both kinds together.
    """
    from scipy import stats  # not at the top: the Snakefile imports this module, and scipy takes 0.5 s

    n, k = row["pretrain_seeds"], row["finetune_seeds"]
    within = (row["std_finetune"] or 0.0) ** 2
    if n > 1:
        mean = row["std_pretrain"] ** 2  # of means over k fine-tunings
        variance = mean * (1 + 1 / n) + within * (1 - 1 / max(k, 1))
        return stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * variance**0.5
    if k > 1:
        return stats.t.ppf((1 + CONFIDENCE) / 2, k - 1) * (within * (1 + 1 / k)) ** 0.5
    return None
