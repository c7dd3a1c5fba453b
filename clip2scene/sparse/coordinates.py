"""Voxel coordinates as sorted 64-bit keys.

A key packs a voxel (cloud, x, y, z) into the bit fields of one integer, with x in the lowest bits. Sorting
keys therefore sorts voxels by (cloud, z, y, x). The key of a neighbour is the voxel's key plus a constant.
Clearing the low bits of each field gives the coarser voxel that contains the voxel; this is floor division,
which is also correct for negative coordinates.
"""

import torch
from torch import Tensor

from clip2scene.errors import InputError

_BITS = 17  # per axis; three axes and 12 bits for the cloud make 63, so keys are never negative
_BIAS = 1 << (_BITS - 1)
REACH = 1 << 10  # voxels that a kernel may reach beyond the outermost voxel without leaving its bit field
LIMIT = _BIAS - REACH  # 64,512 voxels: 6.4 km with voxels of 0.1 m
_INTEGERS = frozenset({torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64})
MAX_CLOUDS = 1 << (63 - 3 * _BITS)


def pack(coordinates: Tensor) -> Tensor:
    """Pack voxels into keys.

    Args:
        coordinates: [V, 4] integer (cloud, x, y, z), in units of the finest voxel.

    Returns:
        Keys [V] int64, in the order of `coordinates`.

    Raises:
        InputError: there is no voxel, `coordinates` has another shape or does not hold integers, or a voxel
            is out of range.
    """
    if coordinates.ndim != 2 or coordinates.shape[1] != 4 or coordinates.dtype not in _INTEGERS:
        found = f"{coordinates.dtype} of shape {list(coordinates.shape)}"
        raise InputError(f"coordinates: expected integers of shape [V, 4] (cloud, x, y, z), found {found}")
    if len(coordinates) == 0:
        raise InputError("coordinates: the point cloud is empty, expected at least one voxel")
    clouds, xyz = coordinates[:, 0].long(), coordinates[:, 1:].long()
    if bool(((clouds < 0) | (clouds >= MAX_CLOUDS) | ((xyz < -LIMIT) | (xyz > LIMIT)).any(1)).any()):
        lowest, highest = coordinates.amin(0).tolist(), coordinates.amax(0).tolist()
        raise InputError(
            f"coordinates: expected clouds 0 to {MAX_CLOUDS - 1} and voxels within {LIMIT} of the origin, "
            f"found (cloud, x, y, z) from {lowest} to {highest}"
        )
    x, y, z = (xyz + _BIAS).unbind(1)
    return (((clouds << _BITS | z) << _BITS) | y) << _BITS | x


def sort_voxels(coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Sort voxels by key.

    Args:
        coordinates: [V, 4] integer (cloud, x, y, z), in units of the finest voxel.

    Returns:
        The sorted keys [V] int64, and the index of each key's voxel in `coordinates`, [V] int64.

    Raises:
        InputError: see `pack`, or a voxel occurs twice.
    """
    keys, order = pack(coordinates).sort()
    twice = keys[1:] == keys[:-1]
    if bool(twice.any()):
        voxel = unpack(keys[1:][twice][:1])[0].tolist()
        raise InputError(f"coordinates: expected every voxel once, found (cloud, x, y, z) = {voxel} twice")
    return keys, order


def unpack(keys: Tensor) -> Tensor:
    """Return the voxels [V, 4] int32 (cloud, x, y, z) of keys [V] int64."""
    x, y, z = ((keys >> shift & ((1 << _BITS) - 1)) - _BIAS for shift in (0, _BITS, 2 * _BITS))
    return torch.stack((keys >> 3 * _BITS, x, y, z), dim=1).int()


def shift(x: int, y: int, z: int) -> int:
    """Return the constant that turns a voxel's key into the key of its neighbour at offset (x, y, z)."""
    return x + (y << _BITS) + (z << 2 * _BITS)


def floor(keys: Tensor, stride: int) -> Tensor:
    """Return c // stride * stride for keys [V] int64: the containing voxels. `stride` is a power of two."""
    return keys & ~shift(stride - 1, stride - 1, stride - 1)


def remainder(keys: Tensor, stride: int) -> Tensor:
    """Return c mod stride for keys [V] int64: positions (x, y, z) in the containing voxels, [V, 3] int64."""
    return torch.stack([keys >> bits & (stride - 1) for bits in (0, _BITS, 2 * _BITS)], dim=1)
