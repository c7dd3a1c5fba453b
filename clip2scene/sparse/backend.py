"""What layers ask of a backend."""

from typing import Protocol

from torch import Tensor


class Backend(Protocol):
    """The voxels of a batch at every stride, and the operators on features there.

    Coordinates are in units of the finest voxel: the voxels of stride s lie at multiples of s, as in
    MinkowskiEngine. In which order a backend keeps them is its own business.
    """

    def __init__(self, coordinates: Tensor) -> None:
        """Voxels [V, 4] int32 (cloud, x, y, z), each once; negative coordinates are allowed.

        Raises:
            InputError: there is no voxel, one is out of range, or one occurs twice.
        """

    def sort(self, features: Tensor) -> Tensor:
        """Bring features [V, C] from the order in which the voxels were given into that of the backend."""

    def unsort(self, features: Tensor) -> Tensor:
        """The inverse of `sort`."""

    def coordinates(self, stride: int) -> Tensor:
        """Voxels [V_s, 4] int32 (cloud, x, y, z) of a stride, in the backend's order."""

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
            weight: [K, C_in, C_out], K = kernel_size ** 3, x fastest.
            tensor_stride: Stride of the input voxels.
            kernel_size: 1, 2, 3 or 5. Odd kernels are centred, offsets of kernel 2 are 0 and 1.
            stride: Output voxels are floor(c / (tensor_stride * stride)) * (tensor_stride * stride).
            dilation: Spacing of the kernel's offsets, in input voxels.
            transposed: From `tensor_stride` to `tensor_stride / stride`, by the map of the convolution that
                led the other way.

        Returns:
            Features [V_out, C_out].
        """

    def interpolate(self, features: Tensor, stride: int) -> Tensor:
        """Trilinear interpolation of features [V_s, C] of a stride at the finest voxels: [V, C].

        The corners of voxel c are the voxels of the stride around it, from floor(c / s) * s; those that are
        empty count as absent, the weights of the others are scaled to sum to one (torchsparse v1.4.0
        `calc_ti_weights`, with its 1e-8 in the divisor).
        """

    def average(self, features: Tensor, stride: int) -> Tensor:
        """Mean of features [V, C] of the finest voxels over each voxel of a stride: [V_s, C]."""
