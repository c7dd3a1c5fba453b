"""The result tables as the report shows them: a number with its interval, a run as a link to its section."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from clip2scene import layout
from clip2scene.files import read_object, reading
from clip2scene.report.captions import caption
from clip2scene.reporting.base import get_table
from clip2scene.reporting.columns import MEANING
from clip2scene.reporting.numbers import NUMBERS
from clip2scene.reporting.registry import all_names
from clip2scene.study import Study

_ENDS = {"miou_mean": ("low", "high"), "value": ("low", "high"), "mean": ("seed_low", "seed_high")}
"""Columns that hold the ends of a number's interval, where these are not named after it."""
_WITH = {"verdict": ("reason", "explanation")}
"""Columns that are shown in the cell of another one."""
_CELL = frozenset({
    "claim", "status", "metric", "class", "protocol", "method", "recipe", "variant", "dataset", "source",
    "label_percent", "fraction_rule", "points", "against", "left", "right", "at_least", "base", "stage",
})  # fmt: skip
"""Columns that say which number it is; they stand first, before the number."""
_KEY = re.compile(r"\b[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Shown:
    """A table of the report.

    Attributes:
        name: Name of its file without the ending.
        caption: What it shows, in words.
        same: Columns that have one value in every row, with that value.
        header: Name and meaning of every other column.
        rows: Its cells: what a table is sorted by, and HTML.
    """

    name: str
    caption: str
    same: Mapping[str, str]
    header: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[tuple[str, str]]]


def there(study: Study) -> list[str]:
    """Return the tables in the results folder that are this study's."""
    shown = {name: layout.shown(study.config, name) for name in all_names()}
    return [
        name
        for name, path in shown.items()
        if path.exists() and read_object(path).get("study") == study.name and _all_there(study, name)
    ]


def _all_there(study: Study, name: str) -> bool:
    return all((study.config.results / file).is_file() for file in get_table(name).files)


def read_table(path: Path) -> pd.DataFrame:
    """Read a result table; every cell is the text in the file.

    Raises:
        InputError: the file is missing or no table.
    """
    with reading(path, "a table as CSV", pd.errors.ParserError, pd.errors.EmptyDataError):
        return pd.read_csv(path, dtype=str, keep_default_na=False)


def read_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Return every CSV file of the tables that are there, by its name without the ending."""
    names = [file for name in there(study) for file in get_table(name).files if file.endswith(".csv")]
    tables = {Path(file).stem: read_table(study.config.results / file) for file in sorted(names, key=_place)}
    if "table_per_class" in tables:  # a row for each of the main table's
        keys = tables["table_main"]["run_keys"]
        tables["table_per_class"] = tables["table_per_class"].assign(run_keys=keys)
    return tables


def _place(file: str) -> tuple[bool, bool, str]:
    """Return where a table stands: the main one first, every number last."""
    return (file != "table_main.csv", file == "results.csv", file)


def numbers(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the mIoU and the IoU of every row that the tables hold, one number a row, as texts.

    Columns are those of ``results.csv``. Where only the main table is there, its numbers are returned, and
    an IoU has no interval.
    """
    if "results" in tables:
        found = tables["results"]
        found = found[found["metric"].isin(["miou", "iou"])]
        own = found.groupby("run_keys")["points"].transform("first")  # of the points that count for the row
        return found[found["points"] == own].reset_index(drop=True)
    if "table_main" not in tables:
        return pd.DataFrame(columns=list(NUMBERS), dtype=str)
    main, per_class = tables["table_main"], tables["table_per_class"]
    classes = [name for name in per_class if name not in NUMBERS]
    miou = main.rename(columns={"miou_mean": "value"}).assign(**{"metric": "miou", "class": ""})
    rows = main.drop(columns=["low", "high"]).join(per_class[classes])
    ious = rows.melt([name for name in main if name in rows], classes, "class", "value")
    ious = ious[ious["value"] != ""].assign(metric="iou")
    return pd.concat([miou, ious]).reindex(columns=list(NUMBERS)).fillna("").reset_index(drop=True)


def shown(name: str, table: pd.DataFrame, every: pd.DataFrame) -> Shown:
    """Return a table as the report shows it.

    Args:
        name: Name of its file without the ending.
        table: Its cells, as texts.
        every: Every number, see `numbers`.
    """
    if name == "table_per_class":
        table = _with_intervals(table, every)
    table = table.loc[:, (table != "").any()]
    inside = {each for column in table for each in (*_ends(column, table), *_WITH.get(column, ()))}
    same = {
        column: values.iloc[0]
        for column, values in table.items()
        if values.nunique() == 1 and (len(table) > 1 or column == "study") and column not in inside
        if not (column.endswith("keys") or _ends(column, table))
    }
    columns = [column for column in table if column not in inside | same.keys()]
    columns.sort(key=lambda column: _rank(column, table))
    rows = [[_cell(column, row) for column in columns] for row in table.to_dict("records")]
    return Shown(name, caption(name), same, [(column, meaning(column)) for column in columns], rows)


def _with_intervals(per_class: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """Return the table of IoUs with their intervals, where they are known."""
    ious = every[every["metric"] == "iou"].drop_duplicates(["run_keys", "class"])
    wide = ious.pivot(index="run_keys", columns="class", values=["low", "high"])
    wide.columns = [f"{name}_{end}" for end, name in wide.columns]
    return per_class.merge(wide, how="left", left_on="run_keys", right_index=True).fillna("")


def _rank(column: str, columns: Container[str]) -> int:
    """Return where a column stands: which number it is, the number, its verdict, its runs, all else."""
    kinds = (
        column in _CELL, bool(_ends(column, columns)), column.endswith("verdict"), column.endswith("keys"),
    )  # fmt: skip
    return kinds.index(True) if any(kinds) else len(kinds)


def _ends(column: str, columns: Container[str]) -> tuple[str, ...]:
    """Return those of the columns that hold the ends of a column's interval; none if it has none."""
    named = _ENDS.get(column, (f"{column}_low", f"{column}_high"))
    return named if all(name in columns for name in named) else ()


def _cell(column: str, row: Mapping[str, str]) -> tuple[str, str]:
    """Return a cell: what it is sorted by, and its HTML."""
    value = row[column]
    if column.endswith("keys"):
        return value, linked(escape(value))
    ends = [row[name] for name in _ends(column, row)]
    if value and all(ends) and ends:
        return value, f"{value} <small>[{', '.join(ends)}]</small>"
    if value and column in _WITH:
        reason, words = (row.get(name, "") for name in _WITH[column])
        text = escape(": ".join(part for part in (value, reason) if part))
        return value, f'<span title="{escape(words)}">{text}</span>'
    if column == "label_percent" and value:
        return value, f"{float(value):g}"
    return value, escape(value)


def linked(text: str, known: Sequence[str] | None = None) -> str:
    """Return a text in HTML with each key of a run as a link to its section.

    Args:
        text: HTML.
        known: Keys that have a section; every key has one if None.
    """
    return _KEY.sub(
        lambda found: (
            f'<a href="#run-{found[0]}">{found[0]}</a>' if known is None or found[0] in known else found[0]
        ),
        text,
    )


def meaning(column: str) -> str:
    """Return what a column means; empty for one that a table of another package has."""
    return MEANING.get(column, "").replace("`", "")
