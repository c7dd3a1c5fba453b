"""Test cases for the convolution kernels: `fetch_on_demand`, `implicit_gemm`."""

from types import ModuleType

import torch

from clip2scene.sparse import Geometry
from clip2scene.sparse.pairs import KernelMap

# kernel size, stride, dilation, transposed
KINDS = [
    (2, 1, 1, False),
    (3, 1, 1, False),
    (3, 1, 2, False),
    (5, 1, 1, False),
    (1, 2, 1, False),
    (2, 2, 1, False),
    (3, 2, 1, False),
    (5, 2, 1, False),
    (2, 2, 1, True),
    (3, 2, 1, True),
]


def scattered(n: int = 100, size: int = 6, clouds: int = 3) -> torch.Tensor:
    """Return voxels [V, 4] int32 of several clouds around the origin."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randint(-size // 2, size // 2, (n, 3), generator=generator)
    cloud = torch.randint(0, clouds, (n, 1), generator=generator)
    return torch.unique(torch.cat([cloud, xyz], 1), dim=0).int()


def kernel_map(kind: tuple[int, int, int, bool], device: str = "cpu", **voxels: int) -> KernelMap:
    kernel_size, stride, dilation, transposed = kind
    built = Geometry(scattered(**voxels).to(device)).kernel_map(1, kernel_size, stride, dilation)
    return built.transpose if transposed else built


def draw(pairs: KernelMap, channels: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw features [V, in], a weight [K, in, out] and the gradient [V', out] of the result."""
    torch.manual_seed(0)
    return (
        torch.randn(pairs.backward.n_targets, channels[0]),
        torch.randn(len(pairs.forward.sizes), *channels),
        torch.randn(pairs.forward.n_targets, channels[1]),
    )


def run(kernels: ModuleType, pairs: KernelMap, drawn: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return the result of a convolution and the gradients of its features and weight."""
    features, weight, upstream = drawn
    return (
        kernels.sum_products(features, weight, pairs.forward),
        kernels.sum_products(upstream, weight.transpose(1, 2), pairs.backward),
        kernels.sum_outer_products(features, upstream, pairs.forward),
    )
