"""The one metric: IoU from a confusion matrix over the whole validation set.

Five conventions of mIoU are in use, and they differ by tens of points where classes are absent. Here, a
class that is neither in the labels nor in the predictions has no IoU and does not enter the mean; a class
that was predicted but does not occur has IoU 0. The released code counts an absent class as 1. That
convention is kept beside ours for comparison with the papers (SLidR @ 14729d0 and CLIP2Scene @ f37dae7,
utils/metrics.py).

No run's identity depends on this module: predictions are kept as confusion matrices, and scored when read.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


def iou(confusion: np.ndarray) -> np.ndarray:
    """Return the intersection over union of classes 1..C, [C] float64; NaN for a class that neither side has.

    Ignored points do not count; a point of a class that was given no class (column 0) counts as missed.
    """
    labelled = confusion[1:]
    hits = np.diagonal(labelled, offset=1)
    return ratio(hits, labelled.sum(1) + labelled[:, 1:].sum(0) - hits)


def ratio(hits: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Return IoUs from numbers of points, [..., C] each; NaN where the union is empty."""
    return np.divide(hits, unions, out=np.full(np.shape(hits), np.nan), where=unions > 0)


def mean_iou(iou: np.ndarray) -> np.ndarray:
    """Return the mean IoU of the classes present, [...] of [..., C]; NaN where none is."""
    present = (~np.isnan(iou)).sum(-1)
    return ratio(np.nan_to_num(iou).sum(-1), present)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a network on a validation set.

    Attributes:
        classes: Names of classes 1..C.
        confusion: [C + 1, C + 1] int64; see `clip2scene.evaluation.confusion.confusion_matrix`.
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
        return float(mean_iou(self.iou))

    @property
    def miou_released(self) -> float:
        """Mean IoU in the released code's convention: an absent class counts as 1."""
        return float(np.nan_to_num(self.iou, nan=1.0).mean())

    @property
    def points(self) -> int:
        """Number of points that were scored: those with a label."""
        return int(self.confusion[1:].sum())

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; an undefined IoU is null."""
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
