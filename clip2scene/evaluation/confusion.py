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
from clip2scene.files import atomic, reading

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

    Raises:
        ValueError: a prediction or a label is no integer in 0..C (it would be counted in another cell), or
            their numbers differ.
    """
    size = classes + 1
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape:
        found = f"{list(predictions.shape)} predictions, {list(labels.shape)} labels"
        raise ValueError(f"found {found}; expected as many")
    for name, values in (("predictions", predictions), ("labels", labels)):
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() > classes):
            found = f"{values.min()} to {values.max()} ({values.dtype})"
            raise ValueError(f"{name}: found {found}; expected integers 0 to {classes}")
    cells = labels.astype(np.int64) * size + predictions.astype(np.int64)
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
    counts = read_arrays(path, "confusion matrices", POINT_SETS)
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


def read_ids(path: Path) -> tuple[str, ...]:
    """Read the ids of the keyframes whose confusion matrices a file holds.

    Raises:
        InputError: the file is missing or damaged, or holds no ids that differ.
    """
    ids = read_arrays(path, "confusion matrices", ("ids",)).get("ids", np.array(None))
    if ids.ndim != 1 or ids.dtype.kind != "U" or len(set(ids.tolist())) != len(ids):
        found = f"{ids.dtype} {list(ids.shape)}"
        raise InputError(f"{path}: ids: found {found}; expected a name a keyframe, each once")
    return tuple(ids.tolist())


def read_arrays(path: Path, expected: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read those of the arrays `names` that a file has.

    Raises:
        InputError: the file is missing or is no archive of arrays, or one of the arrays is damaged.
    """
    with reading(path, expected, *_DAMAGE):
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is no whole .npz archive")
        try:
            with np.load(path) as file:
                return {name: file[name] for name in file.files if name in names}
        except ValueError as error:
            if "allow_pickle" in str(error):  # numpy's advice is to run what the file holds
                raise ValueError("it holds Python objects") from None
            raise


_DAMAGE = (
    ValueError, TypeError, KeyError, EOFError, SyntaxError, RuntimeError, MemoryError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors that numpy and zipfile raise for damaged archives."""
