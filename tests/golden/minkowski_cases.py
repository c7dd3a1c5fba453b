"""What MinkowskiEngine's operators and ours are computed on; the numbers are float64."""

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
POINTS = 0.4 * draw("points", 1000, 3)  # metres; at 0.1 most voxels hold several
NETWORK_CHANNELS = 1


def block() -> Tensor:
    """Voxels [V, 4] int32 of two clouds around the origin, a sixth of them full, in no order."""
    voxels = torch.cat([integers("clouds", 2, 250, 1), integers("block", 9, 250, 3) - 5], dim=1)
    voxels = torch.unique(voxels, dim=0)
    return voxels[draw("order of the block", len(voxels)).argsort()].int()


def streets() -> Tensor:
    """Voxels [V, 4] int32 of two streets around the origin, in no order."""
    return street(clouds=2, n=300) - torch.tensor([0, 24, 25, 16], dtype=torch.int32)


def case(*kind: object, rows: int, channels: int) -> Tensor:
    """Float64 values [rows, channels] for a kind of operator."""
    return draw(" ".join(map(str, kind)), rows, channels).double()


def kernel(*kind: object, kernel_size: int) -> Tensor:
    """Float64 weights [kernel_size ** 3, in, out]."""
    return draw(" ".join(map(str, kind)), kernel_size**3, IN_CHANNELS, OUT_CHANNELS).double()


def name(kernel_size: int, stride: int, dilation: int, transposed: bool) -> str:
    """What the numbers of a convolution are called."""
    return f"kernel{kernel_size}_stride{stride}_dilation{dilation}{'_transposed' if transposed else ''}"


def fingerprint(name: str, gradient: Tensor) -> Tensor:
    """Norm of a parameter's gradient, and its product with a vector of the parameter's name: [2]."""
    flat = gradient.flatten().double()
    return torch.stack([flat.norm(), flat @ draw(f"{name} probe", len(flat)).double()])
