"""The interface of a result table, and the cells that fill it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from clip2scene import layout
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import read_confusion
from clip2scene.evaluation.metrics import Scores
from clip2scene.experiments import Experiment
from clip2scene.files import sha256
from clip2scene.registry import entry
from clip2scene.reporting.registry import GROUP
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run
from clip2scene.study import Study

SYNTHETIC = (
    "**Synthetic data.** Published numbers are for the real data set and full-size networks: where they "
    "stand beside ours they show which cell this is, and nothing here reproduces or contradicts them."
)


@dataclass(frozen=True)
class Cell:
    """A row of the table of experiments with what its runs scored.

    Attributes:
        experiment: The row.
        runs: The runs that fill it, with the scores of each set of points (``all``, ``visible``).
        synthetic: Whether a data set that it rests on is synthetic.
    """

    experiment: Experiment
    runs: dict[Run, dict[str, Scores]]
    synthetic: bool

    @property
    def scores(self) -> dict[Run, Scores]:
        """The score of each run over all points; of the teacher, over those that a camera sees."""
        return {run: scores.get("all", scores.get("visible")) for run, scores in self.runs.items()}

    @property
    def keys(self) -> str:
        """Keys of the runs, separated by spaces."""
        return " ".join(run.key for run in self.runs)

    def spread(self, value: Callable[[Scores], float]) -> "Spread":
        """Return mean and spread of a number over the seeds of pre-training and of fine-tuning."""
        rows = pd.DataFrame(
            [(run.pretrain_seed, value(scores)) for run, scores in self.scores.items()],
            columns=["pretrain_seed", "value"],
        ).astype({"pretrain_seed": "Int64"})
        starts = rows.groupby("pretrain_seed", dropna=False)["value"]
        within = starts.var(ddof=1).dropna()
        return Spread(
            mean=rows["value"].mean(),
            pretrain_seeds=int(rows["pretrain_seed"].nunique()),
            finetune_seeds=int(starts.size().max()) if self.experiment.seeds else 0,
            pretrain_std=starts.mean().std(ddof=1) if len(starts) > 1 else None,
            finetune_std=within.mean() ** 0.5 if len(within) else None,
        )


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
    ``clip2scene.tables``. Rows of the table of experiments name it in their column ``tables``. Snakemake
    gives it a rule, so that ``snakemake results/<file>`` makes it.

    Attributes:
        files: Names in the results folder; the first is the table itself, as CSV.
        inputs: Files that it reads beside runs, such as published numbers.
    """

    files: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write every one of `files` into the folder `out`, whole or not at all."""


def get_table(name: str) -> Table:
    """Return the table registered as `name`.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    return entry(GROUP, "table", name).load()()


def read_cells(study: Study, table: str) -> list[Cell]:
    """Read the cells of a table from the confusion matrices of its runs.

    Raises:
        InputError: a run is missing or unfinished, or a file of it is not the one that it wrote.
    """
    return [read_cell(study, e) for e in study.experiments if table in e.tables]


def read_cell(study: Study, experiment: Experiment) -> Cell:
    """Read one cell; see `read_cells`."""
    datasets = study.configuration(experiment.variant).datasets
    used = {experiment.target, experiment.pretrain} - {""}
    return Cell(
        experiment,
        {run: read_scores(study, run) for run in study.cell(experiment)},
        any(datasets[name].synthetic for name in used),
    )


def read_scores(study: Study, run: Run) -> dict[str, Scores]:
    """Compute the scores of a run that predicts, by set of points.

    Raises:
        InputError: the run is missing or unfinished, or its file is not the one that it wrote.
    """
    folder = layout.run_folder(study.config, run)
    if not finished(folder):
        raise InputError(f"{folder}: run {run.key} ({run.kind}: {run.title}) is not finished")
    path, written = folder / "confusion.npz", read_description(folder)["files"]
    if sha256(path) != written.get(path.name):
        raise InputError(f"{path}: its SHA-256 is not the one in run.json; the run did not write this file")
    classes = get_dataset(study.configuration(run.variant).datasets[run.target].format).classes
    counts = read_confusion(path, len(classes))
    return {name: Scores(classes, matrices.sum(axis=0)) for name, matrices in counts.items()}
