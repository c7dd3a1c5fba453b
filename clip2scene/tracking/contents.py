"""Contents of a run in MLflow: parameters, curves, scores, inputs, files and a picture."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.kept import read_scan, scans_in
from clip2scene.evaluation.metrics import Scores
from clip2scene.layout import run_folder
from clip2scene.provenance import digest
from clip2scene.reporting.base import read_scores
from clip2scene.reporting.figures import draw_scans, synthetic_note
from clip2scene.run_files import read_log, read_metrics
from clip2scene.runs import Product, Run, flat
from clip2scene.study import Study

FILES = ("run.json", "metrics.json", "metrics.jsonl")
_LONGEST = 6000  # MLflow's limit of characters in a parameter
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def parameters(description: dict[str, Any]) -> list[Param]:
    """Return what the run's row says, and its settings with dotted names."""
    values = flat({**description["fields"], "settings": description["settings"]})
    return [Param(name, str(value)[:_LONGEST]) for name, value in values.items()]


def metrics(study: Study, run: Run, end: int, **links: str | None) -> list[Metric]:
    """Return the run's scores in percent, which MLflow shows first, everything that it logged, and its costs.

    Args:
        study: The study.
        run: The run.
        end: Milliseconds since 1970 at which it ended.
        links: What the scores belong to: ``model_id``, ``dataset_name`` and ``dataset_digest``.
    """
    folder = run_folder(study.config, run)
    found = []
    if (folder / "confusion.npz").exists():
        values = scores(read_scores(study, run))
        found += [Metric(name, value, end, 0, **links) for name, value in values.items()]
    if (folder / "metrics.jsonl").exists():
        for line in read_log(folder / "metrics.jsonl"):
            step = int(line.pop("step"))
            found += [Metric(name, value, end, step) for name, value in line.items()]
    if (folder / "metrics.json").exists():
        values = read_metrics(folder)
        values["final"] = values.pop("losses", {})
        found += [Metric(name, value, end, 0) for name, value in numbers(values).items()]
    return found


def scores(by_points: dict[str, Scores]) -> dict[str, float]:
    """Return mIoU and the IoU of each class, percent, by the name that MLflow shows.

    The set of points that counts has plain names (see `clip2scene.reporting.base.Prediction.points`); another
    set is named before the score.
    """
    main = "all" if "all" in by_points else "visible"
    found: dict[str, float] = {}
    for points in sorted(by_points, key=lambda points: points != main):
        of, prefix = by_points[points], "" if points == main else f"{points}/"
        if of.present:
            found[f"{prefix}mIoU"] = 100 * of.miou
        found[f"{prefix}mIoU_released"] = 100 * of.miou_released
        found[f"{prefix}classes_present"] = of.present
        found[f"{prefix}points"] = of.points
        named = zip(of.classes, of.iou, strict=True)
        found |= {f"{prefix}IoU/{name.replace(' ', '_')}": 100 * value for name, value in named if value >= 0}
    return found


def numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return every number of nested values, named by its path.

    MLflow makes a section of charts of what stands before a slash, and shows it before the curves.
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name.replace(" ", "_")] = float(value)
    return found


def inputs(study: Study, run: Run, description: dict[str, Any]) -> list[DatasetInput]:
    """Return the splits and label subsets that a run read, under the digests that stand for them.

    The digest of a split is the hash of the digests in ``run.json`` of what was read of it: ids, calibration,
    sizes of files, labels. It names no place, so that two machines with the same data have the same digest.
    """
    config, found = study.configuration(run.variant), []
    context = "evaluation" if "confusion.npz" in description["files"] else "training"
    for role, source in study.reads(run).items():
        if not isinstance(source, Product) or source.run.kind not in ("index", "subset"):
            continue
        read = {name: description["reads"].get(f"{role}: {name}") for name in source.decisive}
        if None in read.values():
            continue  # what the run read was called otherwise then
        of = source.run
        share = f"{of.percent:g} % {of.rule.partition(':')[0]}" if of.kind == "subset" else ""
        parts = dict.fromkeys(name.partition("/")[0] for name in read) if of.kind == "index" else [share]
        for part in parts:
            own = {name: value for name, value in read.items() if share or name.partition("/")[0] == part}
            place = json.dumps({"uri": str(config.datasets[of.target].root)})
            name = f"{of.target} {part}".strip()
            data = Dataset(name, digest(own), "local", place, profile=json.dumps(own))
            found.append(DatasetInput(data, [InputTag("mlflow.data.context", context)]))
    return found


@contextmanager
def picture(study: Study, run: Run) -> Iterator[Path | None]:
    """Yield a picture of the first keyframe that a run kept: truth, prediction and errors; else None."""
    kept = scans_in(run_folder(study.config, run))
    if not kept:
        yield None
        return
    dataset = get_dataset(study.configuration(run.variant).datasets[run.target].format)
    title = f"{run.title} (run {run.key}){synthetic_note(study, run)}"
    with tempfile.TemporaryDirectory(prefix="clip2scene-") as folder:
        scan = read_scan(kept[0], len(dataset.classes))
        yield draw_scans([scan], dataset, title, Path(folder) / f"{kept[0].stem}.png")


def milliseconds(time: str) -> int:
    """Return a time of ``run.json`` in milliseconds since 1970."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
