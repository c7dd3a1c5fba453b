"""What the official losses and ours are computed on: small, with every case that their code distinguishes."""

from types import SimpleNamespace

import torch
from deterministic import draw, integers
from torch import Tensor
from torch.nn.functional import normalize

SIZE = 2, 8, 12  # images, rows, columns


def clip2scene() -> SimpleNamespace:
    """Pairs of one batch as runnanchen/CLIP2Scene sees them.

    Voxels share points, points stand in two pairs or none, cells hold from one pair to many more than 8, and
    numbers of cells have gaps. Point features lean towards a text each, so that scores differ.
    """
    voxels, points, pairs, classes, channels = 40, 130, 150, 16, 512
    text = normalize(draw("text", classes, channels), dim=1)
    local, semantic = integers("local", classes, voxels), integers("global", classes, voxels)
    cell = (30 * ((draw("cell", points) + 1) / 2).square()).long()
    cell[cell == 5] = 6
    return SimpleNamespace(
        text=text,
        point_local=1.5 * text[local] + draw("point local", voxels, channels) / 20,
        point_global=3.0 * text[semantic] + draw("point global", voxels, channels) / 20,
        inverse=integers("inverse", voxels, points),
        cell=cell,
        pair_point=integers("pair point", points - 10, pairs),  # the last 10 points are in no image
        pair_pixel=pixels_of(pairs),
        pixels=draw("pixels", SIZE[0], channels, *SIZE[1:]),
        labels=integers("labels", classes, *SIZE),
    )


def slidr() -> SimpleNamespace:
    """Pairs of one batch as valeoai/SLidR sees them: superpixels that hold several points, one, or none."""
    voxels, points, pairs, channels = 60, 80, 90, 64
    return SimpleNamespace(
        voxels=normalize(draw("voxels", voxels, channels), dim=1),
        inverse=integers("inverse", voxels, points),
        pair_point=integers("pair point", points, pairs),
        pair_pixel=pixels_of(pairs),
        pixels=normalize(draw("pixels", SIZE[0], channels, *SIZE[1:]), dim=1),
        superpixels=integers("superpixels", 48, *SIZE),  # of each image, from 0
        superpixels_an_image=50,
    )


def pixels_of(pairs: int) -> Tensor:
    """Image, row and column [pairs, 3] of pairs."""
    return torch.stack([integers(f"pixel {axis}", side, pairs) for axis, side in enumerate(SIZE)], dim=1)


def segmentation() -> SimpleNamespace:
    """Logits, labels, predictions of 17 classes: 0 is ignored, 5 occurs in neither, 16 is only predicted."""
    labels, predictions = integers("segmentation labels", 16, 200), integers("predictions", 17, 200)
    labels[labels == 5], predictions[predictions == 5] = 0, 0
    return SimpleNamespace(
        logits=4 * draw("logits", 200, 17),
        labels=labels,
        predictions=torch.where(draw("hit", 200) < 0, labels, predictions),
    )
