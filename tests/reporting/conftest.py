"""Finished runs for tables, figures and MLflow, without computing any."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clip2scene import layout
from clip2scene.config import parse_config
from clip2scene.evaluation.confusion import write_confusion
from clip2scene.record import RunRecord
from clip2scene.reporting import ablation, label_fraction, main, results
from clip2scene.runs import Run
from clip2scene.study import Study

COLUMNS = (
    *("protocol", "method", "recipe", "backbone", "pretrain", "target", "percent", "rule"),
    *("pretrain_seeds", "seeds", "variant", "tables"),
)
ROOT = Path(__file__).parents[2]
FRAMES = 40
"""Keyframes of the made-up index, two a scene."""
PREDICTS = {"predict", "annotation_free", "projection"}
CLASSES = 16  # of nuScenes
BUS = 3
TRACKED = (
    {
        "protocol": "finetune", "method": "random", "backbone": "spvcnn", "target": "nuscenes",
        "percent": "100", "seeds": "0 1",
    },
    {
        "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
        "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0 1",
    },
)  # fmt: skip


@pytest.fixture(autouse=True)
def _published(monkeypatch):
    """The published numbers are found from any folder."""
    for module in (main, results, label_fraction, ablation):
        monkeypatch.setattr(module, "PUBLISHED", ROOT / "results/published/published.csv")


@pytest.fixture(autouse=True)
def _commit(monkeypatch):
    """Made-up runs ask git for nothing: two processes a run take longer than all else."""
    monkeypatch.setattr("clip2scene.record.commit", lambda: {"commit": 40 * "c", "dirty": False})


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Study]:
    return _make_study


def _make_study(folder: Path, *rows: dict[str, str], **settings: Any) -> Study:
    """Return a study whose table of experiments and results lie in `folder`."""
    lines = ["\t".join(COLUMNS), *("\t".join(row.get(name, "") for name in COLUMNS) for row in rows)]
    (folder / "experiments.tsv").write_text("\n".join(lines) + "\n")
    values = {
        "experiments": str(folder / "experiments.tsv"),
        "results": str(folder / "results"),
        "teacher": {"pretrained": "openai"},
        "datasets": {"nuscenes": {"root": str(folder / "data")}},
    }
    return Study(parse_config(values | settings, "config.yaml"))


@pytest.fixture(scope="session")
def scored() -> Callable[[float], np.ndarray]:
    return _scored


def _scored(percent: float) -> np.ndarray:
    """Return matrices [2, 17, 17] of two keyframes in which every class but bus has this IoU, percent."""
    matrix = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    for number in range(1, CLASSES + 1):
        if number != BUS:
            hits = round(100 * percent)  # of 10,000 points; the others are given no class
            matrix[number, number], matrix[number, 0] = hits, 10_000 - hits
    half = matrix // 2
    return np.stack([half, matrix - half])


@pytest.fixture(scope="session")
def finish() -> Callable[..., None]:
    return _finish


def _finish(
    study: Study,
    percent: Callable[[Run], float] = lambda run: 30 + 2 * run.seed,
    visible: float | None = None,
    only: str = "",
) -> None:
    """Make the files of every run of a study, as if it had been computed.

    Args:
        study: The study.
        percent: mIoU of a run that predicts, percent.
        visible: mIoU over the points that a camera sees; of the teacher it is the only one.
        only: Key of the one run to make; all of them if empty.
    """
    for run in study.runs.values():
        if only in ("", run.key):
            counts = {}
            if run.kind in PREDICTS:
                counts["visible" if run.kind == "projection" else "all"] = _scored(percent(run))
            if visible is not None and run.kind == "annotation_free":
                counts["visible"] = _scored(visible)
            _write(study, run, counts)


@pytest.fixture(scope="session")
def write_run() -> Callable[..., None]:
    return _write


def _write(study: Study, run: Run, counts: dict[str, np.ndarray], code: str = "c0de") -> None:
    """Make the files of one run.

    These are confusion matrices if it predicts, keyframes and scenes of an index, else two logged steps and a
    loss.
    """
    identity = replace(study.partial_identity(run), code={"fabricated": code})
    record = RunRecord(layout.run_folder(study.config, run), run.kind, run.seed, identity)
    record.begin(study.config, "cpu")
    if counts:
        frames = len(next(iter(counts.values())))
        write_confusion(record.folder / "confusion.npz", [f"frame-{n}" for n in range(frames)], counts)
        record.finish({"frames": frames})
    elif run.kind == "index":
        scenes = {"id": [f"frame-{n}" for n in range(FRAMES)], "scene": [n // 2 for n in range(FRAMES)]}
        pd.DataFrame(scenes).astype(str).to_parquet(record.folder / "index.parquet")
        record.finish()
    elif run.kind in ("pretrain", "finetune", "linear_probe"):
        (record.folder / "metrics.jsonl").unlink(missing_ok=True)
        for step in range(2):
            record.log({"step": step, "epoch": 0, "loss": 1.0 / (step + 1)})
        record.finish({"losses": {"loss": 0.5}, "cost": {"seconds": 2.0}})
    else:
        record.finish()


@pytest.fixture
def tracked(tmp_path) -> Callable[..., Study]:
    """Return a function that makes a finished study of two rows of two seeds, which is sent to an address."""

    def _tracked(uri: str, **tracking: Any) -> Study:
        made = _make_study(tmp_path, *TRACKED, tracking={"uri": uri, **tracking})
        _finish(made)
        return made

    return _tracked
