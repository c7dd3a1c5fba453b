"""MinkowskiEngine backend: the same layers on MinkowskiEngine 0.5.4, an optional dependency."""

import collections
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from clip2scene.errors import InputError
from clip2scene.sparse.coordinates import sort_voxels, unpack
from clip2scene.sparse.linear import LinearMap
from clip2scene.sparse.normalisation import normalise_in_steps

collections.Sequence = Sequence  # MinkowskiEngine 0.5.4 expects it there, as in Python < 3.10
try:
    import MinkowskiEngine as ME
    from MinkowskiEngineBackend._C import ConvolutionMode
except ModuleNotFoundError as error:
    raise InputError(
        f"backend: minkowski: {error.name} is not installed; expected the extra clip2scene[minkowski] "
        "(docs/engine.md), or backend: native"
    ) from None


class MinkowskiGeometry:
    """`Backend` that keeps the voxels of a batch in a MinkowskiEngine coordinate manager.

    Weights, coordinates and results are the same as in the native backend. The order of the voxels differs:
    at stride 1 they are sorted as in the native backend, at other strides they are in the order of
    MinkowskiEngine's hash table. MinkowskiEngine computes only in float32 and float64, also under autocast.
    """

    def __init__(self, coordinates: Tensor) -> None:
        """Insert the finest voxels [V, 4] int32 (cloud, x, y, z) into the manager; see `Backend`.

        Raises:
            InputError: as in `Backend`, or the voxels are on a GPU and MinkowskiEngine was built without
                CUDA.
        """
        if coordinates.is_cuda and not ME.is_cuda_available():
            raise InputError(
                "backend: minkowski: the voxels are on a GPU, but MinkowskiEngine was built without CUDA; "
                "expected device: cpu, or backend: native"
            )
        keys, order = sort_voxels(coordinates)
        self._voxels = unpack(keys)
        kind = ME.CoordinateMapType.CUDA if coordinates.is_cuda else ME.CoordinateMapType.CPU
        self._manager = ME.CoordinateManager(D=3, coordinate_map_type=kind)
        self._keys = {1: self._manager.insert_and_map(self._voxels, 1)[0]}
        self._shares: dict[int, Tensor] = {}
        self._sort = LinearMap.permutation(order)

    def sort(self, features: Tensor) -> Tensor:
        """Reorder features [V, C] from the input order to key order; see `Backend`."""
        return self._sort(features)

    def unsort(self, features: Tensor) -> Tensor:
        """Reorder features [V, C] from key order to the input order; see `Backend`."""
        return self._sort.transpose(features)

    def coordinates(self, stride: int) -> Tensor:
        """Return the voxels of a stride, [V_s, 4] int32 (cloud, x, y, z), in MinkowskiEngine's order."""
        return self._manager.get_coordinates(self._key(stride))

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
        features = _float(features)
        if kernel_size == 1 and stride == 1:
            return features @ weight[0]
        function = ME.MinkowskiConvolutionTransposeFunction if transposed else ME.MinkowskiConvolutionFunction
        return function.apply(
            features,
            weight,
            _kernel(kernel_size, stride, dilation),
            ConvolutionMode.DEFAULT,
            self._key(tensor_stride),
            self._key(tensor_stride // stride if transposed else tensor_stride * stride),
            self._manager,
        )

    def normalise(
        self, features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, relu: bool
    ) -> Tensor:
        """Normalise features [V, C], add a shortcut and apply ReLU; see `Backend`."""
        return normalise_in_steps(features, norm, shortcut, relu)

    def interpolate(self, features: Tensor, stride: int) -> Tensor:
        """Interpolate features [V_s, C] of a stride at the finest voxels, to [V, C]; see `Backend`.

        MinkowskiEngine counts an empty corner as zero. Dividing by the total weight of the occupied corners
        removes its influence.
        """
        features = _float(features)
        if stride not in self._shares:
            self._shares[stride] = self._interpolate(features.new_ones(len(features), 1), stride)
        return self._interpolate(features, stride) / (self._shares[stride] + 1e-8)

    def average(self, features: Tensor, stride: int) -> Tensor:
        """Average features [V, C] over each voxel of a stride, to [V_s, C]; see `Backend`."""
        return ME.MinkowskiLocalPoolingFunction.apply(
            _float(features),
            ME.PoolingMode.LOCAL_AVG_POOLING,
            _kernel(stride, stride, 1),
            self._key(1),
            self._key(stride),
            self._manager,
        )

    def _interpolate(self, features: Tensor, stride: int) -> Tensor:
        points = self._voxels.to(features.dtype)
        return ME.MinkowskiInterpolationFunction.apply(features, points, self._key(stride), self._manager)[0]

    def _key(self, stride: int) -> ME.CoordinateMapKey:
        if stride not in self._keys:
            self._keys[stride] = self._manager.stride(self._key(stride // 2), 2)
        return self._keys[stride]


@cache
def _kernel(kernel_size: int, stride: int, dilation: int) -> ME.KernelGenerator:
    return ME.KernelGenerator(kernel_size, stride, dilation, dimension=3)


def _float(features: Tensor) -> Tensor:
    """Cast features [V, C] to float32, unless they are float64."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
