"""Headerless little-endian arrays, the format in which lidar data sets store points and labels."""

from pathlib import Path

import numpy as np

from clip2scene.errors import InputError


def read_values(path: Path, dtype: type) -> np.ndarray:
    """Read all values [N] of a file as `dtype`.

    Raises:
        InputError: the file is missing, or its size is not a multiple of the item size.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if len(data) % np.dtype(dtype).itemsize:
        raise InputError(f"{path}: {len(data)} bytes; expected a multiple of {np.dtype(dtype).itemsize}")
    return np.frombuffer(data, dtype)


def read_cloud(path: Path, columns: int) -> np.ndarray:
    """Read the points [N, `columns`] float32 of a file.

    Raises:
        InputError: the file is missing, truncated, empty or holds values that are not finite.
    """
    values = read_values(path, np.float32)
    if values.size == 0 or values.size % columns:
        expected = f"expected {4 * columns} for each point and at least one point"
        raise InputError(f"{path}: {values.nbytes} bytes; {expected}")
    values = values.reshape(-1, columns)
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise InputError(f"{path}: point {bad} is {values[bad].tolist()}; expected finite numbers")
    return values
