"""Published numbers, and which of our cells each may stand beside."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from clip2scene.datasets.rules import RULES
from clip2scene.errors import InputError, unknown
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.stages.base import protocols
from clip2scene.text_tables import read_csv

PUBLISHED = Path("results/published/published.csv")
_SAME = {
    "protocol": "protocol", "method": "method", "backbone": "backbone", "pretrain_dataset": "pretrain",
    "dataset": "target", "label_percent": "percent", "fraction_rule": "rule", "variant": "variant",
}  # fmt: skip
"""Columns that must equal a field of the experiment."""


_LEFT = ("recipes", "metric", "source", "confidence")
CONFIDENCE = ("primary", "secondary", "ambiguous", "inconsistent")
"""The paper's own number; another work's; one that may be read in two ways; one of a table that is wrong."""


def read_published(path: Path) -> pd.DataFrame:
    """Read the published numbers, a row a number: `label_percent` and `value` are floats, the rest texts.

    Raises:
        InputError: the file or one of its columns is missing, a value is no percentage, a name is none that
            is valid, or a number is there twice. The message names line and column.
    """
    rows = {}
    for line, row in read_csv(path, {*_SAME, *_LEFT, "value"}):
        try:
            rows[line] = row | _checked(row)
        except InputError as error:
            raise InputError(f"{path}: line {line}: {error}") from None
    if not rows:
        raise InputError(f"{path}: holds no number; expected a row a number")
    _refuse_twice(path, rows)
    return pd.DataFrame(list(rows.values()))


def _checked(row: dict[str, str]) -> dict[str, float]:
    """Return the numbers of a row whose cells are valid."""
    values = {}
    for column in ("label_percent", "value"):
        try:
            values[column] = float(row[column])
        except ValueError:
            values[column] = math.nan
        if not 0 <= values[column] <= 100:
            raise InputError(f"{column}: expected a number from 0 to 100, found {row[column]!r}")
    percent = values["label_percent"]
    valid = {
        "protocol": protocols(), "metric": ("mIoU",), "confidence": CONFIDENCE, "fraction_rule": ("", *RULES),
    }  # fmt: skip
    for column, names in valid.items():
        if row[column] not in names:
            raise unknown(column, row[column], names)
    if bool(row["fraction_rule"]) != (0 < percent < 100):
        words = "one" if 0 < percent < 100 else "none"
        found = repr(row["fraction_rule"] or "none")
        raise InputError(f"fraction_rule: found {found} for {percent:g} percent; expected {words}")
    if (percent > 0) != protocols()[row["protocol"]].labelled:
        expected = "more than 0" if percent == 0 else "0"
        raise InputError(f"label_percent: found {percent:g} for {row['protocol']}; expected {expected}")
    for column in ("method", "dataset", "source"):
        if not row[column]:
            raise InputError(f"{column}: is empty; expected a name")
    return values


def _refuse_twice(path: Path, rows: dict[int, dict[str, Any]]) -> None:
    """Refuse a row that repeats another, and two primary numbers that one source has for one cell.

    Args:
        path: The table.
        rows: Its rows by line.
    """
    lines: dict[tuple[Any, ...], int] = {}
    for line, row in rows.items():
        if (first := lines.setdefault(tuple(row.values()), line)) != line:
            raise InputError(f"{path}: line {line}: repeats line {first}; expected each number once")
        for recipe in row["recipes"].split() or [""] if row["confidence"] == "primary" else ():
            cell = (recipe, *(row.get(column, "") for column in (*_SAME, "source", "table")))
            if (first := lines.setdefault(cell, line)) != line:
                raise InputError(
                    f"{path}: line {line}: value: found {row['value']:g}, but line {first} has "
                    f"{rows[first]['value']:g} for the same cell from the same source; expected one number"
                )


def published(
    e: Experiment, recipe: str, width: float, synthetic: bool, numbers: pd.DataFrame
) -> tuple[float | None, str]:
    """Return the published number that stands beside an experiment, percent, and its source.

    Everything that it depends on has to agree: protocol, method, backbone, data sets, share of the labels,
    rule and variant; the recipe is one of those that compute what was published; the confidence is
    ``primary``. On real data, the network has its published width.

    Args:
        e: The experiment.
        recipe: Its recipe; of a row that starts from a checkpoint, the checkpoint's.
        width: Factor on the channels of its network.
        synthetic: Whether its data are synthetic, so that the number only shows which cell it is.
        numbers: See `read_published`.
    """
    if e.method == TEACHER or not (synthetic or width == 1):
        return None, ""
    same = numbers["confidence"] == "primary"
    for column, field in _SAME.items():
        same &= numbers[column] == getattr(e, field)
    same &= numbers["recipes"].map(lambda recipes: recipe in (recipes.split() or [""]))
    found = numbers[same]
    return (None, "") if found.empty else (float(found["value"].iloc[0]), str(found["source"].iloc[0]))
