"""SPVCNN (Tang et al., ECCV 2020), CLIP2Scene's 3D network for lidar."""

import torch
from torch import Tensor, nn

from clip2scene.models.minkunet import Down, Up, conv_norm_relu
from clip2scene.sparse import Backend, SparseTensor


class _PointTransform(nn.Sequential):
    """Linear map of the points' features, with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Linear(in_channels, out_channels), nn.BatchNorm1d(out_channels))

    def forward(self, features: Tensor, geometry: Backend) -> Tensor:
        linear, norm = self
        # The points are the finest voxels, so the engine's products serve.
        features = geometry.convolve(features, linear.weight.t()[None], tensor_stride=1, kernel_size=1)
        return geometry.normalise(features.add_(linear.bias), norm, shortcut=None, relu=True)


class SPVCNN(nn.Module):
    """Trunk of SPVCNN as in runnanchen/CLIP2Scene model/spvcnn.py: a sparse U-Net with a point branch.

    The released code creates its points from the integer voxel coordinates, so the points are the finest
    voxels here. At stride 1 the exchange between the branches is then the identity and is left out. At
    strides 16 and 4, voxel features are interpolated trilinearly at the points, and point features are
    averaged over each voxel. The first voxelisation of the released code floors x * 0.05 / 0.05 in float32,
    which moves some negative coordinates by one. This defect is not reproduced.

    Attributes:
        out_channels: Channels of the output features: those of strides 16, 4 and 1, concatenated.
    """

    def __init__(
        self, in_channels: int, channels: tuple[int, ...], layers: tuple[int, ...], backend: type[Backend]
    ) -> None:
        """Build the network.

        Args:
            in_channels: Channels of the input features.
            channels: Widths of the stem, the 4 encoder levels and the 4 decoder levels (9 numbers).
            layers: Residual blocks in each of the 4 encoder levels and the 4 decoder levels (8 numbers).
            backend: Sparse-convolution backend.
        """
        super().__init__()
        self.out_channels = channels[4] + channels[6] + channels[8]
        self.backend = backend
        self.stem = nn.Sequential(
            conv_norm_relu(in_channels, channels[0], kernel_size=3),
            conv_norm_relu(channels[0], channels[0], kernel_size=3),
        )
        self.down = nn.ModuleList(
            Down(channels[level], channels[level + 1], layers[level]) for level in range(4)
        )
        self.up = nn.ModuleList(
            Up(channels[4 + level], channels[3 - level], channels[5 + level], layers[4 + level])
            for level in range(4)
        )
        self.point_transforms = nn.ModuleList(
            _PointTransform(channels[a], channels[b]) for a, b in ((0, 4), (4, 6), (6, 8))
        )

    def forward(self, coordinates: Tensor, features: Tensor) -> Tensor:
        """Compute the features of every voxel.

        Args:
            coordinates: [V, 4] int32 (cloud, x, y, z), every voxel once; negative coordinates are allowed.
            features: [V, in_channels].

        Returns:
            [V, out_channels], in the order of the input.

        Raises:
            InputError: there is no voxel, a voxel is out of range, or a voxel occurs twice.
        """
        geometry = self.backend(coordinates)
        x0 = self.stem(SparseTensor(geometry.sort(features), geometry))
        x1 = self.down[0](x0)
        x2 = self.down[1](x1)
        x3 = self.down[2](x2)
        x4 = self.down[3](x3)
        z1 = self._to_points(x4).add_(self.point_transforms[0](x0.features, geometry))

        y2 = self.up[1](self.up[0](self._to_voxels(z1, x4), x3), x2)
        z2 = self._to_points(y2).add_(self.point_transforms[1](z1, geometry))

        y4 = self.up[3](self.up[2](self._to_voxels(z2, y2), x1), x0)
        z3 = y4.features + self.point_transforms[2](z2, geometry)
        return geometry.unsort(torch.cat([z1, z2, z3], dim=1))

    @staticmethod
    def _to_points(x: SparseTensor) -> Tensor:
        """Interpolate voxel features [V_s, C] at the points; returns [V, C]."""
        return x.geometry.interpolate(x.features, x.stride)

    @staticmethod
    def _to_voxels(points: Tensor, like: SparseTensor) -> SparseTensor:
        """Average point features [V, C] over the voxels of `like`; returns features [V_s, C]."""
        return like.with_features(like.geometry.average(points, like.stride))
