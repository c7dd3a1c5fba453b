"""Predictions of a validation split, collected over processes: ``confusion.npz``, and scans for pictures."""

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from clip2scene.datasets.index import Index
from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import confusion_matrix, write_confusion
from clip2scene.evaluation.kept import pictured, write_scan
from clip2scene.record import RunRecord


class Predictions:
    """Collects the confusion matrices of a validation split, keyframe by keyframe.

    Args:
        fabric: Device and processes; each process adds the keyframes that it predicts.
        index: The F keyframes of the split.
        classes: C.
        point_sets: Of `clip2scene.evaluation.confusion.POINT_SETS`.
    """

    def __init__(self, fabric: Fabric, index: Index, classes: int, point_sets: tuple[str, ...]) -> None:
        self._fabric, self._ids, self._classes = fabric, index.ids, classes
        self._pictured = pictured(len(index))
        shape = (len(index), classes + 1, classes + 1)
        self._counts = {name: np.zeros(shape, np.int64) for name in point_sets}

    def add(self, points: str, number: int, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Count the points of a keyframe.

        Args:
            points: Set of points.
            number: Number of the keyframe in the split.
            predicted: [N] integers 0..C; 0 = no class.
            labels: [N] integers 0..C; 0 = ignored.
        """
        self._counts[points][number] += confusion_matrix(predicted, labels, self._classes)

    def keep(
        self, folder: Path, number: int, points: np.ndarray, labels: np.ndarray, predicted: np.ndarray
    ) -> None:
        """Write a keyframe for pictures, if it is one of those that every run of the split keeps.

        Args:
            folder: The run's folder.
            number: Number of the keyframe in the split.
            points: [N, 3] float32, metres.
            labels: [N] integers 0..C; 0 = ignored.
            predicted: [N] integers 0..C; 0 = no class.
        """
        if number in self._pictured:
            write_scan(folder, self._ids[number], number, points, labels, predicted)

    def save(self, record: RunRecord, where: str) -> None:
        """Write the matrices of all processes and finish the run.

        Args:
            record: The run.
            where: Name of the evaluated data, for the message.

        Raises:
            InputError: not one point that is to be scored has a label.
        """
        counts = {}
        for name, mine in self._counts.items():
            total = self._fabric.all_reduce(torch.from_numpy(mine), reduce_op="sum").cpu().numpy()
            if not total[:, 1:].any():
                raise InputError(f"{where}, {name} points: no point has a label, nothing to evaluate")
            counts[name] = total.astype(np.int32)
        if self._fabric.is_global_zero:
            write_confusion(record.folder / "confusion.npz", self._ids, counts)
            record.finish({"frames": len(self._ids)})
