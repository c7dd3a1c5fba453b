"""Test cases for MinkowskiEngine's operators and ours, in float64."""

import torch
from deterministic import draw, integers, street
from torch import Tensor

# kernel size, stride, dilation, transposed
CONVOLUTIONS = [
    *((kernel_size, 1, 1, False) for kernel_size in (1, 2, 3, 5)),
    *((kernel_size, 1, 2, False) for kernel_size in (2, 3)),
    *((kernel_size, 2, 1, False) for kernel_size in (1, 2, 3, 5)),
    *((kernel_size, 2, 1, True) for kernel_size in (2, 3, 5)),
]
IN_CHANNELS, OUT_CHANNELS = 2, 3
POOLINGS = (2, 4, 8)  # strides
POINTS = 0.4 * draw("points", 1000, 3)  # metres; at 0.1 m, most voxels hold several points
NETWORK_CHANNELS = 1


def block() -> Tensor:
    """Return voxels [V, 4] int32 of two clouds around the origin, 1/6 of the grid filled, in random order."""
    voxels = torch.cat([integers("clouds", 2, 250, 1), integers("block", 9, 250, 3) - 5], dim=1)
    voxels = torch.unique(voxels, dim=0)
    return voxels[draw("order of the block", len(voxels)).argsort()].int()


def streets() -> Tensor:
    """Return voxels [V, 4] int32 of two streets around the origin, in random order."""
    return street(clouds=2, n=300) - torch.tensor([0, 24, 25, 16], dtype=torch.int32)


def case(*kind: object, rows: int, channels: int) -> Tensor:
    """Return features [rows, channels] float64 for a kind of operator."""
    return draw(" ".join(map(str, kind)), rows, channels).double()


def kernel(*kind: object, kernel_size: int) -> Tensor:
    """Return weights [kernel_size ** 3, in, out] float64 for a kind of convolution."""
    return draw(" ".join(map(str, kind)), kernel_size**3, IN_CHANNELS, OUT_CHANNELS).double()


def name(kernel_size: int, stride: int, dilation: int, transposed: bool) -> str:
    """Return the key of a convolution's numbers."""
    return f"kernel{kernel_size}_stride{stride}_dilation{dilation}{'_transposed' if transposed else ''}"


def fingerprint(name: str, gradient: Tensor) -> Tensor:
    """Return a gradient's norm and its dot product with a vector drawn for its parameter, [2] float64."""
    flat = gradient.flatten().double()
    return torch.stack([flat.norm(), flat @ draw(f"{name} probe", len(flat)).double()])
