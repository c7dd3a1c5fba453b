"""The ablation table: each variant or recipe against its base row, with the settings that it changes."""

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from clip2scene.config import Config
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.reporting.columns import OVER_SCENES, explained, markdown_table, number, p_value, write_csv
from clip2scene.reporting.comparisons import bases, changes, corrected
from clip2scene.reporting.numbers import Row, cell_rows, comparable, difference_row, words
from clip2scene.reporting.published import PUBLISHED, read_published
from clip2scene.reporting.results import share
from clip2scene.study import Study

ABLATION = (
    "protocol", "method", "recipe", "variant", "backbone", "width", "pretrain_dataset", "pretrain_split",
    "dataset", "data", "label_percent", "fraction_rule", "base", "changes", "miou_mean", "low", "high",
    "unit", "units", "pretrain_seeds", "std_pretrain", "finetune_seeds", "std_finetune", "difference",
    "difference_low", "difference_high", "p", "p_holm", "comparisons", "published", "published_difference",
    "printed_in", "tolerance", "verdict", "reason", "explanation", "run_keys", "study",
)  # fmt: skip


class AblationTable(Table):
    """``table_ablation`` as CSV and Markdown: a row a variant or recipe."""

    files: ClassVar[tuple[str, ...]] = ("table_ablation.csv", "table_ablation.md")

    def reads(self, config: Config) -> tuple[Path, ...]:
        """Return the published numbers."""
        return (PUBLISHED,)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table; see `clip2scene.reporting.comparisons.bases` on which row is a row's base.

        Raises:
            InputError: the published numbers are not as expected.
        """
        published = read_published(PUBLISHED, study.config)
        based = list(bases(study, cells))
        differences = {
            row["run_keys"]: row
            for row in corrected(
                [
                    difference_row(study, cell, base, "ablation_difference")
                    for cell, base in based
                    if base and comparable(cell, base)
                ]
            )
        }
        printed = {cell.keys: cell_rows(study, cell, published)[0] for cell, _ in based}
        rows = []
        for cell, base in based:
            row = printed[cell.keys] | {"miou_mean": printed[cell.keys]["value"]}
            row |= {"title": words(cell.experiment), "p": None}
            if base:
                row |= {"base": words(base.experiment), "changes": _changes(study, cell, base)}
                row |= _difference(differences.get(cell.keys))
                row["published_difference"] = _printed(row, printed[base.keys])
            rows.append(row)
        write_csv(rows, ABLATION, out / "table_ablation.csv")
        with atomic(out / "table_ablation.md") as path:
            path.write_text(markdown(rows))


def _changes(study: Study, cell: Cell, base: Cell) -> str:
    """Return the settings that a row changes, each with the base row's value and its own."""
    changed = changes(study, cell.experiment, base.experiment)
    return "; ".join(
        f"{name}: {_plain(before)} → {_plain(after)}" for name, (before, after) in changed.items()
    )


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _difference(row: Row | None) -> Row:
    """Return the columns of the difference to the base row; none where the two cannot be compared."""
    if row is None:
        return {}
    ends = {"difference": row["value"], "difference_low": row["low"], "difference_high": row["high"]}
    return ends | {name: row[name] for name in ("p", "p_holm", "comparisons")}


def _printed(row: Row, base: Row) -> float | None:
    """Return what the paper prints for a row less what it prints for the base row, where it prints both."""
    values = row.get("published"), base.get("published")
    return None if None in values else values[0] - values[1]


def markdown(rows: list[Row]) -> str:
    """Return the table for people, a section a column; synthetic data are called so."""
    lines = [
        "# Ablations",
        "",
        f"Study `{rows[0]['study']}`. mIoU in percent with its 95 % interval {OVER_SCENES}, and "
        "the difference to the base row: of the earlier rows, the one with the fewest other settings. ± is "
        "the standard deviation over seeds of pre-training. Published differences are to the same base row.",
    ]
    table = pd.DataFrame(rows, columns=["title", *ABLATION])
    column = ["dataset", "data", "protocol", "label_percent", "fraction_rule", "backbone", "pretrain_dataset"]
    for (dataset, data, protocol, *_), part in table.groupby(column, sort=False, dropna=False):
        first = part.iloc[0].to_dict()
        lines += ["", f"## {dataset}, {str(protocol).replace('_', '-')}, labels: {share(first)}"]
        lines += ["", SYNTHETIC] if data == "synthetic" else []
        header = (
            "row", "base", "what it changes", "mIoU", "±", "difference", "p, corrected", "published",
            "published difference", "verdict",
        )  # fmt: skip
        lines += ["", *markdown_table(header, [_shown(row) for row in part.to_dict("records")])]
    return "\n".join([*lines, *explained("table_ablation.csv", ABLATION)]) + "\n"


def _shown(row: Row) -> tuple[Any, ...]:
    verdict = ": ".join(row[name] for name in ("verdict", "reason") if not pd.isna(row[name]))
    return (
        row["title"],
        "" if pd.isna(row["base"]) else row["base"],
        "" if pd.isna(row["changes"]) else row["changes"].replace("; ", "<br>"),
        number(row["miou_mean"], row["low"], row["high"]),
        "" if pd.isna(row["std_pretrain"]) else f"{row['std_pretrain']:.1f} (n = {row['pretrain_seeds']})",
        number(row["difference"], row["difference_low"], row["difference_high"], "+"),
        p_value(row["p_holm"]),
        number(row["published"]),
        number(row["published_difference"], sign="+"),
        verdict,
    )
