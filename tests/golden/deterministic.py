"""Deterministic weights and inputs, computed from their names, for the make_*.py scripts and the tests.

Values come from the raw output of PCG64, seeded with the SHA-256 of the name. NumPy keeps this stream fixed
across versions (NEP 19).
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def draw(name: str, *shape: int) -> Tensor:
    """Draw uniform float32 values in [-1, 1) of the given shape."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest(), "little")
    count = math.prod(shape)
    raw = np.random.PCG64(seed).random_raw((count + 1) // 2).view(np.uint32)[:count]
    return torch.from_numpy((raw >> 8).astype(np.float32) * 2**-23 - 1).reshape(shape)


def integers(name: str, below: int, *shape: int) -> Tensor:
    """Draw int64 values 0..below-1 of the given shape."""
    return ((draw(name, *shape).double() + 1) / 2 * below).long()


def weight(name: str, shape: Iterable[int]) -> Tensor:
    """Return a float32 value for the parameter or buffer of this name that keeps feature variance near 1.

    Norms get scales and variances in 0.5..1.5, and shifts and means in -0.5..0.5, so that each has an effect.
    """
    shape = tuple(shape)
    values = draw(name, *shape)
    if len(shape) > 1:
        return values * math.sqrt(3 * max(shape) / math.prod(shape))
    return 0.5 * values + (1.0 if name.endswith((".weight", "running_var")) else 0.0)


def street(clouds: int, n: int) -> Tensor:
    """Return voxels [V, 4] int32 (cloud, x, y, z >= 0), in random order: a ground and a wall per cloud."""
    parts = []
    for cloud in range(clouds):
        plane, up = integers(f"plane {cloud}", 48, n, 2), integers(f"up {cloud}", 3, n, 1)
        ground, wall = torch.cat([plane, up], 1), torch.cat([plane[:, :1], up + 30, plane[:, 1:] // 2], 1)
        parts.append(torch.nn.functional.pad(torch.cat([ground, wall]), (1, 0), value=cloud))
    voxels = torch.unique(torch.cat(parts), dim=0)
    return voxels[draw("order", len(voxels)).argsort(stable=True)].int()


def golden(name: str) -> dict[str, Any]:
    """Read the tensors and lists of names that a ``make_*.py`` wrote to ``<name>.npz``."""
    with np.load(Path(__file__).parent / f"{name}.npz") as file:
        arrays = dict(file)
    return {k: v.tolist() if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in arrays.items()}


def difference(ours: Tensor, official: Tensor) -> float:
    """Return the largest difference of two tensors of one shape, relative to the largest official value."""
    assert ours.shape == official.shape
    return float((ours.detach() - official).abs().max().nan_to_num(torch.inf) / official.abs().max())
