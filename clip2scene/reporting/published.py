"""Published numbers, and which of our cells each may stand beside."""

from pathlib import Path

import pandas as pd

from clip2scene.errors import InputError
from clip2scene.experiments import TEACHER, Experiment

PUBLISHED = Path("results/published/published.csv")
_SAME = {
    "protocol": "protocol", "method": "method", "backbone": "backbone", "pretrain_dataset": "pretrain",
    "dataset": "target", "label_percent": "percent", "fraction_rule": "rule", "variant": "variant",
}  # fmt: skip
"""Columns that must equal a field of the experiment."""


def read_published(path: Path) -> pd.DataFrame:
    """Read the published numbers, a row a number; `label_percent` as float, empty cells as ``""``.

    Raises:
        InputError: the file or one of its columns is missing, or a value is no percentage.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    table = pd.read_csv(path, keep_default_na=False)
    if missing := {*_SAME, "recipes", "value", "source", "confidence"} - {*table.columns}:
        raise InputError(f"{path}: columns {', '.join(sorted(missing))} are missing")
    for column in ("label_percent", "value"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
        if (wrong := ~table[column].between(0, 100)).any():
            line = int(wrong.idxmax()) + 2  # as an editor counts, the header being the first
            raise InputError(f"{path}: line {line}: {column}: expected a number from 0 to 100")
    return table


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
