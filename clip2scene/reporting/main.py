"""The main table: a row an experiment beside the published number, and the IoU of each class."""

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.metrics import Scores
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.reporting.published import PUBLISHED, published, read_published
from clip2scene.study import Study


class MainTable(Table):
    """``table_main`` as CSV and Markdown, and ``table_per_class.csv``."""

    files: ClassVar[tuple[str, ...]] = ("table_main.csv", "table_main.md", "table_per_class.csv")
    inputs: ClassVar[tuple[str, ...]] = (str(PUBLISHED),)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table; `results/published/README.md` says which published number stands where.

        Raises:
            InputError: the published numbers are not as expected.
        """
        numbers = read_published(PUBLISHED)
        table = pd.DataFrame([_row(study, cell, numbers) for cell in cells]).assign(study=study.name)
        per_class = pd.DataFrame([_class_row(study, cell) for cell in cells])
        with atomic(out / "table_main.csv") as path:
            table.to_csv(path, index=False, float_format="%.2f")
        with atomic(out / "table_per_class.csv") as path:
            per_class.to_csv(path, index=False, float_format="%.2f")
        with atomic(out / "table_main.md") as path:
            path.write_text(markdown(table))


def _row(study: Study, cell: Cell, numbers: pd.DataFrame) -> dict[str, Any]:
    e, config = cell.experiment, study.configuration(cell.experiment.variant)
    scores = list(cell.scores.values())
    spread = cell.spread(lambda values: 100 * values.miou)
    width = config.backbones[e.backbone].width if e.backbone else 0.0
    start = config.checkpoints.get(e.recipe)
    value, source = published(e, start.recipe if start else e.recipe, width, cell.synthetic, numbers)
    return {
        "protocol": e.protocol,
        "method": e.method,
        "recipe": e.recipe,
        "variant": e.variant,
        "backbone": e.backbone,
        "width": width or "",
        "pretrain_dataset": e.pretrain,
        "pretrain_split": config.datasets[e.pretrain].pretrain_split if e.pretrain else "",
        "dataset": e.target,
        "data": "synthetic" if cell.synthetic else "real",
        "label_percent": e.percent,
        "fraction_rule": e.rule,
        "miou_mean": spread.mean,
        "pretrain_seeds": spread.pretrain_seeds,
        "miou_std_pretrain": spread.pretrain_std,
        "finetune_seeds": spread.finetune_seeds,
        "miou_std_finetune": spread.finetune_std,
        "classes_present": min(values.present for values in scores),
        "miou_released_convention": 100 * sum(values.miou_released for values in scores) / len(scores),
        "miou_visible": _visible(cell),
        "published": value,
        "difference": None if cell.synthetic or value is None else spread.mean - value,
        "source": source,
        "run_keys": cell.keys,
    }


def _visible(cell: Cell) -> float | None:
    """Return the mIoU, percent, over the points that a camera sees, to be compared with the teacher's."""
    if cell.experiment.protocol != "annotation_free":
        return None
    scores = [values["visible"].miou for values in cell.runs.values() if {"all", "visible"} <= values.keys()]
    return 100 * sum(scores) / len(scores) if scores else None


def _class_row(study: Study, cell: Cell) -> dict[str, Any]:
    """Return the IoU of every class in percent, mean over seeds; empty where a class is absent."""
    fields = ("protocol", "method", "recipe", "variant", "backbone", "target", "percent", "rule")
    e = cell.experiment
    classes = get_dataset(study.configuration(e.variant).datasets[e.target].format).classes
    iou = pd.DataFrame([_iou(scores) for scores in cell.scores.values()], columns=classes, dtype=float)
    return {**e.model_dump(include=set(fields)), **(100 * iou.mean())}


def _iou(scores: Scores) -> list[float]:
    return scores.iou.tolist()


def markdown(table: pd.DataFrame) -> str:
    """Return the main table for people, a section a data set and protocol; synthetic data are called so."""
    lines = [
        "# Results",
        "",
        f"Study `{table['study'].iloc[0]}`. mIoU in percent, mean over all runs. ± is the standard "
        "deviation over seeds of pre-training (P), or over seeds of fine-tuning from one pre-training (F).",
    ]
    for (dataset, data, protocol), part in table.groupby(["dataset", "data", "protocol"], sort=False):
        lines += ["", f"## {dataset}, {str(protocol).replace('_', '-')}"]
        if data == "synthetic":
            lines += ["", SYNTHETIC]
        lines += ["", *_markdown_rows(part, synthetic=data == "synthetic")]
    return "\n".join(lines) + "\n"


def _markdown_rows(part: pd.DataFrame, synthetic: bool) -> list[str]:
    columns = [
        "method", "backbone", "pre-trained on", "labels", "mIoU", "± P", "± F", "classes",
        "published (real data)" if synthetic else "published", "source", "runs",
    ]  # fmt: skip
    rows = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in part.itertuples():
        number = "" if pd.isna(row.published) else f"{row.published:.1f}"
        if number and not synthetic:
            number += f" ({row.difference:+.1f})"
        cells = (
            " ".join(word for word in (row.method, row.recipe, row.variant) if word),
            f"{row.backbone} × {row.width}" if row.backbone else "",
            f"{row.pretrain_dataset} {row.pretrain_split}".strip(),
            f"{row.label_percent:g} % {row.fraction_rule}".strip() if row.label_percent else "none",
            f"{row.miou_mean:.1f}",
            _deviation(row.miou_std_pretrain, row.pretrain_seeds),
            _deviation(row.miou_std_finetune, row.finetune_seeds),
            row.classes_present,
            number,
            row.source,
            " ".join(f"`{key}`" for key in row.run_keys.split()),
        )
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return rows


def _deviation(std: float | None, seeds: int) -> str:
    """Return a standard deviation with the number of seeds, or that number alone."""
    if not seeds:
        return ""
    return f"n = {seeds}" if std is None or pd.isna(std) else f"± {std:.1f} (n = {seeds})"
