"""Native backend: the voxels of a batch at every stride, and the maps between them, each built once."""

import torch
from torch import Tensor, nn

from clip2scene.sparse.convolution import convolve, multiply
from clip2scene.sparse.coordinates import floor, remainder, sort_voxels, unpack
from clip2scene.sparse.kernel_map import build_kernel_map, find_neighbours
from clip2scene.sparse.linear import LinearMap
from clip2scene.sparse.normalisation import normalise
from clip2scene.sparse.pairs import KernelMap


class Geometry:
    """Voxels of a batch of point clouds, and the kernel maps that layers share.

    Voxels are sorted by key at every stride. The order of the input therefore does not change the results,
    not even in the last bit, and neighbours are close together in memory.
    """

    def __init__(self, coordinates: Tensor) -> None:
        """Sort the finest voxels [V, 4] int32 (cloud, x, y, z) by key; see `Backend`."""
        keys, order = sort_voxels(coordinates)
        self._levels = {1: keys}
        self._kernel_maps: dict[tuple[int, int, int, int], KernelMap] = {}
        self._linear_maps: dict[tuple[str, int], LinearMap] = {}
        self._sort = LinearMap.permutation(order)

    def sort(self, features: Tensor) -> Tensor:
        """Reorder features [V, C] from the input order to key order; see `Backend`."""
        return self._sort(features)

    def unsort(self, features: Tensor) -> Tensor:
        """Reorder features [V, C] from key order to the input order; see `Backend`."""
        return self._sort.transpose(features)

    def coordinates(self, stride: int) -> Tensor:
        """Return the voxels of a stride, [V_s, 4] int32 (cloud, x, y, z), sorted by cloud, z, y, x."""
        return unpack(self._keys(stride))

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
        """Convolve features [V_in, C_in] with weight [K, C_in, C_out] to [V_out, C_out]; see `Backend`."""
        if kernel_size == 1 and stride == 1:
            return multiply(features, weight)
        fine_stride = tensor_stride // stride if transposed else tensor_stride
        kernel_map = self.kernel_map(fine_stride, kernel_size, stride, dilation)
        return convolve(features, weight, kernel_map.transpose if transposed else kernel_map)

    def normalise(
        self, features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool
    ) -> Tensor:
        """Normalise features [V, C], add a shortcut and apply ReLU; see `Backend`."""
        return normalise(features, norm, shortcut, relu)

    def kernel_map(
        self, tensor_stride: int, kernel_size: int, stride: int = 1, dilation: int = 1
    ) -> KernelMap:
        """Return the kernel map of a convolution (arguments as in `convolve`), built on first use."""
        request = tensor_stride, kernel_size, stride, dilation
        if request not in self._kernel_maps:
            inputs, outputs = self._keys(tensor_stride), self._keys(tensor_stride * stride)
            self._kernel_maps[request] = build_kernel_map(
                inputs, outputs, kernel_size, tensor_stride, dilation
            )
        return self._kernel_maps[request]

    def interpolate(self, features: Tensor, stride: int) -> Tensor:
        """Interpolate features [V_s, C] of a stride at the finest voxels, to [V, C]; see `Backend`."""
        return self._linear_map("interpolate", stride)(features)

    def average(self, features: Tensor, stride: int) -> Tensor:
        """Average features [V, C] over each voxel of a stride, to [V_s, C]; see `Backend`."""
        return self._linear_map("average", stride)(features)

    def _keys(self, stride: int) -> Tensor:
        if stride not in self._levels:
            self._levels[stride] = torch.unique(floor(self._keys(stride // 2), stride))
        return self._levels[stride]

    def _linear_map(self, kind: str, stride: int) -> LinearMap:
        if (kind, stride) not in self._linear_maps:
            build = self._interpolation if kind == "interpolate" else self._averaging
            self._linear_maps[kind, stride] = build(stride)
        return self._linear_maps[kind, stride]

    def _parents(self, stride: int) -> Tensor:
        """Return the index of the voxel of a stride that contains each finest voxel, [V] int64."""
        return torch.searchsorted(self._keys(stride), floor(self._keys(1), stride))

    def _averaging(self, stride: int) -> LinearMap:
        parents, n_parents = self._parents(stride), len(self._keys(stride))
        weights = 1 / torch.bincount(parents, minlength=n_parents)[parents].float()
        voxels = torch.arange(len(parents), device=parents.device)
        return LinearMap.from_entries(voxels, parents, (len(parents), n_parents), weights).transpose

    def _interpolation(self, stride: int) -> LinearMap:
        keys, coarse, parents = self._keys(1), self._keys(stride), self._parents(stride)
        corners = find_neighbours(coarse, coarse, 2, stride).t().contiguous()  # [V_s, 8], x fastest
        upper = remainder(keys, stride) / stride  # [V, 3] in [0, 1): weights of the upper corners
        x, y, z = torch.stack([1 - upper, upper], dim=2).unbind(1)  # [V, 2] each
        weights = (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]).flatten(1)  # [V, 8]
        weights = weights * (corners >= 0).index_select(0, parents)
        weights = weights / (weights.sum(1, keepdim=True) + 1e-8)
        used = weights.flatten().nonzero()[:, 0]
        voxels = used >> 3
        corner = corners.flatten()[parents[voxels] * 8 + (used & 7)]
        return LinearMap.from_entries(voxels, corner, (len(keys), len(coarse)), weights.flatten()[used])
