"""Weights and inputs that are the same everywhere: a formula of their name, for generators and tests alike.

Values come from the raw output of PCG64, whose stream NumPy keeps fixed from version to version (NEP 19),
with the SHA-256 of the name as seed.
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
    """Float32 values in [-1, 1), uniform."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest(), "little")
    count = math.prod(shape)
    raw = np.random.PCG64(seed).random_raw((count + 1) // 2).view(np.uint32)[:count]
    return torch.from_numpy((raw >> 8).astype(np.float32) * 2**-23 - 1).reshape(shape)


def integers(name: str, below: int, *shape: int) -> Tensor:
    """Int64 values 0..below-1."""
    return ((draw(name, *shape).double() + 1) / 2 * below).long()


def weight(name: str, shape: Iterable[int]) -> Tensor:
    """A value for the parameter or buffer of this name: such that features keep a variance of about 1.

    Norms get scales and variances in 0.5..1.5, shifts and means in -0.5..0.5, so that each shows.
    """
    shape = tuple(shape)
    values = draw(name, *shape)
    if len(shape) > 1:
        return values * math.sqrt(3 * max(shape) / math.prod(shape))
    return 0.5 * values + (1.0 if name.endswith((".weight", "running_var")) else 0.0)


def street(clouds: int, n: int) -> Tensor:
    """Voxels [V, 4] int32 (cloud, x, y, z), none negative, in no order: a ground and a wall a cloud."""
    parts = []
    for cloud in range(clouds):
        plane, up = integers(f"plane {cloud}", 48, n, 2), integers(f"up {cloud}", 3, n, 1)
        ground, wall = torch.cat([plane, up], 1), torch.cat([plane[:, :1], up + 30, plane[:, 1:] // 2], 1)
        parts.append(torch.nn.functional.pad(torch.cat([ground, wall]), (1, 0), value=cloud))
    voxels = torch.unique(torch.cat(parts), dim=0)
    return voxels[draw("order", len(voxels)).argsort(stable=True)].int()


def golden(name: str) -> dict[str, Any]:
    """The tensors, and lists of names, that ``make_*.py`` wrote."""
    with np.load(Path(__file__).parent / f"{name}.npz") as file:
        arrays = dict(file)
    return {k: v.tolist() if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in arrays.items()}


def difference(ours: Tensor, official: Tensor) -> float:
    """The largest difference of two tensors of one shape, as a share of the largest value."""
    assert ours.shape == official.shape
    return float((ours.detach() - official).abs().max().nan_to_num(torch.inf) / official.abs().max())
