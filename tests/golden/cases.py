"""Small inputs for the official losses and ours that cover every case their code distinguishes."""

from types import SimpleNamespace

import torch
from deterministic import draw, integers
from torch import Tensor
from torch.nn.functional import normalize

SIZE = 2, 8, 12  # images, rows, columns


def clip2scene() -> SimpleNamespace:
    """Return the pairs of one batch in the layout of runnanchen/CLIP2Scene.

    Voxels hold several points, points occur in several pairs or none, cells hold from one pair to many more
    than 8, and cell numbers have gaps. Each point feature is close to one text, so that scores differ.
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
        grid_cell=cell,
        pair_point=integers("pair point", points - 10, pairs),  # the last 10 points are outside all images
        pair_pixel=pixels_of(pairs),
        pixels=draw("pixels", SIZE[0], channels, *SIZE[1:]),
        labels=integers("labels", classes, *SIZE),
    )


def slidr() -> SimpleNamespace:
    """Return the pairs of one batch in the layout of valeoai/SLidR.

    Superpixels hold several points, one, or none.
    """
    voxels, points, pairs, channels = 60, 80, 90, 64
    return SimpleNamespace(
        voxels=normalize(draw("voxels", voxels, channels), dim=1),
        inverse=integers("inverse", voxels, points),
        pair_point=integers("pair point", points, pairs),
        pair_pixel=pixels_of(pairs),
        pixels=normalize(draw("pixels", SIZE[0], channels, *SIZE[1:]), dim=1),
        superpixels=integers("superpixels", 48, *SIZE),  # numbered from 0 in each image
        superpixels_an_image=50,
    )


def pixels_of(pairs: int) -> Tensor:
    """Return image, row and column [pairs, 3] int64 of pairs."""
    return torch.stack([integers(f"pixel {axis}", side, pairs) for axis, side in enumerate(SIZE)], dim=1)


def segmentation() -> SimpleNamespace:
    """Return logits, labels and predictions: of 17 classes, 0 is ignored, 5 is absent, 16 only predicted."""
    labels, predictions = integers("segmentation labels", 16, 200), integers("predictions", 17, 200)
    labels[labels == 5], predictions[predictions == 5] = 0, 0
    return SimpleNamespace(
        logits=4 * draw("logits", 200, 17),
        labels=labels,
        predictions=torch.where(draw("hit", 200) < 0, labels, predictions),
    )
