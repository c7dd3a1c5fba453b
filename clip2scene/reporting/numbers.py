"""Every number of a cell, one a row with the same columns: all tables are made from these rows."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from clip2scene.config import Config
from clip2scene.experiments import Experiment
from clip2scene.reporting.base import Cell, Spread
from clip2scene.reporting.statistics import intervals, paired_p
from clip2scene.reporting.verdicts import judge
from clip2scene.study import Study

ROW = (
    "study", "tables", "protocol", "method", "recipe", "variant", "backbone", "width", "pretrain_dataset",
    "pretrain_split", "dataset", "split", "data", "label_percent", "fraction_rule",
)  # fmt: skip
"""Columns that say which row of the table of experiments a number belongs to."""
NUMBERS = (
    *ROW, "metric", "class", "points", "against", "value", "pretrain_seeds", "std_pretrain",
    "finetune_seeds", "std_finetune", "low", "high", "unit", "units", "p", "p_holm", "comparisons",
    "published", "printed_in", "tolerance", "verdict", "reason", "explanation", "run_keys", "against_keys",
)  # fmt: skip
"""Columns of ``results.csv``."""

Row = dict[str, Any]


def described(study: Study, cell: Cell) -> Row:
    """Return the columns that say which row of the table of experiments a cell is."""
    e, config = cell.experiment, study.configuration(cell.experiment.variant)
    return {
        "study": study.name,
        "tables": " ".join(e.tables),
        "protocol": e.protocol,
        "method": e.method,
        "recipe": e.recipe,
        "variant": e.variant,
        "backbone": e.backbone,
        "width": width(config, e) or "",
        "pretrain_dataset": e.pretrain,
        "pretrain_split": config.datasets[e.pretrain].pretrain_split if e.pretrain else "",
        "dataset": e.target,
        "split": config.datasets[e.target].val_split,
        "data": "synthetic" if cell.synthetic else "real",
        "label_percent": e.percent,
        "fraction_rule": e.rule,
        "run_keys": cell.keys,
    }


def width(config: Config, e: Experiment) -> float:
    """Return the factor on the channels of a row's network; 0 if it has none."""
    return config.backbones[e.backbone].width if e.backbone else 0.0


def words(e: Experiment) -> str:
    """Return a row of the table of experiments in words, for the rows of one column to be told apart."""
    parts = (e.method, e.recipe, e.variant, f"({e.backbone})" if e.backbone else "")
    source = f"← {e.pretrain}" if e.pretrain and e.pretrain != e.target else ""
    return " ".join(part for part in (*parts, source) if part)


def cell_rows(study: Study, cell: Cell, published: pd.DataFrame) -> list[Row]:
    """Return every number of one cell; the first is its mIoU."""
    shared = described(study, cell)
    rows = [
        shared | {"points": points} | row
        for points in sorted(cell.first.counts, key=lambda name: name != cell.first.points)
        for row in _scored(cell, points)
    ]
    config = study.configuration(cell.experiment.variant)
    rows[0] |= judge(cell, config, rows[0], published)
    return rows


def _scored(cell: Cell, points: str) -> Iterator[Row]:
    """Yield mIoU, IoUs and counts of classes over one set of points."""
    first = cell.first
    names = [("miou", ""), *(("iou", name) for name in first.classes)]
    per_run = [prediction.scores(points) for prediction in cell.runs.values()]
    of_run = [[100 * scores.miou, *(100 * scores.iou)] for scores in per_run]
    for (metric, name), interval, spread in zip(
        names, intervals([cell.totals(points)]), cell.spreads(of_run), strict=True
    ):
        ends = {"low": interval.low, "high": interval.high, **units(cell)}
        yield {"metric": metric, "class": name, **_columns(spread), **ends}
    present = [scores.present for scores in per_run]
    yield {"metric": "classes_present", "value": min(present)}
    (released,) = cell.spreads([[100 * scores.miou_released] for scores in per_run])
    yield {"metric": "miou_released_convention", **_columns(released)}


def _columns(spread: Spread) -> Row:
    return {
        "value": spread.mean,
        "pretrain_seeds": spread.pretrain_seeds,
        "std_pretrain": spread.pretrain_std,
        "finetune_seeds": spread.finetune_seeds,
        "std_finetune": spread.finetune_std,
    }


def units(cell: Cell) -> Row:
    """Return what is resampled, and how many there are."""
    first = cell.first
    resampled = first.scenes if first.by_scene else first.ids
    return {"unit": "scene" if first.by_scene else "keyframe", "units": len(set(resampled))}


def difference_row(study: Study, cell: Cell, against: Cell, metric: str) -> Row:
    """Return the difference of two cells' mIoU with its interval and p-value, over the same units.

    Args:
        study: The study.
        cell: The cell that the row describes.
        against: The cell that is subtracted; it has the same keyframes.
        metric: ``difference``, ``rule_difference`` or ``ablation_difference``.
    """
    mine, other = cell.totals(), against.totals()
    interval = intervals([mine, other])[0]
    rule = against.experiment.rule if metric == "rule_difference" else ""
    return described(study, cell) | {
        "metric": metric, "points": cell.first.points,
        "against": f"{words(against.experiment)} {rule}".strip(), "against_keys": against.keys,
        "value": interval.value, "low": interval.low, "high": interval.high, **units(cell),
        "p": paired_p(mine, other),
    }  # fmt: skip


def comparable(cell: Cell, against: Cell) -> bool:
    """Say whether two cells have the same keyframes and points, so that they can be compared pair by pair."""
    mine, other = cell.first, against.first
    return (mine.ids, mine.classes, mine.points) == (other.ids, other.classes, other.points)
