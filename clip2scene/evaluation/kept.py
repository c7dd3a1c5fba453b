"""Predicted keyframes that runs keep for pictures: ``scan-<number>.npz``. Imports no torch.

Every run that predicts a split keeps the same keyframes, so that pictures compare like with like.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import read_arrays
from clip2scene.files import atomic

PICTURES = 3
"""Number of keyframes of a split that are kept."""


@dataclass(frozen=True)
class Scan:
    """A predicted keyframe.

    Attributes:
        id: Identifier of the keyframe.
        points: [N, 3] float32, metres, sensor frame.
        labels: [N] integers 0..C; 0 = ignored.
        prediction: [N] integers 0..C; 0 = no class (of the teacher: no camera sees the point).
    """

    id: str
    points: np.ndarray
    labels: np.ndarray
    prediction: np.ndarray


def pictured(frames: int) -> frozenset[int]:
    """Return the numbers of the keyframes to keep of `frames`: evenly spaced, the first among them."""
    count = min(PICTURES, frames)
    return frozenset(number * frames // count for number in range(count))


def write_scan(
    folder: Path, identifier: str, number: int, points: np.ndarray, labels: np.ndarray, prediction: np.ndarray
) -> None:
    """Write a predicted keyframe into a run's folder; see `Scan`. `number` is its place in the split."""
    with atomic(folder / f"scan-{number:06}.npz") as path:
        np.savez_compressed(path, id=identifier, points=points, labels=labels, prediction=prediction)


def scans_in(folder: Path) -> list[Path]:
    """Return the files of the keyframes that a run kept, in the order of the split."""
    return sorted(folder.glob("scan-*.npz"))


def read_scan(path: Path, classes: int) -> Scan:
    """Read a predicted keyframe.

    Args:
        path: ``scan-<number>.npz``.
        classes: C.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    names = ("id", "points", "labels", "prediction")
    scan = read_arrays(path, "a predicted keyframe", names)
    for name in names:
        if name not in scan:
            raise InputError(f"{path}: lacks {name}; expected {', '.join(names)}")
    if scan["id"].ndim or scan["id"].dtype.kind != "U":
        raise InputError(f"{path}: id: found {scan['id'].dtype} {list(scan['id'].shape)}; expected a text")
    points, n = scan["points"], len(scan["points"]) if scan["points"].ndim else 0
    if points.shape != (n, 3) or points.dtype.kind != "f" or not n or not np.isfinite(points).all():
        found = f"{points.dtype} {list(points.shape)}"
        raise InputError(f"{path}: points: found {found}; expected finite numbers [N, 3], N > 0")
    for name in ("labels", "prediction"):
        values = scan[name]
        if values.shape != (n,) or values.dtype.kind not in "iu":
            found = f"{values.dtype} {list(values.shape)}"
            raise InputError(f"{path}: {name}: found {found}; expected integers [{n}]")
        if values.min() < 0 or values.max() > classes:
            found = f"{values.min()} to {values.max()}"
            raise InputError(f"{path}: {name}: found {found}; expected 0 to {classes}")
    return Scan(str(scan["id"]), points, scan["labels"], scan["prediction"])
