"""The main table: a row an experiment beside the published number, and the IoU of each class."""

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from clip2scene.config import Config
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.reporting.columns import OVER_SCENES, explained, markdown_table, number, write_csv
from clip2scene.reporting.numbers import Row, cell_rows
from clip2scene.reporting.published import PUBLISHED, read_published
from clip2scene.reporting.results import share
from clip2scene.study import Study

MAIN = (
    "protocol", "method", "recipe", "variant", "backbone", "width", "pretrain_dataset", "pretrain_split",
    "dataset", "split", "data", "label_percent", "fraction_rule", "miou_mean", "low", "high", "unit", "units",
    "pretrain_seeds", "std_pretrain", "finetune_seeds", "std_finetune", "classes_present",
    "miou_released_convention", "miou_visible", "published", "printed_in", "difference_to_published",
    "tolerance", "verdict", "reason", "explanation", "run_keys", "study",
)  # fmt: skip
_CLASS = ("protocol", "method", "recipe", "variant", "backbone", "dataset", "label_percent", "fraction_rule")


class MainTable(Table):
    """``table_main`` as CSV and Markdown, and ``table_per_class.csv``."""

    files: ClassVar[tuple[str, ...]] = ("table_main.csv", "table_main.md", "table_per_class.csv")

    def reads(self, config: Config) -> tuple[Path, ...]:
        """Return the published numbers."""
        return (PUBLISHED,)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table; `results/published/README.md` says which published number stands where.

        Raises:
            InputError: the published numbers are not as expected.
        """
        published = read_published(PUBLISHED, study.config)
        numbers = [cell_rows(study, cell, published) for cell in cells]
        rows = [_row(cell) for cell in numbers]
        per_class = [_class_row(cell) for cell in numbers]
        classes = dict.fromkeys(name for row in per_class for name in row)
        write_csv(rows, MAIN, out / "table_main.csv")
        write_csv(per_class, list(classes), out / "table_per_class.csv")
        with atomic(out / "table_main.md") as path:
            path.write_text(markdown(rows))


def _row(numbers: list[Row]) -> Row:
    """Return one row of the table from the numbers of its cell; see `cell_rows`."""
    miou, points = numbers[0], numbers[0]["points"]
    of = {(row["metric"], row["points"]): row["value"] for row in numbers}
    compared = miou.get("verdict") in ("reproduced", "above", "below")
    return miou | {
        "miou_mean": miou["value"],
        "classes_present": of["classes_present", points],
        "miou_released_convention": of["miou_released_convention", points],
        "miou_visible": of.get(("miou", "visible")) if points == "all" else None,
        "difference_to_published": miou["value"] - miou["published"] if compared else None,
    }


def _class_row(numbers: list[Row]) -> Row:
    """Return the IoU of every class in percent, mean over seeds; empty where a class is absent."""
    ious = {
        row["class"]: row["value"]
        for row in numbers
        if row["metric"] == "iou" and row["points"] == numbers[0]["points"]
    }
    return {name: numbers[0][name] for name in _CLASS} | ious


def markdown(rows: list[Row]) -> str:
    """Return the main table for people, a section a data set and protocol; synthetic data are called so."""
    lines = [
        "# Results",
        "",
        f"Study `{rows[0]['study']}`. mIoU in percent, mean over all runs, with its 95 % interval "
        f"{OVER_SCENES}. ± is the standard deviation over seeds of pre-training (P), or over seeds of "
        "fine-tuning from one pre-training (F). Methods are compared in `comparisons.md`.",
    ]
    table = pd.DataFrame(rows, columns=list(MAIN))
    for (dataset, data, protocol), part in table.groupby(["dataset", "data", "protocol"], sort=False):
        lines += ["", f"## {dataset}, {str(protocol).replace('_', '-')}"]
        if data == "synthetic":
            lines += ["", SYNTHETIC]
        header = (
            "method", "backbone", "pre-trained on", "labels", "mIoU", "± P", "± F", "classes",
            "published (real data)" if data == "synthetic" else "published", "source", "verdict", "runs",
        )  # fmt: skip
        lines += ["", *markdown_table(header, [_shown(row) for row in part.to_dict("records")])]
    return "\n".join([*lines, *explained("table_main.csv", MAIN)]) + "\n"


def _shown(row: Row) -> tuple[Any, ...]:
    published = number(row["published"])
    if not pd.isna(row["difference_to_published"]):
        published += f" ({row['difference_to_published']:+.1f})"
    verdict = ": ".join(row[name] for name in ("verdict", "reason") if not pd.isna(row[name]))
    return (
        " ".join(word for word in (row["method"], row["recipe"], row["variant"]) if word),
        f"{row['backbone']} × {row['width']:g}" if row["backbone"] else "",
        f"{row['pretrain_dataset']} {row['pretrain_split']}".strip(),
        share(row),
        number(row["miou_mean"], row["low"], row["high"]),
        deviation(row["std_pretrain"], row["pretrain_seeds"]),
        deviation(row["std_finetune"], row["finetune_seeds"]),
        row["classes_present"],
        published,
        "" if pd.isna(row["printed_in"]) else row["printed_in"],
        verdict,
        " ".join(f"`{key}`" for key in row["run_keys"].split()),
    )


def deviation(std: float | None, seeds: int) -> str:
    """Return a standard deviation with the number of seeds, or that number alone."""
    if not seeds:
        return ""
    return f"n = {seeds}" if std is None or pd.isna(std) else f"± {std:.1f} (n = {seeds})"
