"""All numbers of a study in one long table, and the comparisons among its rows."""

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from clip2scene.config import Config
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.reporting.columns import OVER_SCENES, explained, markdown_table, number, p_value, write_csv
from clip2scene.reporting.comparisons import compared
from clip2scene.reporting.numbers import NUMBERS, Row, cell_rows, words
from clip2scene.reporting.published import PUBLISHED, read_published
from clip2scene.study import Study

COMPARISONS = (
    "metric", "protocol", "dataset", "label_percent", "fraction_rule", "backbone", "method", "recipe",
    "variant", "pretrain_dataset", "against", "value", "low", "high", "unit", "units", "p", "p_holm",
    "comparisons", "data", "run_keys", "against_keys", "study",
)  # fmt: skip
_KINDS = {
    "difference": "Methods of one column",
    "rule_difference": "What the rule alone is worth: frame_skip less scene_skip",
    "ablation_difference": "Rows of the ablation table, less their base row",
}


class ResultsTable(Table):
    """``results.csv``: one number a row, every table's; and ``comparisons``, the differences among them."""

    files: ClassVar[tuple[str, ...]] = ("results.csv", "results.md", "comparisons.csv", "comparisons.md")

    def reads(self, config: Config) -> tuple[Path, ...]:
        """Return the published numbers."""
        return (PUBLISHED,)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write both tables.

        Raises:
            InputError: the published numbers are not as expected.
        """
        published = read_published(PUBLISHED, study.config)
        rows = [row for cell in cells for row in cell_rows(study, cell, published)]
        differences = compared(study, cells)
        write_csv([*rows, *differences], NUMBERS, out / "results.csv")
        write_csv(differences, COMPARISONS, out / "comparisons.csv")
        synthetic = any(cell.synthetic for cell in cells)
        with atomic(out / "results.md") as path:
            path.write_text(_overview(study, cells, rows, synthetic))
        with atomic(out / "comparisons.md") as path:
            path.write_text(_differences(study, cells, differences, synthetic))


def _overview(study: Study, cells: list[Cell], rows: list[Row], synthetic: bool) -> str:
    """Return what ``results.csv`` holds, for people: its columns, and the mIoU of every row."""
    lines = [
        "# Every number",
        "",
        f"Study `{study.name}`. `results.csv` has one number a row: of every row of the table of experiments "
        "the mIoU, the IoU of each class and the counts beside them, and every difference between rows. All "
        "other tables are made from these numbers. Below, the mIoU of every row with its interval "
        f"{OVER_SCENES}.",
        *(["", SYNTHETIC] if synthetic else []),
        "",
    ]
    shown = [row for row in rows if row["metric"] == "miou"]
    titles = {cell.keys: words(cell.experiment) for cell in cells}
    header = ("protocol", "data set", "labels", "row", "points", "mIoU", "verdict", "tables")
    lines += markdown_table(header, [_shown(row, titles[row["run_keys"]]) for row in shown])
    return "\n".join([*lines, *explained("results.csv", NUMBERS)]) + "\n"


def _shown(row: Row, title: str) -> list[Any]:
    verdict = ": ".join(row[name] for name in ("verdict", "reason") if row.get(name))
    values = number(row["value"], row["low"], row["high"])
    return [row["protocol"], row["dataset"], share(row), title, row["points"], values, verdict, row["tables"]]


def share(row: Row) -> str:
    """Return the share of the labels and its rule in words."""
    percent = row["label_percent"]
    return f"{percent:g} % {row['fraction_rule']}".strip() if percent else "none"


def _differences(study: Study, cells: list[Cell], rows: list[Row], synthetic: bool) -> str:
    """Return the comparisons for people, a section a kind and column."""
    lines = [
        "# Comparisons",
        "",
        f"Study `{study.name}`. Differences of mIoU in points of percent, each with its 95 % interval and a "
        f"paired test {OVER_SCENES}. Both hold for the networks as they were trained: what another seed "
        "would change is the spread over seeds (`table_main.md`), and claims about methods are tested over "
        "seeds (`claims.md`).",
        *(["", SYNTHETIC] if synthetic else []),
    ]
    titles = {cell.keys: words(cell.experiment) for cell in cells}
    table = pd.DataFrame(rows, columns=list(COMPARISONS))
    column = ["metric", "protocol", "dataset", "label_percent", "fraction_rule", "backbone"]
    for (metric, protocol, dataset, *_), part in table.groupby(column, sort=False, dropna=False):
        first = part.iloc[0].to_dict()
        lines += ["", f"## {_KINDS[metric]}: {protocol.replace('_', '-')}, {dataset}, labels: {share(first)}"]
        header = ("row", "less", "difference", "p", f"p, corrected for {first['comparisons']}")
        shown = [
            (
                titles[row["run_keys"]], row["against"], number(row["value"], row["low"], row["high"], "+"),
                p_value(row["p"]), p_value(row["p_holm"]),
            )
            for row in part.to_dict("records")
        ]  # fmt: skip
        lines += ["", *markdown_table(header, shown)]
    return "\n".join([*lines, *explained("comparisons.csv", COMPARISONS)]) + "\n"
