"""Quantisation of points to voxels."""

import math

import numpy as np
import pandas as pd


def quantise(points: np.ndarray, voxel_size: float, cylindrical: bool = False) -> np.ndarray:
    """Return the voxel of each point.

    Args:
        points: [N, 3] float32, metres.
        voxel_size: Edge of a voxel, metres.
        cylindrical: Use cylindrical voxels (radius, azimuth, z) instead of x, y, z: `voxel_size` in radius
            and z, and 1 degree in azimuth (SLidR @ 14729d0, pretrain/dataloader_nuscenes.py).

    Returns:
        [N, 3] int64.
    """
    if cylindrical:
        x, y, z = points.T
        points = np.stack([np.hypot(x, y), np.degrees(np.arctan2(y, x)) * np.float32(voxel_size), z], 1)
    return np.floor(points / np.float32(voxel_size)).astype(np.int64)


def unique(coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of integer coordinates in order of first appearance.

    Each row is packed into one int64 key, so that numbers are hashed instead of rows.

    Args:
        coordinates: [N, D] int64.

    Returns:
        representative [V] int64, the index of the first row with each value, and inverse [N] int64, the
        value of each row, so that ``coordinates[representative][inverse] == coordinates``.
    """
    columns = coordinates.T.copy()  # [D, N], contiguous along N for the reductions
    columns -= columns.min(1, keepdims=True)
    sides = columns.max(1) + 1
    if math.prod(sides.tolist()) < 1 << 63:
        key = np.ravel_multi_index(tuple(columns), tuple(sides))
    else:  # a few points far away: number the values column by column, so that keys stay small
        key = columns[0]
        for column, side in zip(columns[1:], sides[1:], strict=True):
            key = pd.factorize(key)[0] * side + column
    inverse, values = pd.factorize(key)
    representative = np.empty(len(values), np.int64)
    # In reverse, so that the first appearance is assigned last and stays.
    representative[inverse[::-1]] = np.arange(len(key))[::-1]
    return representative, inverse
