"""Headerless little-endian arrays, the format in which lidar data sets store points and labels."""

from pathlib import Path

import numpy as np

from clip2scene.errors import InputError
from clip2scene.files import reading

FARTHEST = 1e6
"""Largest coordinate of a point, metres."""


def read_values(path: Path, dtype: type) -> np.ndarray:
    """Read all values [N] of a file as `dtype`.

    Raises:
        InputError: the file is missing, cannot be read, or its size is not a multiple of the item size.
    """
    size = np.dtype(dtype).itemsize
    with reading(path, f"a file of {size} bytes a value"):
        data = path.read_bytes()
    if len(data) % size:
        raise InputError(f"{path}: {len(data)} bytes; expected a multiple of {size}")
    return np.frombuffer(data, dtype)


def read_cloud(path: Path, columns: int) -> np.ndarray:
    """Read the points [N, `columns`] float32 of a file; x, y and z come first.

    Raises:
        InputError: the file is missing, truncated, empty, or holds points that cannot be (`check_points`).
    """
    values = read_values(path, np.float32)
    if values.size == 0 or values.size % columns:
        expected = f"expected {4 * columns} for each point and at least one point"
        raise InputError(f"{path}: {values.nbytes} bytes; {expected}")
    values = values.reshape(-1, columns)
    check_points(path, values)
    return values


def check_points(path: Path, values: np.ndarray, noun: str = "point") -> None:
    """Refuse points that cannot be a scan.

    Args:
        path: File they come from.
        values: [N, 3 or more] float32; x, y and z, metres, come first.
        noun: Name of a point in the message.

    Raises:
        InputError: a value is not finite, a coordinate is beyond `FARTHEST`, or all points are one.
    """
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise InputError(f"{path}: {noun} {bad} is {values[bad].tolist()}; expected finite numbers")
    axes = values[:, :3].T  # one axis at a time is ten times as fast as NumPy's minimum along a short axis
    low, high = [float(axis.min()) for axis in axes], [float(axis.max()) for axis in axes]
    if max(*high, *(-value for value in low)) > FARTHEST:
        bad = int(np.flatnonzero((np.abs(values[:, :3]) > FARTHEST).any(1))[0])
        where = values[bad, :3].tolist()
        raise InputError(f"{path}: {noun} {bad} is at {where} m; expected no more than {FARTHEST:g} m")
    if low == high:
        raise InputError(f"{path}: all {len(values)} points are at {low} m; expected the points of a scan")


def check_range(path: Path, values: np.ndarray, name: str, limits: tuple[float, float], slack: float) -> None:
    """Refuse intensities [N, 1] float32 that are on another scale.

    Args:
        path: File they come from.
        values: The intensities.
        name: Their name in the message, e.g. ``remission``.
        limits: Smallest and largest value of the format.
        slack: How far beyond these a value may lie.

    Raises:
        InputError: a value lies farther beyond the limits.
    """
    low, high = float(values.min()), float(values.max())
    if low < limits[0] - slack or high > limits[1] + slack:
        expected = f"expected {limits[0]:g} to {limits[1]:g}"
        raise InputError(f"{path}: {name} of {low:g} to {high:g}; {expected}")
