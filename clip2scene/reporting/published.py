"""Published numbers, read and checked."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from clip2scene.config import Config
from clip2scene.datasets.registry import dataset_names
from clip2scene.datasets.rules import RULES
from clip2scene.errors import InputError, unknown
from clip2scene.method.spec import method_names, method_spec
from clip2scene.models.architectures import architecture
from clip2scene.reporting.registry import table_names
from clip2scene.stages.base import protocols
from clip2scene.text_tables import read_csv

PUBLISHED = Path("results/published/published.csv")
SAME = {
    "protocol": "protocol", "method": "method", "backbone": "backbone", "pretrain_dataset": "pretrain",
    "dataset": "target", "label_percent": "percent", "fraction_rule": "rule", "variant": "variant",
}  # fmt: skip
"""Columns that must equal a field of the experiment."""


_LEFT = (
    "implemented", "recipes", "teacher", "pretrain_split", "split", "metric", "source", "confidence",
)  # fmt: skip
CONFIDENCE = ("primary", "secondary", "ambiguous", "inconsistent")
"""The paper's own number; another work's; one that may be read in two ways; one of a table that is wrong."""


TABLES_OF_OTHERS = ("slidr", "later_work")
"""Values of the column `table` that are no table of ours: SLidR's own tables, and works after CLIP2Scene."""


def read_published(path: Path, config: Config | None = None) -> pd.DataFrame:
    """Read the published numbers, a row a number: `label_percent` and `value` are floats, the rest texts.

    Args:
        path: The table.
        config: Its data sets may be named too, beside the registered ones.

    Raises:
        InputError: the file or one of its columns is missing, a value is no percentage, a name is none that
            is valid, or a number is there twice. The message names line and column.
    """
    rows = {}
    for line, row in read_csv(path, {*SAME, *_LEFT, "value"}):
        try:
            rows[line] = row | _checked(row, config)
        except InputError as error:
            raise InputError(f"{path}: line {line}: {error}") from None
    if not rows:
        raise InputError(f"{path}: holds no number; expected a row a number")
    _refuse_twice(path, rows)
    return pd.DataFrame(list(rows.values()))


def _checked(row: dict[str, str], config: Config | None) -> dict[str, float]:
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
        "implemented": ("yes", "no"), "table": (*table_names(), *TABLES_OF_OTHERS),
    }  # fmt: skip
    for column, names in valid.items():
        if column in row and row[column] not in names:
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
    if row["implemented"] == "yes":
        _check_names(row, config)
    return values


def _check_names(row: dict[str, str], config: Config | None) -> None:
    """Refuse a method, recipe, network or data set that does not exist here, in a row that says otherwise.

    A row with `no` names a method that only others implement; it stands beside nothing unless a package
    registers the method.
    """
    hint = "if nobody has implemented it here, say `no` in the column `implemented`"
    if row["method"] not in method_names():
        raise InputError(f"{unknown('method', row['method'], method_names())} ({hint})")
    recipes = method_spec(row["method"]).recipes
    for recipe in row["recipes"].split() or [""]:
        if recipe not in recipes:
            raise unknown("recipes", recipe, recipes)
    architecture(row["backbone"])
    datasets = [*dataset_names(), *(config.datasets if config else ())]
    for column, names in (("dataset", datasets), ("pretrain_dataset", ["", *datasets])):
        if row[column] not in names:
            raise InputError(f"{unknown(column, row[column], names)} ({hint})")


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
            cell = (recipe, *(row.get(column, "") for column in (*SAME, "source", "table")))
            if (first := lines.setdefault(cell, line)) != line:
                raise InputError(
                    f"{path}: line {line}: value: found {row['value']:g}, but line {first} has "
                    f"{rows[first]['value']:g} for the same cell from the same source; expected one number"
                )
