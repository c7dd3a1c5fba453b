"""The interface of a result table, and the cells that fill it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import read_confusion, read_ids
from clip2scene.evaluation.metrics import Scores
from clip2scene.experiments import Experiment
from clip2scene.files import reading, sha256
from clip2scene.reporting.registry import shows, table_entry
from clip2scene.reporting.statistics import FEWEST_SCENES, totals
from clip2scene.run_files import finished, read_description, refuse_changed
from clip2scene.runs import Run
from clip2scene.study import Study

SYNTHETIC = (
    "**Synthetic data.** Published numbers are for the real data set and full-size networks: where they "
    "stand beside ours they show which cell this is, and nothing here reproduces or contradicts them."
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The confusion matrices of a run that predicts.

    Attributes:
        classes: Names of classes 1..C.
        counts: [F, C + 1, C + 1] int64 by set of points (``all``, ``visible``), a matrix a keyframe.
        ids: Ids of the F keyframes.
        scenes: Scene of each keyframe.
    """

    classes: tuple[str, ...]
    counts: dict[str, np.ndarray]
    ids: tuple[str, ...]
    scenes: tuple[str, ...]

    @property
    def points(self) -> str:
        """The set of points that counts: all; of the teacher, those that a camera sees."""
        return "all" if "all" in self.counts else "visible"

    def scores(self, points: str = "") -> Scores:
        """Return the scores over a set of points; over the one that counts if none is named."""
        return Scores(self.classes, self.counts[points or self.points].sum(axis=0))

    @property
    def by_scene(self) -> bool:
        """True if scenes are resampled; keyframes are where there are fewer than `FEWEST_SCENES`."""
        return len(set(self.scenes)) >= FEWEST_SCENES

    def totals(self, points: str = "") -> np.ndarray:
        """Return hits and unions of each unit that is resampled; see `clip2scene.reporting.statistics`."""
        units = self.scenes if self.by_scene else self.ids
        return totals(self.counts[points or self.points], units)


@dataclass(frozen=True)
class Cell:
    """A row of the table of experiments with what its runs predicted.

    Attributes:
        experiment: The row.
        runs: The runs that fill it, with their predictions.
        synthetic: Whether a data set that it rests on is synthetic.
    """

    experiment: Experiment
    runs: dict[Run, Prediction]
    synthetic: bool

    @property
    def first(self) -> Prediction:
        """The prediction of the first run: classes, keyframes and scenes are those of all of them."""
        return next(iter(self.runs.values()))

    @property
    def scores(self) -> dict[Run, Scores]:
        """The score of each run over all points; of the teacher, over those that a camera sees."""
        return {run: prediction.scores() for run, prediction in self.runs.items()}

    @property
    def keys(self) -> str:
        """Keys of the runs, separated by spaces."""
        return " ".join(run.key for run in self.runs)

    def totals(self, points: str = "") -> np.ndarray:
        """Return hits and unions of every run and unit, [K, U, 2, C]."""
        return np.stack([prediction.totals(points) for prediction in self.runs.values()])

    def spread(self, value: Callable[[Scores], float]) -> "Spread":
        """Return mean and spread of a number over the seeds of pre-training and of fine-tuning."""
        return self.spreads([[value(scores)] for scores in self.scores.values()])[0]

    def spreads(self, values: ArrayLike) -> "list[Spread]":
        """Return mean and spread of each of N numbers.

        Args:
            values: [R, N], those of each run. A run in which a number is NaN is left out of that number's.
        """
        numbers = pd.DataFrame(np.asarray(values, dtype=np.float64))
        seeds = pd.array([run.pretrain_seed for run in self.runs], dtype="Int64")
        starts = numbers.groupby(seeds, dropna=False)
        runs, means, within = starts.count(), starts.mean(), starts.var(ddof=1)
        number, known = (runs > 0).sum(), (runs[runs.index.notna()] > 0).sum()
        mean, std, pooled = numbers.mean(), means.std(ddof=1), within.mean() ** 0.5
        return [
            Spread(
                mean=mean[n],
                pretrain_seeds=int(known[n]),
                finetune_seeds=int(runs[n].max()) if self.experiment.seeds else 0,
                pretrain_std=std[n] if number[n] > 1 else None,
                finetune_std=None if np.isnan(pooled[n]) else pooled[n],
            )
            for n in numbers
        ]


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and its spread by source.

    Attributes:
        mean: Mean over all runs.
        pretrain_seeds: Number of seeds of pre-training.
        finetune_seeds: Number of seeds of fine-tuning from each of them.
        pretrain_std: Standard deviation over seeds of pre-training, each the mean over its fine-tunings; None
            for fewer than two.
        finetune_std: Standard deviation over seeds of fine-tuning from one pre-training, pooled over
            pre-trainings; None for fewer than two.
    """

    mean: float
    pretrain_seeds: int
    finetune_seeds: int
    pretrain_std: float | None
    finetune_std: float | None


class Table(ABC):
    """A result table: which files it has, and how they are written from its cells.

    A table in another package subclasses this and registers under the entry point group
    ``clip2scene.tables``. Rows of the table of experiments name it in their column ``tables``; a table under
    ``clip2scene.summaries`` has all of them. Snakemake gives it a rule, so that ``snakemake results/<file>``
    makes it.

    Attributes:
        files: Names in the results folder; the first is the table itself, as CSV.
    """

    files: ClassVar[tuple[str, ...]]

    def reads(self, config: Config) -> tuple[Path, ...]:
        """Return the files that it reads beside runs, such as published numbers."""
        return ()

    @abstractmethod
    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write every one of `files` into the folder `out`, whole or not at all."""


def get_table(name: str) -> Table:
    """Return the table registered as `name`.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    return table_entry(name).load()()


def read_cells(study: Study, table: str) -> list[Cell]:
    """Read the cells of a table from the confusion matrices of its runs.

    Raises:
        InputError: no row of the table of experiments names the table, a run is missing or unfinished, or a
            file of it is not the one that it wrote.
    """
    rows = [e for e in study.experiments if shows(table, e)]
    if not rows:
        raise InputError(f"{study.config.experiments}: no row names table {table}; expected one at least")
    return [read_cell(study, e) for e in rows]


def read_cell(study: Study, experiment: Experiment) -> Cell:
    """Read one cell; see `read_cells`."""
    datasets = study.configuration(experiment.variant).datasets
    used = {experiment.target, experiment.pretrain} - {""}
    return Cell(
        experiment,
        {run: read_prediction(study, run) for run in study.cell(experiment)},
        any(datasets[name].synthetic for name in used),
    )


def read_prediction(study: Study, run: Run) -> Prediction:
    """Read what a run predicted.

    Raises:
        InputError: the run is missing or unfinished, its file or the index is not the one that was written,
            or the two do not agree.
    """
    path, classes, counts = _read_counts(study, run)
    ids = read_ids(path)
    for points, matrices in counts.items():
        if len(matrices) != len(ids):
            found = f"{points}: found {len(matrices)} matrices"
            raise InputError(f"{path}: {found}; expected {len(ids)}, one an id")
    return Prediction(classes, counts, ids, _scenes(study, run, ids))


def read_scores(study: Study, run: Run) -> dict[str, Scores]:
    """Compute the scores of a run that predicts, by set of points.

    Raises:
        InputError: the run is missing or unfinished, or its file is not the one that it wrote.
    """
    _, classes, counts = _read_counts(study, run)
    return {points: Scores(classes, matrices.sum(axis=0)) for points, matrices in counts.items()}


def _read_counts(study: Study, run: Run) -> tuple[Path, tuple[str, ...], dict[str, np.ndarray]]:
    """Return the file of a run's confusion matrices, the names of the classes, and the matrices."""
    folder = layout.run_folder(study.config, run)
    if not finished(folder):
        raise InputError(f"{folder}: run {run.key} ({run.kind}: {run.title}) is not finished")
    path, written = folder / "confusion.npz", read_description(folder)["files"]
    if sha256(path) != written.get(path.name):
        raise InputError(f"{path}: its SHA-256 is not the one in run.json; the run did not write this file")
    classes = get_dataset(study.configuration(run.variant).datasets[run.target].format).classes
    return path, classes, read_confusion(path, len(classes))


def _scenes(study: Study, run: Run, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scene of each keyframe, from the index that the run read.

    A run of a protocol that reads no index has keyframes alone: each is taken for a scene.
    """
    path = study.inputs(run).get("index")
    if path is None:
        return ids
    refuse_changed(path)
    with reading(path, "an index (Parquet)", pa.ArrowException):
        table = pq.read_table(path, columns=["id", "scene"])
        scenes = dict(zip(table["id"].to_pylist(), table["scene"].to_pylist(), strict=True))
    if missing := [name for name in ids if name not in scenes]:
        raise InputError(f"{path}: lacks keyframe {missing[0]!r}, which run {run.key} predicted")
    return tuple(scenes[name] for name in ids)
