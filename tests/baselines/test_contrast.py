"""The losses of PPKT and SLidR compared with their definitions in valeoai/SLidR, as float64 loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from baselines.contrast import info_nce
from baselines.slidr import pool


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loops_of_info_nce(points, pixels, tau=0.07):
    loss = 0.0
    for i, point in enumerate(points):
        logits = [float(point @ pixel) / tau for pixel in pixels]
        loss += (math.log(sum(map(math.exp, logits))) - logits[i]) / len(points)
    return loss


def test_info_nce():
    points, pixels = F.normalize(draw(7, 5), dim=1), F.normalize(draw(7, 5, seed=1), dim=1)
    loss = info_nce(points, pixels, 0.07).item()
    assert loss == pytest.approx(loops_of_info_nce(points, pixels), rel=1e-12)


def test_superpixels_are_pooled_over_their_points_and_their_pixels():
    pixels, points = draw(2, 3, 4, 6), draw(9, 3, seed=1)
    superpixels = torch.arange(2 * 4 * 6).view(2, 4, 6) // 8  # 6 superpixels of 8 pixels
    where = [
        (0, 0, 1),
        (0, 0, 1),
        (1, 3, 5),
        (0, 2, 2),
        (1, 3, 4),
        (0, 0, 2),
        (1, 0, 0),
        (1, 1, 1),
        (0, 0, 5),
    ]
    image, row, column = torch.tensor(where).T
    means = {}
    for superpixel in range(6):
        inside = [p for p, at in zip(points, where, strict=True) if superpixels[at] == superpixel]
        area = [pixels[i, :, r, c] for i, r, c in (superpixels == superpixel).nonzero().tolist()]
        if inside:
            means[superpixel] = (sum(inside) / len(inside), sum(area) / len(area))
    assert len(means) == 4  # two superpixels hold no point

    of_points, of_pixels = pool(points, superpixels[image, row, column], pixels, superpixels.int())
    assert torch.allclose(of_points, torch.stack([of_point for of_point, _ in means.values()]))
    assert torch.allclose(of_pixels, torch.stack([of_pixel for _, of_pixel in means.values()]))


def test_pooling_has_finite_gradients_where_superpixels_are_empty():
    points, pixels = draw(2, 3).requires_grad_(), draw(1, 3, 2, 2).requires_grad_()
    superpixels = torch.tensor([[[0, 2], [2, 5]]])
    of_points, of_pixels = pool(points, torch.tensor([2, 2]), pixels, superpixels)
    (of_points * of_pixels).sum().backward()
    assert torch.isfinite(points.grad).all()
    assert (pixels.grad != 0).any(dim=(0, 1)).tolist() == [[False, True], [True, False]]
