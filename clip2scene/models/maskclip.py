"""MaskCLIP: dense image features in CLIP's joint space, from the values of its last attention.

Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022; chongzhou96/MaskCLIP,
mmseg/models/backbones/vit.py (``return_qkv``) and mmseg/models/decode_heads/maskclip_head.py.
"""

from pathlib import Path

import torch
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from clip2scene.models.clip import load_clip
from clip2scene.models.frozen import Frozen


class MaskCLIP(nn.Module):
    """The frozen image tower of CLIP, read densely.

    Images are resized, in one step, to `image_scale` times their size, rounded to a multiple of the tower's
    stride (patch size, or 32 for a modified ResNet), so that the feature map covers the image exactly.
    (MaskCLIP pads below and to the right instead; both agree at sizes that are multiples, as 224 x 416 is.)

    Attributes:
        embed_dim: Channels of the joint space, D.
        value_channels: Channels of what is projected into it, C.
        stride: Pixels of the enlarged image a feature, along each axis.
    """

    def __init__(
        self,
        clip: CLIP,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
        image_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.tower = Frozen(clip.visual)
        self.embed_dim: int = clip.visual.output_dim
        if isinstance(clip.visual, ModifiedResNet):
            self.stride, self.value_channels = 32, clip.visual.attnpool.v_proj.out_features
        else:
            self.stride, self.value_channels = clip.visual.patch_size[0], clip.visual.conv1.out_channels
        self.image_scale = image_scale
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Dense features of images.

        Args:
            images: [L, 3, H, W] uint8, RGB.

        Returns:
            [L, D, h, w] float32, L2-normalised along D; h = H * image_scale / stride, rounded.
        """
        return self.project(self.values(images))

    @torch.no_grad()
    def values(self, images: Tensor) -> Tensor:
        """Values [L, C, h, w] of the last attention of images [L, 3, H, W], before their projection."""
        size = [
            max(1, round(side * self.image_scale / self.stride)) * self.stride for side in images.shape[-2:]
        ]
        images = F.interpolate(images.float() / 255, size, mode="bilinear", align_corners=False)
        images = (images - self.mean) / self.std
        tower = self.tower.network
        return (resnet_values if isinstance(tower, ModifiedResNet) else vit_values)(tower, images)

    @torch.no_grad()
    def project(self, values: Tensor) -> Tensor:
        """Values [L, C, h, w] in CLIP's joint space: [L, D, h, w], L2-normalised along D."""
        tower, values = self.tower.network, values.movedim(1, -1)
        dense = tower.attnpool.c_proj(values) if isinstance(tower, ModifiedResNet) else values @ tower.proj
        return F.normalize(dense.movedim(-1, 1), dim=1)


def vit_values(tower: VisionTransformer, images: Tensor) -> Tensor:
    """What a ViT projects, densely: the last block with its attention replaced by the identity.

    Args:
        tower: With a patch size of P.
        images: [L, 3, H, W], normalised, H and W multiples of P.

    Returns:
        [L, C, H / P, W / P].
    """
    x = tower.conv1(images)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)  # [L, h * w, C]
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = tower.ln_pre(x + resize_positions(tower.positional_embedding, tower.grid_size, (height, width)))
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = block(x)

    x = x[:, 1:]  # without attention, the class token has no part in the last block
    value_weight, value_bias = last.attn.in_proj_weight.chunk(3)[2], last.attn.in_proj_bias.chunk(3)[2]
    value = last.attn.out_proj(F.linear(last.ln_1(x), value_weight, value_bias))
    x = x + last.ls_1(value)
    x = tower.ln_post(x + last.ls_2(last.mlp(last.ln_2(x))))
    return x.transpose(1, 2).unflatten(2, (height, width))


def resize_positions(embedding: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A ViT's positional embedding [1 + grid, C], class token first, resized (bicubic) to [1 + size, C]."""
    token, positions = embedding[:1], embedding[1:]
    positions = positions.T.unflatten(1, grid)[None]
    positions = F.interpolate(positions, size, mode="bicubic", align_corners=False)
    return torch.cat([token, positions[0].flatten(1).T])


def resnet_values(tower: ModifiedResNet, images: Tensor) -> Tensor:
    """What a modified ResNet's attention pool projects, at every position: v_proj(x).

    Args:
        tower: open_clip's.
        images: [L, 3, H, W], normalised, H and W multiples of 32.

    Returns:
        [L, C, H / 32, W / 32].
    """
    x = tower.stem(images)
    x = tower.layer4(tower.layer3(tower.layer2(tower.layer1(x))))
    return tower.attnpool.v_proj(x.movedim(1, -1)).movedim(-1, 1)


def use_gelu(tower: VisionTransformer) -> None:
    """Give a ViT GELU in place of its activation.

    MaskCLIP does so with OpenAI's weights, which were trained with QuickGELU (chongzhou96/MaskCLIP @ 245d31f,
    configs/_base_/models/maskclip_vit16.py ``act_cfg``), and so does CLIP2Scene. Texts keep their own.
    """
    for block in tower.transformer.resblocks:
        block.mlp.gelu = nn.GELU()


def load_maskclip(
    path: Path, normalise: bool = True, image_scale: float = 1.0, gelu: bool = False
) -> MaskCLIP:
    """MaskCLIP of a teacher checkpoint.

    Args:
        path: Teacher checkpoint.
        normalise: Normalise the images as the teacher was trained; False leaves them in 0..1, as CLIP2Scene's
            released code does.
        image_scale: Factor by which images are enlarged.
        gelu: Run a ViT with GELU, whatever it was trained with; see `use_gelu`.

    Raises:
        InputError: the file is missing or is no teacher checkpoint.
    """
    clip, checkpoint = load_clip(path)
    if gelu and isinstance(clip.visual, VisionTransformer):
        use_gelu(clip.visual)
    if not normalise:
        return MaskCLIP(clip, image_scale=image_scale)
    return MaskCLIP(clip, checkpoint["mean"], checkpoint["std"], image_scale)


def sample_features(
    features: Tensor, image: Tensor, row: Tensor, column: Tensor, size: tuple[int, int]
) -> Tensor:
    """Features at pixels, as bilinear up-sampling to the image's size (align_corners False) would give them.

    Only the pixels asked for are computed: up-sampled maps of 512 channels would take gigabytes.

    Args:
        features: [L, D, h, w].
        image: [M] int64, which of the L images.
        row: [M] int64, 0..H-1.
        column: [M] int64, 0..W-1.
        size: Height and width (H, W) of the images that `row` and `column` count in.

    Returns:
        [M, D].
    """
    maps = features.movedim(1, -1)  # [L, h, w, D]
    top, bottom, down = _neighbours(row, maps.shape[1], size[0])
    left, right, along = _neighbours(column, maps.shape[2], size[1])
    upper = torch.lerp(maps[image, top, left], maps[image, top, right], along)
    lower = torch.lerp(maps[image, bottom, left], maps[image, bottom, right], along)
    return torch.lerp(upper, lower, down)


def _neighbours(pixel: Tensor, cells: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """For pixels [M] of an axis: the cells before and after each [M], and the weight of the latter [M, 1]."""
    position = ((pixel + 0.5) * (cells / pixels) - 0.5).clamp(min=0)
    before = position.long().clamp(max=cells - 1)
    return before, (before + 1).clamp(max=cells - 1), (position - before)[:, None]
