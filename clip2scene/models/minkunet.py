"""Sparse residual U-Net (MinkUNet; Choy et al., CVPR 2019), and the parts that it shares with SPVCNN."""

from itertools import pairwise

from torch import Tensor, nn

from clip2scene.sparse import Backend, SparseBatchNorm, SparseConv3d, SparseTensor, concatenate

# batch norm momentum outside the residual branches (``bn_momentum`` in valeoai/SLidR and CLIP2Scene)
_MOMENTUM = 0.05


def conv_norm_relu(
    in_channels: int, out_channels: int, momentum: float = 0.1, **kernel: int
) -> nn.Sequential:
    """Build a convolution with batch norm and ReLU; `kernel` holds the convolution's other arguments."""
    conv = SparseConv3d(in_channels, out_channels, **kernel)
    return nn.Sequential(conv, SparseBatchNorm(out_channels, momentum, relu=True))


class BasicBlock(nn.Module):
    """Residual block: relu(x + norm(conv(relu(norm(conv(x)))))).

    The shortcut is a 1x1x1 convolution with batch norm if the width changes, and the identity otherwise.
    """

    def __init__(self, in_channels: int, out_channels: int, momentum: float) -> None:
        """Create two 3x3x3 convolutions; `momentum` applies to the batch norm of the shortcut."""
        super().__init__()
        self.conv1 = SparseConv3d(in_channels, out_channels, kernel_size=3)
        self.norm1 = SparseBatchNorm(out_channels, relu=True)
        self.conv2 = SparseConv3d(out_channels, out_channels, kernel_size=3)
        self.norm2 = SparseBatchNorm(out_channels, relu=True)
        self.downsample: nn.Module = nn.Identity()
        if in_channels != out_channels:
            shortcut = SparseConv3d(in_channels, out_channels, kernel_size=1)
            self.downsample = nn.Sequential(shortcut, SparseBatchNorm(out_channels, momentum))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map features [V_s, C_in] to [V_s, C_out] at the same voxels."""
        y = self.conv2(self.norm1(self.conv1(x)))
        return self.norm2(y, shortcut=self.downsample(x))


def _blocks(in_channels: int, out_channels: int, n_blocks: int, momentum: float) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * n_blocks
    return nn.Sequential(*(BasicBlock(a, b, momentum) for a, b in pairwise(widths)))


class Down(nn.Module):
    """Encoder level: a strided convolution that keeps the width, then residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, n_blocks: int, momentum: float = 0.1) -> None:
        """Create the level; `momentum` applies to the batch norms outside the residual branches."""
        super().__init__()
        self.conv = conv_norm_relu(in_channels, in_channels, momentum, kernel_size=2, stride=2)
        self.blocks = _blocks(in_channels, out_channels, n_blocks, momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map features [V_s, C_in] at stride s to [V_2s, C_out] at stride 2s."""
        return self.blocks(self.conv(x))


class Up(nn.Module):
    """Decoder level: a transposed convolution, concatenation with the skip features, then residual blocks."""

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, n_blocks: int, momentum: float = 0.1
    ) -> None:
        """Create the level; `momentum` applies to the batch norms outside the residual branches."""
        super().__init__()
        self.conv = conv_norm_relu(
            in_channels, out_channels, momentum, kernel_size=2, stride=2, transposed=True
        )
        self.blocks = _blocks(out_channels + skip_channels, out_channels, n_blocks, momentum)

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        """Map features [V_2s, C_in] and skip features [V_s, C_skip] of the encoder to [V_s, C_out]."""
        return self.blocks(concatenate(self.conv(x), skip))


class MinkUNet(nn.Module):
    """Trunk of Res16UNet34C and MinkUNet14A.

    Sources: valeoai/SLidR model/res16unet.py (Res16UNet34C), CLIP2Scene model/minkunet.py (MinkUNet14A).

    Attributes:
        out_channels: Channels of the output features.
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
        self.out_channels = channels[8]
        self.backend = backend
        self.stem = conv_norm_relu(in_channels, channels[0], _MOMENTUM, kernel_size=3)
        self.down = nn.ModuleList(
            Down(channels[level], channels[level + 1], layers[level], _MOMENTUM) for level in range(4)
        )
        self.up = nn.ModuleList(
            Up(channels[4 + level], channels[3 - level], channels[5 + level], layers[4 + level], _MOMENTUM)
            for level in range(4)
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
        encoded = [self.stem(SparseTensor(geometry.sort(features), geometry))]
        for down in self.down:
            encoded.append(down(encoded[-1]))
        x = encoded.pop()
        for up in self.up:
            x = up(x, encoded.pop())
        return geometry.unsort(x.features)
