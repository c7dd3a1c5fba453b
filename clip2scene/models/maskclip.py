"""MaskCLIP: dense image features in CLIP's joint space, from the values of its last attention layer.

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

from clip2scene.blockwise import row_blocks
from clip2scene.models.clip import load_clip
from clip2scene.models.frozen import Frozen


class MaskCLIP(nn.Module):
    """Frozen CLIP image tower that returns dense features.

    Images are resized in one step to `image_scale` times their size, rounded to a multiple of the tower's
    stride (patch size, or 32 for a modified ResNet), so the feature map covers the image exactly. The
    original MaskCLIP pads at the bottom and on the right instead. Both agree if the size is a multiple of the
    stride, such as 224 x 416.

    Attributes:
        embed_dim: Channels of the joint space, D.
        value_channels: Channels of the attention values, C.
        stride: Pixels of the resized image per feature, along each axis.
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
        """Return the dense features of images in CLIP's joint space.

        Args:
            images: [L, 3, H, W] uint8, RGB.

        Returns:
            [L, D, h, w] float32, L2-normalised along D; h = H * image_scale / stride, rounded.
        """
        return self.to_joint_space(self.values(images))

    @torch.no_grad()
    def values(self, images: Tensor) -> Tensor:
        """Return the values [L, C, h, w] of the last attention layer for RGB images [L, 3, H, W] uint8."""
        size = [
            max(1, round(side * self.image_scale / self.stride)) * self.stride for side in images.shape[-2:]
        ]
        images = F.interpolate(images.float() / 255, size, mode="bilinear", align_corners=False)
        images = (images - self.mean) / self.std
        tower = self.tower.network
        return (resnet_values if isinstance(tower, ModifiedResNet) else vit_values)(tower, images)

    @torch.no_grad()
    def to_joint_space(self, values: Tensor) -> Tensor:
        """Map values [L, C, h, w] into CLIP's joint space; returns [L, D, h, w], L2-normalised along D."""
        tower, values = self.tower.network, values.movedim(1, -1)
        dense = tower.attnpool.c_proj(values) if isinstance(tower, ModifiedResNet) else values @ tower.proj
        return F.normalize(dense.movedim(-1, 1).float(), dim=1)


def vit_values(tower: VisionTransformer, images: Tensor) -> Tensor:
    """Return a ViT's values at every patch, with the attention of the last block replaced by the identity.

    Args:
        tower: ViT with a patch size of P.
        images: [L, 3, H, W] float32, normalised, H and W multiples of P.

    Returns:
        [L, C, H / P, W / P] float32, before the layer that maps them into the joint space.
    """
    x = tower.conv1(images)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)  # [L, h * w, C]
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = tower.ln_pre(x + resize_positions(tower.positional_embedding, tower.grid_size, (height, width)))
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = block(x)

    x = x[:, 1:]  # without attention, the class token does not affect the last block
    value_weight, value_bias = last.attn.in_proj_weight.chunk(3)[2], last.attn.in_proj_bias.chunk(3)[2]
    value = last.attn.out_proj(F.linear(last.ln_1(x), value_weight, value_bias))
    x = x + last.ls_1(value)
    x = tower.ln_post(x + last.ls_2(last.mlp(last.ln_2(x))))
    return x.transpose(1, 2).unflatten(2, (height, width))


def resize_positions(embedding: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Resize a ViT's positional embedding to another grid of patches, bicubically.

    Args:
        embedding: [1 + h * w, C] float32, class token first.
        grid: Height and width (h, w) of the embedding's grid.
        size: Height and width (H, W) of the new grid.

    Returns:
        [1 + H * W, C] float32; the class token is unchanged.
    """
    token, positions = embedding[:1], embedding[1:]
    positions = positions.T.unflatten(1, grid)[None]
    positions = F.interpolate(positions, size, mode="bicubic", align_corners=False)
    return torch.cat([token, positions[0].flatten(1).T])


def resnet_values(tower: ModifiedResNet, images: Tensor) -> Tensor:
    """Return the values of a modified ResNet's attention pool at every position: v_proj(x).

    Args:
        tower: open_clip's modified ResNet.
        images: [L, 3, H, W] float32, normalised, H and W multiples of 32.

    Returns:
        [L, C, H / 32, W / 32] float32, before the layer that maps them into the joint space.
    """
    x = tower.stem(images)
    x = tower.layer4(tower.layer3(tower.layer2(tower.layer1(x))))
    return tower.attnpool.v_proj(x.movedim(1, -1)).movedim(-1, 1)


def use_gelu(tower: VisionTransformer) -> None:
    """Replace a ViT's activation by GELU, in place.

    MaskCLIP does so for OpenAI's weights, which were trained with QuickGELU (chongzhou96/MaskCLIP @ 245d31f,
    configs/_base_/models/maskclip_vit16.py ``act_cfg``), and CLIP2Scene follows it. The text tower keeps its
    own activation.
    """
    for block in tower.transformer.resblocks:
        block.mlp.gelu = nn.GELU()


def load_maskclip(
    path: Path, normalise: bool = True, image_scale: float = 1.0, gelu: bool = False
) -> MaskCLIP:
    """Load MaskCLIP from a teacher checkpoint.

    Args:
        path: Teacher checkpoint.
        normalise: Normalise the images as in the teacher's training. False leaves them in 0..1, as in
            CLIP2Scene's released code.
        image_scale: Factor by which images are enlarged.
        gelu: Run a ViT with GELU, regardless of the activation it was trained with; see `use_gelu`.

    Raises:
        InputError: the file is missing or is not a teacher checkpoint.
    """
    clip, checkpoint = load_clip(path)
    if gelu and isinstance(clip.visual, VisionTransformer):
        use_gelu(clip.visual)
    if not normalise:
        return MaskCLIP(clip, image_scale=image_scale)
    return MaskCLIP(clip, checkpoint["mean"], checkpoint["std"], image_scale)


@torch.no_grad()
def sample_features(
    features: Tensor, image: Tensor, row: Tensor, column: Tensor, size: tuple[int, int]
) -> Tensor:
    """Sample features at pixels, as if upsampled bilinearly to the image size (align_corners=False).

    Only the requested pixels are computed: upsampled maps of 512 channels would take gigabytes. There is no
    gradient: the features are those of a frozen teacher.

    Args:
        features: [L, D, h, w] float32.
        image: [M] int64, index of each pixel's image, 0..L-1.
        row: [M] int64, pixel row, 0..H-1.
        column: [M] int64, pixel column, 0..W-1.
        size: Height and width (H, W) of the images to which `row` and `column` refer, in pixels.

    Returns:
        [M, D] float32.
    """
    height, width = features.shape[-2:]
    cells = features.movedim(1, -1).flatten(0, 2)  # [L * h * w, D]
    top, bottom, down = _neighbours(row, height, size[0])
    left, right, along = _neighbours(column, width, size[1])
    corners = [(image * height + y) * width + x for y in (top, bottom) for x in (left, right)]
    result = cells.new_empty(len(image), cells.shape[1])
    for block in row_blocks(*result.shape, result.device):
        a, b, c, d = (cells.index_select(0, corner[block]) for corner in corners)
        upper, lower = torch.lerp(a, b, along[block]), torch.lerp(c, d, along[block])
        torch.lerp(upper, lower, down[block], out=result[block])
    return result


def _neighbours(pixel: Tensor, cells: int, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells around each pixel of an axis, [M] int64 each, and the second's weight [M, 1]."""
    position = ((pixel + 0.5) * (cells / pixels) - 0.5).clamp(min=0)
    before = position.long().clamp(max=cells - 1)
    return before, (before + 1).clamp(max=cells - 1), (position - before)[:, None]
