"""Interface between the sparse layers and the backends that compute them."""

from typing import Protocol

from torch import Tensor, nn


class Backend(Protocol):
    """Voxels of a batch at every stride, and the operators on their features.

    Coordinates are in units of the finest voxel. The voxels of stride s lie at multiples of s, as in
    MinkowskiEngine. Each backend chooses the order in which it stores the voxels.
    """

    def __init__(self, coordinates: Tensor) -> None:
        """Build the finest voxels.

        Args:
            coordinates: [V, 4] int32 (cloud, x, y, z), every voxel once; negative coordinates are allowed.

        Raises:
            InputError: there is no voxel, a voxel is out of range, or a voxel occurs twice.
        """

    def sort(self, features: Tensor) -> Tensor:
        """Reorder features [V, C] of the finest voxels from the input order to the backend's order."""

    def unsort(self, features: Tensor) -> Tensor:
        """Reorder features [V, C] from the backend's order to the input order; the inverse of `sort`."""

    def coordinates(self, stride: int) -> Tensor:
        """Return the voxels of a stride, [V_s, 4] int32 (cloud, x, y, z), in the backend's order."""

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        tensor_stride: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        transposed: bool = False,
    ) -> Tensor:
        """Convolve the features of one stride.

        Args:
            features: [V_in, C_in] at `tensor_stride`.
            weight: [K, C_in, C_out] with K = kernel_size ** 3; offsets are ordered with x fastest.
            tensor_stride: Stride of the input voxels.
            kernel_size: 1, 2, 3 or 5. Odd kernels are centred; a kernel of size 2 has offsets 0 and 1.
            stride: Stride of the convolution. An input voxel c has the output voxel floor(c / s) * s with
                s = tensor_stride * stride.
            dilation: Spacing of the kernel offsets, in input voxels.
            transposed: Upsample from `tensor_stride` to `tensor_stride / stride`, with the kernel map of the
                convolution that downsampled between these strides.

        Returns:
            Features [V_out, C_out] at the output stride.
        """

    def normalise(
        self, features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool
    ) -> Tensor:
        """Normalise features [V, C], add a shortcut [V, C] if there is one, and apply ReLU if `relu`.

        In training, this updates the running statistics of `norm`.
        """

    def interpolate(self, features: Tensor, stride: int) -> Tensor:
        """Interpolate features [V_s, C] of a stride trilinearly at the finest voxels; returns [V, C].

        The corners of voxel c are the 8 voxels of stride s around it, starting at floor(c / s) * s. Empty
        corners are skipped, and the weights of the others are rescaled to sum to one (torchsparse v1.4.0
        `calc_ti_weights`, including its 1e-8 in the divisor).
        """

    def average(self, features: Tensor, stride: int) -> Tensor:
        """Average features [V, C] of the finest voxels over each voxel of a stride; returns [V_s, C]."""
