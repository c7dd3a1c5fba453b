"""Layers on sparse tensors. The layers own the parameters; the geometry, a backend, does the convolution."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from clip2scene.sparse.backend import Backend


@dataclass(frozen=True)
class SparseTensor:
    """Features at the voxels of one stride.

    Attributes:
        features: [V_s, C], in the backend's order.
        geometry: Voxels of the batch at all strides.
        stride: Spacing of the voxels, in units of the finest voxel.
    """

    features: Tensor
    geometry: Backend
    stride: int = 1

    def with_features(self, features: Tensor) -> "SparseTensor":
        """Return a sparse tensor with other features [V_s, C'] at the same voxels."""
        return replace(self, features=features)


def concatenate(*tensors: SparseTensor) -> SparseTensor:
    """Concatenate tensors at the same voxels, with features [V_s, C_i], along their channels."""
    return tensors[0].with_features(torch.cat([tensor.features for tensor in tensors], dim=1))


class SparseConv3d(nn.Module):
    """Sparse convolution with MinkowskiEngine's coordinates and order of offsets (see `Backend.convolve`).

    Attributes:
        kernel: [K, C_in, C_out] float32, offsets with x fastest. Initialised uniformly in +-1 / sqrt(fan) as
            in MinkowskiEngine 0.5.4 and torchsparse 1.4.0; fan is K * C_in, or K * C_out if transposed.
        bias: [C_out] float32, initialised as the kernel, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        transposed: bool = False,
        bias: bool = False,
    ) -> None:
        """Create a convolution with a cubic kernel of edge length 1, 2, 3 or 5 and a stride of 1 or 2."""
        super().__init__()
        if kernel_size not in (1, 2, 3, 5) or stride not in (1, 2):
            raise ValueError(
                f"kernel_size {kernel_size} and stride {stride}: expected 1, 2, 3 or 5, and 1 or 2"
            )
        self.kernel_size, self.stride, self.dilation, self.transposed = (
            kernel_size,
            stride,
            dilation,
            transposed,
        )
        bound = 1 / math.sqrt((out_channels if transposed else in_channels) * kernel_size**3)
        self.kernel = nn.Parameter(
            torch.empty(kernel_size**3, in_channels, out_channels).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound)) if bias else None

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Convolve features [V_in, C_in] at the input's stride to [V_out, C_out] at the output's stride."""
        features = x.geometry.convolve(
            x.features, self.kernel, x.stride, self.kernel_size, self.stride, self.dilation, self.transposed
        )
        if self.bias is not None:
            features = features + self.bias
        stride = x.stride // self.stride if self.transposed else x.stride * self.stride
        return SparseTensor(features, x.geometry, stride)

    def extra_repr(self) -> str:
        """Return the description of the layer that `print` shows."""
        _, in_channels, out_channels = self.kernel.shape
        kind = ", transposed" if self.transposed else ""
        return f"{in_channels}, {out_channels}, kernel {self.kernel_size}, stride {self.stride}{kind}"


class SparseBatchNorm(nn.Module):
    """Batch normalisation over all voxels of the batch, with the ReLU that follows it if `relu`."""

    def __init__(self, channels: int, momentum: float = 0.1, relu: bool = False) -> None:
        """Create a batch norm for `channels` channels; `momentum` is that of its running statistics."""
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, momentum=momentum)
        self.relu = relu

    def forward(self, x: SparseTensor, shortcut: SparseTensor | None = None) -> SparseTensor:
        """Normalise features [V_s, C], add those of a shortcut if there is one, and apply ReLU if `relu`."""
        added = None if shortcut is None else shortcut.features
        return x.with_features(x.geometry.normalise(x.features, self.bn, added, self.relu))

    def extra_repr(self) -> str:
        """Return the description of the layer that `print` shows."""
        return f"relu={self.relu}"
