"""Voxel coordinates as sorted 64-bit keys.

A voxel (cloud, x, y, z) is one integer with a field of bits for each, x in the lowest. So the order of the
keys is that of (cloud, z, y, x), the key of a neighbour is the key plus a constant, and the coarser voxel
that holds a voxel is its key with the low bits of each field cleared: floor division, right for negative
coordinates too.
"""

import torch
from torch import Tensor

from clip2scene.errors import InputError

_BITS = 17  # an axis; three axes and 12 bits of cloud make 63, so that keys stay positive
_BIAS = 1 << (_BITS - 1)
_REACH = 1 << 10  # how far kernels may look beyond the outermost voxel without leaving its field
LIMIT = _BIAS - _REACH  # 64,512 voxels: 6.4 km at 0.1 m
MAX_CLOUDS = 1 << (63 - 3 * _BITS)


def pack(coordinates: Tensor) -> Tensor:
    """Keys [V] int64 of voxels [V, 4] (cloud, x, y, z).

    Raises:
        InputError: there is no voxel, the tensor is not an integer one of that shape, or one is out of range.
    """
    if coordinates.ndim != 2 or coordinates.shape[1] != 4 or coordinates.is_floating_point():
        found = f"{coordinates.dtype} of shape {list(coordinates.shape)}"
        raise InputError(f"coordinates: expected integers of shape [V, 4] (cloud, x, y, z), found {found}")
    if len(coordinates) == 0:
        raise InputError("coordinates: the point cloud is empty, expected at least one voxel")
    clouds, xyz = coordinates[:, 0].long(), coordinates[:, 1:].long()
    if bool(((clouds < 0) | (clouds >= MAX_CLOUDS) | (xyz.abs() > LIMIT).any(1)).any()):
        lowest, highest = coordinates.amin(0).tolist(), coordinates.amax(0).tolist()
        raise InputError(
            f"coordinates: expected clouds 0 to {MAX_CLOUDS - 1} and voxels within {LIMIT} of the origin, "
            f"found (cloud, x, y, z) from {lowest} to {highest}"
        )
    x, y, z = (xyz + _BIAS).unbind(1)
    return (((clouds << _BITS | z) << _BITS) | y) << _BITS | x


def sort_voxels(coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted keys [V] of voxels [V, 4], and which voxel each is of, [V] int64.

    Raises:
        InputError: there is no voxel, one is out of range, or one occurs twice.
    """
    keys, order = pack(coordinates).sort()
    twice = keys[1:] == keys[:-1]
    if bool(twice.any()):
        voxel = unpack(keys[1:][twice][:1])[0].tolist()
        raise InputError(f"coordinates: expected every voxel once, found (cloud, x, y, z) = {voxel} twice")
    return keys, order


def unpack(keys: Tensor) -> Tensor:
    """Voxels [V, 4] int32 (cloud, x, y, z) of keys [V]."""
    x, y, z = ((keys >> shift & ((1 << _BITS) - 1)) - _BIAS for shift in (0, _BITS, 2 * _BITS))
    return torch.stack((keys >> 3 * _BITS, x, y, z), dim=1).int()


def shift(x: int, y: int, z: int) -> int:
    """What to add to a voxel's key to get the key of its neighbour at (x, y, z)."""
    return x + (y << _BITS) + (z << 2 * _BITS)


def floor(keys: Tensor, stride: int) -> Tensor:
    """Keys of the voxels of `stride`, a power of two, that hold the given ones: c // stride * stride."""
    return keys & ~shift(stride - 1, stride - 1, stride - 1)


def remainder(keys: Tensor, stride: int) -> Tensor:
    """Place [V, 3] (x, y, z) of each voxel in the voxel of `stride` that holds it: c mod stride."""
    return torch.stack([keys >> bits & (stride - 1) for bits in (0, _BITS, 2 * _BITS)], dim=1)
