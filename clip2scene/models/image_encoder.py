"""Frozen self-supervised image encoders, and the decoder of PPKT and SLidR that gives features per pixel.

An encoder checkpoint is a dictionary of ``architecture`` and ``state_dict``. The format does not depend on
the source of the weights.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from clip2scene.errors import InputError
from clip2scene.models.clip import nearest
from clip2scene.models.frozen import Frozen
from clip2scene.models.weights import load_weights, part, read_checkpoint

_CHECKPOINT = "an encoder checkpoint (architecture, state_dict)"
EMBEDDED = {"channels": (16, 32, 64, 128), "stem_width": 16}
"""Arguments of the ``embedded`` encoder: timm's resnet10t with a quarter of its channels."""


def build_encoder(architecture: str) -> nn.Module:
    """Build a timm ResNet without its classifier.

    Args:
        architecture: timm's name of a ResNet, or ``embedded``.

    Returns:
        A module that maps normalised images [L, 3, H, W] float32 to features [L, C, H / 32, W / 32] float32,
        with height and width rounded up.

    Raises:
        InputError: timm does not have the model (the message names the nearest one), or it is not a ResNet.
    """
    if architecture == "embedded":
        return timm.create_model("resnet10t", num_classes=0, global_pool="", **EMBEDDED)
    if architecture not in timm.list_models():
        raise InputError(
            f"image_encoder.architecture: unknown{nearest(architecture, ['embedded', *timm.list_models()])}, "
            f"found {architecture!r}"
        )
    if "layer4" not in (encoder := timm.create_model(architecture, num_classes=0, global_pool=""))._modules:
        raise InputError(f"image_encoder.architecture: expected a ResNet, found {architecture!r}")
    return encoder


def dilate(encoder: nn.Module, stride: int) -> None:
    """Lower a ResNet's stride from 32 to 16, 8 or 4 in place: dilation replaces the last stages' strides.

    This is torchvision's ``replace_stride_with_dilation``, with which SLidR obtains its stride of 4
    (valeoai/SLidR @ 14729d0, model/image_model.py ``DilationFeatureExtractor``). The weights do not change;
    the features become denser.
    """
    stages = (encoder.layer2, encoder.layer3, encoder.layer4)
    dilation = 1
    for stage in {32: (), 16: stages[2:], 8: stages[1:], 4: stages}[stride]:
        for name, module in list(stage.named_modules()):
            if isinstance(module, nn.AvgPool2d):  # in the shortcuts of ResNet-D
                stage.set_submodule(name, nn.Identity())
            elif isinstance(module, nn.Conv2d):
                if module.kernel_size == (3, 3):
                    rate = dilation if module.stride == (2, 2) else 2 * dilation
                    module.dilation = module.padding = (rate, rate)
                module.stride = (1, 1)
        dilation *= 2


class FrozenEncoder(nn.Module):
    """Frozen image encoder that normalises its images with the mean and standard deviation of ImageNet.

    The batch norm statistics do not change, as in SLidR (valeoai/SLidR @ 14729d0,
    pretrain/lightning_trainer.py).

    Attributes:
        out_channels: Channels of the features, C.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = Frozen(encoder)
        self.out_channels: int = encoder.num_features
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Encode RGB images [L, 3, H, W] uint8 to features [L, C, h, w]."""
        return self.encoder((images.float() / 255 - self.mean) / self.std)


def upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample maps [L, C, h, w] bilinearly to [L, C, H, W] with aligned corners.

    On a GPU, torch adds up the gradient in an order that changes from run to run; there, ours is two matrix
    products.
    """
    if features.device.type == "cpu":
        return F.interpolate(features, size, mode="bilinear", align_corners=True)
    return _Upsample.apply(features, size)


class _Upsample(torch.autograd.Function):
    """Bilinear upsampling with aligned corners, whose gradient is the same bit for bit on every run."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.sizes = features.shape[-2:], size
        return torch.ops.aten.upsample_bilinear2d(features, size, True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, columns = (
            torch.ops.aten.upsample_bilinear2d(
                torch.eye(cells, dtype=gradient.dtype, device=gradient.device)[None, None],
                (pixels, cells),
                True,
            )[0, 0]
            for cells, pixels in zip(*ctx.sizes, strict=True)
        )  # [H, h] and [W, w]
        return rows.T @ (gradient @ columns), None


class PixelFeatures(nn.Module):
    """Frozen encoder with a trained decoder: 1 x 1 convolution, bilinear upsampling, L2 normalisation.

    With an encoder of stride 4 this is SLidR's image network; with stride 32 it is PPKT's (valeoai/SLidR
    @ 14729d0, model/image_model.py ``DilationFeatureExtractor``, ``PPKTFeatureExtractor``).
    """

    def __init__(self, encoder: FrozenEncoder, channels: int = 64) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.Conv2d(encoder.out_channels, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB images [L, 3, H, W] uint8 to L2-normalised features [L, channels, H, W]."""
        features = self.decoder(self.encoder(images)).float()
        return F.normalize(upsample(features, images.shape[-2:]), dim=1)

    def at(self, images: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Return ``forward(images)[image, :, row, column]`` without computing the full-size maps.

        Args:
            images: [L, 3, H, W] uint8, RGB.
            image: [M] int64, index of each pixel's image, 0..L-1.
            row: [M] int64, pixel row, 0..H-1.
            column: [M] int64, pixel column, 0..W-1.

        Returns:
            [M, channels] float32, L2-normalised.
        """
        features = self.decoder(self.encoder(images))  # [L, channels, h, w]
        cells = features.float().movedim(1, -1).flatten(0, 2)  # [L * h * w, channels]
        (height, width), (h, w) = images.shape[-2:], features.shape[-2:]
        top, bottom, down = _between(row, height, h)
        left, right, along = _between(column, width, w)

        def corner(y: Tensor, x: Tensor) -> Tensor:
            return cells.index_select(0, (image * h + y) * w + x)

        upper = torch.lerp(corner(top, left), corner(top, right), along)
        lower = torch.lerp(corner(bottom, left), corner(bottom, right), along)
        return F.normalize(torch.lerp(upper, lower, down), dim=1)


def _between(pixel: Tensor, pixels: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells around each pixel of an axis, [M] int64 each, and the second's weight [M, 1]."""
    position = pixel * ((cells - 1) / max(pixels - 1, 1))
    before = position.long()
    return before, (before + 1).clamp(max=cells - 1), (position - before)[:, None]


def load_image_encoder(path: Path, stride: int = 32) -> FrozenEncoder:
    """Load the frozen encoder of a checkpoint.

    Args:
        path: Encoder checkpoint.
        stride: Stride of the features: 32 as in the original network (PPKT), or 16, 8 or 4 by dilation
            (SLidR: 4).

    Raises:
        InputError: the file is missing, damaged or not an encoder checkpoint.
    """
    checkpoint = read_checkpoint(path)
    weights = part(checkpoint, "state_dict", path, _CHECKPOINT)
    if not isinstance(name := checkpoint.get("architecture"), str):
        raise InputError(f"{path}: architecture is {name!r}; expected {_CHECKPOINT}")
    try:
        encoder = build_encoder(name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    load_weights(encoder, weights, path)
    dilate(encoder, stride)
    return FrozenEncoder(encoder)
