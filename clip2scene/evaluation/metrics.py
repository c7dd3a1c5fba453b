"""The one metric: a confusion matrix of integer counts over the whole validation set, and the IoU made of it.

Five conventions of mIoU are in use, and they differ by tens of points where classes are absent. Here, a
class that is neither in the labels nor in the predictions has no IoU and does not enter the mean; one that
was predicted but does not occur has IoU 0. The convention of the released code, where such an absent class
counts as 1, is kept beside it for comparison with the papers (SLidR @ 14729d0 and CLIP2Scene @ f37dae7,
utils/metrics.py).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, classes: int) -> np.ndarray:
    """Count points by label and prediction.

    Args:
        predictions: [N] integers 0..C; 0 = no class.
        labels: [N] integers 0..C; 0 = ignored.
        classes: C.

    Returns:
        [C + 1, C + 1] int64, a row a label, a column a prediction. Row 0 holds the ignored points.
    """
    size = classes + 1
    cells = np.asarray(labels, np.int64) * size + np.asarray(predictions, np.int64)
    return np.bincount(cells.ravel(), minlength=size * size).reshape(size, size)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of classes 1..C, [C] float64; NaN for one that neither side has.

    Ignored points do not count; a point of a class that was given no class (column 0) counts as missed.
    """
    labelled = confusion[1:]
    hits = np.diagonal(labelled, offset=1)
    union = labelled.sum(1) + labelled[:, 1:].sum(0) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network scored on a validation set.

    Attributes:
        classes: Names of classes 1..C.
        confusion: [C + 1, C + 1] int64; see `confusion_matrix`.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """IoU of each class, [C]; see `iou`."""
        return iou(self.confusion)

    @property
    def present(self) -> int:
        """Number of classes that have an IoU."""
        return int((~np.isnan(self.iou)).sum())

    @property
    def miou(self) -> float:
        """Mean IoU of the classes present; NaN if none is."""
        return float(np.nanmean(self.iou)) if self.present else float("nan")

    @property
    def miou_released(self) -> float:
        """Mean IoU in the released code's convention: an absent class counts as 1."""
        return float(np.nan_to_num(self.iou, nan=1.0).mean())

    @property
    def points(self) -> int:
        """Number of points that were scored: those with a label."""
        return int(self.confusion[1:].sum())

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; an undefined IoU is null."""
        per_class = {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(self.classes, self.iou, strict=True)
        }
        return {
            "miou": self.miou if self.present else None,
            "miou_released": self.miou_released,
            "classes_present": self.present,
            "points": self.points,
            "iou": per_class,
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The scores that `to_json` wrote."""
        return cls(tuple(values["iou"]), np.asarray(values["confusion"], np.int64))
