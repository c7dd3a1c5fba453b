"""The result tables: a row an experiment, filled from the run files, beside the published number."""

from pathlib import Path
from typing import Any

import pandas as pd

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.experiments import TEACHER, Experiment, load_experiments, runs_of
from clip2scene.files import atomic, read_json

PUBLISHED = Path("results/published/published.csv")
SYNTHETIC = (
    "**Synthetic data.** Published numbers are for the real data set and full-size networks: where they "
    "stand beside ours they show which cell this is, and nothing here reproduces or contradicts them."
)
_IDENTITY = [
    "protocol", "method", "backbone", "pretrain_dataset", "dataset", "label_percent", "fraction_rule",
]  # fmt: skip


def write_tables(config: Config, name: str, published: Path) -> None:
    """Write ``table_main.csv``, ``table_main.md`` and ``table_per_class.csv`` into the results folder.

    Args:
        config: The configuration whose experiments fill the rows.
        name: The configuration's hash, by which `results/config/` knows it.
        published: CSV of published numbers (`results/published/`).

    Raises:
        InputError: a run is missing or unfinished, or a file does not hold what it should.
    """
    numbers = read_published(published)
    experiments = load_experiments(config, "main")
    finished = [results_of(config, experiment) for experiment in experiments]
    rows = [_row(config, e, runs, numbers) for e, runs in zip(experiments, finished, strict=True)]
    table = pd.DataFrame(rows).assign(config=name)
    with atomic(config.results / "table_main.csv") as path:
        table.to_csv(path, index=False, float_format="%.2f")
    with atomic(config.results / "table_per_class.csv") as path:
        _per_class(config, experiments, finished).to_csv(path, index=False, float_format="%.2f")
    with atomic(config.results / "table_main.md") as path:
        path.write_text(markdown(table))


def read_published(path: Path) -> pd.DataFrame:
    """The published numbers, a row a number; `label_percent` as float, empty cells as ``""``.

    Raises:
        InputError: the file or one of its columns is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    table = pd.read_csv(path, keep_default_na=False)
    if missing := {*_IDENTITY, "value", "source", "confidence"} - {*table.columns}:
        raise InputError(f"{path}: columns {', '.join(sorted(missing))} are missing")
    return table.astype({"label_percent": float, "value": float})


def results_of(config: Config, experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Metrics of the experiment's runs, by key."""
    return {run.key: read_json(layout.metrics(config, run)) for run in runs_of(config, experiment)}


def _row(
    config: Config, e: Experiment, runs: dict[str, dict[str, Any]], numbers: pd.DataFrame
) -> dict[str, Any]:
    scores = pd.DataFrame([metrics["scores"] for metrics in runs.values()])
    made = any(config.datasets[name].synthetic for name in {e.target, e.pretrain} - {""})
    identity = {
        "protocol": e.protocol,
        "method": e.method,
        "recipe": e.recipe,
        "backbone": e.backbone,
        "width": config.backbones[e.backbone].width if e.backbone else "",
        "pretrain_dataset": e.pretrain,
        "pretrain_split": config.datasets[e.pretrain].pretrain_split if e.pretrain else "",
        "dataset": e.target,
        "data": "synthetic" if made else "real",
        "label_percent": e.percent,
        "fraction_rule": e.rule,
    }
    value, source = _published(identity, numbers)
    mean = 100 * scores["miou"].mean()
    return {
        **identity,
        "miou_mean": mean,
        "miou_std": 100 * scores["miou"].std(ddof=1) if len(scores) > 1 else None,
        "seeds": len(scores),
        "classes_present": int(scores["classes_present"].min()),
        "miou_released_convention": 100 * scores["miou_released"].mean(),
        "miou_visible": _visible(runs),
        "published": value,
        "difference": None if made or value is None else mean - value,
        "source": source,
        "run_keys": " ".join(runs),
    }


def _visible(runs: dict[str, dict[str, Any]]) -> float | None:
    """Mean IoU, percent, over the points that a camera sees: to be compared with the teacher's."""
    scores = [metrics["scores_visible"]["miou"] for metrics in runs.values() if "scores_visible" in metrics]
    return 100 * sum(scores) / len(scores) if scores else None


def _published(identity: dict[str, Any], numbers: pd.DataFrame) -> tuple[float | None, str]:
    """The published number under the same rule, and its source; see `results/published/README.md`."""
    if identity["method"] == TEACHER:
        return None, ""
    same = numbers[(numbers[_IDENTITY] == [identity[name] for name in _IDENTITY]).all(axis=1)]
    same = same[same["confidence"] == "primary"]
    return (None, "") if same.empty else (float(same["value"].iloc[0]), str(same["source"].iloc[0]))


def _per_class(
    config: Config, experiments: list[Experiment], finished: list[dict[str, dict[str, Any]]]
) -> pd.DataFrame:
    """IoU of every class in percent, mean over seeds; empty where a class is absent."""
    rows = []
    for e, runs in zip(experiments, finished, strict=True):
        classes = get_dataset(config.datasets[e.target].format).classes
        iou = pd.DataFrame(
            [metrics["scores"]["iou"] for metrics in runs.values()], columns=classes, dtype=float
        )
        fields = e.model_dump(
            include={"protocol", "method", "recipe", "backbone", "target", "percent", "rule"}
        )
        rows.append({**fields, **(100 * iou.mean())})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The main table for people, a section a data set and protocol; synthetic data are called so."""
    lines = [
        "# Results",
        "",
        f"Configuration `{table['config'].iloc[0]}`. mIoU in percent, mean ± standard deviation.",
    ]
    for (dataset, data, protocol), part in table.groupby(["dataset", "data", "protocol"], sort=False):
        lines += ["", f"## {dataset}, {str(protocol).replace('_', '-')}"]
        if data == "synthetic":
            lines += ["", SYNTHETIC]
        lines += ["", *_markdown_rows(part, synthetic=data == "synthetic")]
    return "\n".join(lines) + "\n"


def _markdown_rows(part: pd.DataFrame, synthetic: bool) -> list[str]:
    name = "published (real data)" if synthetic else "published"
    columns = [
        "method",
        "backbone",
        "pre-trained on",
        "labels",
        "mIoU",
        "seeds",
        "classes",
        name,
        "source",
        "runs",
    ]
    rows = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in part.itertuples():
        std = "" if pd.isna(row.miou_std) else f" ± {row.miou_std:.1f}"
        published = "" if pd.isna(row.published) else f"{row.published:.1f}"
        if published and not synthetic:
            published += f" ({row.difference:+.1f})"
        cells = (
            f"{row.method} {row.recipe}".strip(),
            f"{row.backbone} × {row.width}" if row.backbone else "",
            f"{row.pretrain_dataset} {row.pretrain_split}".strip(),
            f"{row.label_percent:g} % {row.fraction_rule}".strip() if row.label_percent else "none",
            f"{row.miou_mean:.1f}{std}",
            row.seeds,
            row.classes_present,
            published,
            row.source,
            " ".join(f"`{key}`" for key in row.run_keys.split()),
        )
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return rows
