"""Majority: an example of a protocol and a table of one's own.

The protocol predicts the most frequent class of the validation set for every point. The table says how well
that scores: the floor that any method has to beat.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.config import Config
from clip2scene.experiments import Experiment
from clip2scene.files import atomic
from clip2scene.reporting.base import Cell, Table
from clip2scene.runs import Run, Source
from clip2scene.stages.base import Protocol, data, index_product, reader
from clip2scene.study import Study
from clip2scene.task import Task


class Majority(Protocol):
    """The most frequent class, predicted for every point of the validation split."""

    function: ClassVar[str] = "majority:compute"
    message: ClassVar[str] = "Predict the most frequent class"
    labelled: ClassVar[bool] = False

    def cell(self, config: Config, experiment: Experiment) -> list[Run]:
        """Return the one run of a row: nothing in it is random."""
        return [Run("majority", method=experiment.method, target=experiment.target)]

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return which data set and split are predicted."""
        return {"data": data(config, run.target), "split": config.datasets[run.target].val_split}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the index, of which points and labels decide."""
        split = config.datasets[run.target].val_split
        return {"index": index_product(run, run.target, split, "points", "labels")}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the module that reads the data set."""
        return reader(config, run.target)


def compute(task: Task) -> None:
    """Write the confusion matrix of every keyframe."""
    from clip2scene.datasets.index import load_frame, read_index
    from clip2scene.datasets.registry import get_dataset
    from clip2scene.evaluation.confusion import confusion_matrix, write_confusion

    task.record.begin(task.config, "cpu")
    section = task.config.datasets[task.run.target]
    dataset = get_dataset(section.format)
    index = read_index(task.inputs["index"], section.root).split(section.val_split)
    labels = [load_frame(dataset, index.root, row).labels for row in index.frames.itertuples()]
    best = np.bincount(np.concatenate(labels))[1:].argmax() + 1
    counts = [confusion_matrix(np.full_like(each, best), each, len(dataset.classes)) for each in labels]
    write_confusion(task.record.folder / "confusion.npz", index.ids, {"all": np.array(counts)})
    task.record.finish()


class Floors(Table):
    """``table_floors.csv``: the mIoU of each data set's most frequent class, a number from 0 to 1."""

    files: ClassVar[tuple[str, ...]] = ("table_floors.csv",)

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write a row a cell."""
        rows = [
            {"target": cell.experiment.target, "miou": cell.spread(lambda scores: scores.miou).mean}
            for cell in cells
        ]
        with atomic(out / self.files[0]) as path:
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4f")
