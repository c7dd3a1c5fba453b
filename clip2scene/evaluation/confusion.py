"""Predictions of a validation split as they are kept: a confusion matrix a keyframe. Imports no torch.

Every score, interval and table is read from these files, so that another metric costs seconds.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from clip2scene.errors import InputError
from clip2scene.files import atomic

POINT_SETS = ("all", "visible")
"""Sets of points that are scored: all that have a label, and those of them that a camera sees."""


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


def write_confusion(path: Path, ids: Sequence[str], counts: Mapping[str, np.ndarray]) -> None:
    """Write confusion matrices, whole or not at all.

    Args:
        path: ``confusion.npz``.
        ids: F keyframe ids.
        counts: [F, C + 1, C + 1] integers by set of points: a row a label, a column a prediction
            (`confusion_matrix`).
    """
    with atomic(path) as temporary:
        np.savez_compressed(temporary, ids=np.array(ids), **counts)


def read_confusion(path: Path, classes: int) -> dict[str, np.ndarray]:
    """Read the confusion matrices of a run.

    Args:
        path: ``confusion.npz``.
        classes: C.

    Returns:
        Counts [F, C + 1, C + 1] int64 by set of points.

    Raises:
        InputError: the file is missing, damaged, or holds matrices of another shape or negative counts.
    """
    try:
        with np.load(path) as file:
            counts = {name: file[name] for name in file.files if name in POINT_SETS}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected confusion matrices") from None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: expected confusion matrices, found a damaged file ({error})") from None
    expected = (classes + 1, classes + 1)
    for name, values in counts.items():
        if values.ndim != 3 or values.shape[1:] != expected or values.dtype.kind not in "iu":
            found, wanted = f"{values.dtype} {list(values.shape)}", f"[F, {classes + 1}, {classes + 1}]"
            raise InputError(f"{path}: {name}: found {found}; expected integers {wanted}")
        if values.min(initial=0) < 0:
            raise InputError(f"{path}: {name}: holds negative counts")
    if "all" not in counts and "visible" not in counts:
        raise InputError(f"{path}: expected matrices named {' or '.join(POINT_SETS)}")
    return {name: values.astype(np.int64) for name, values in counts.items()}
