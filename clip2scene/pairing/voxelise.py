"""Quantisation: points to voxels."""

import numpy as np
import pandas as pd


def quantise(points: np.ndarray, voxel_size: float, cylindrical: bool = False) -> np.ndarray:
    """The voxel [N, 3] int64 that each point lies in.

    Args:
        points: [N, 3] float32, metres.
        voxel_size: Edge of a voxel, metres.
        cylindrical: Voxels in radius and z of `voxel_size`, and in azimuth of 1 degree (SLidR @ 14729d0,
            pretrain/dataloader_nuscenes.py), rather than in x, y and z.
    """
    if cylindrical:
        x, y, z = points.T
        points = np.stack([np.hypot(x, y), np.degrees(np.arctan2(y, x)) * np.float32(voxel_size), z], 1)
    return np.floor(points / np.float32(voxel_size)).astype(np.int64)


def unique(coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of integer coordinates in order of their first appearance.

    Rows are packed into one int64 key each, so that hashing sees numbers rather than rows.

    Args:
        coordinates: [N, D] int64.

    Returns:
        representative [V], the first row with each value, and inverse [N], row -> value; so
        ``coordinates[representative][inverse] == coordinates``.
    """
    columns = coordinates.T.copy()  # [D, N], contiguous: reductions and packing go along rows
    columns -= columns.min(1, keepdims=True)
    key = np.ravel_multi_index(tuple(columns), tuple(columns.max(1) + 1))
    inverse, values = pd.factorize(key)
    representative = np.empty(len(values), np.int64)
    representative[inverse[::-1]] = np.arange(len(key))[
        ::-1
    ]  # the last assignment, the first appearance, stays
    return representative, inverse
