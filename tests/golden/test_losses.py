"""Losses and IoU compared with the official implementations (tests/golden/README.md)."""

from dataclasses import replace
from types import SimpleNamespace

import cases
import numpy as np
import pytest
import torch
from deterministic import difference, golden

from baselines.ppkt import PPKT
from baselines.slidr import SLidR
from clip2scene.evaluation.confusion import confusion_matrix
from clip2scene.evaluation.metrics import Scores
from clip2scene.method.base import Progress
from clip2scene.method.recipe import RELEASED, RELEASED_SCANNET
from clip2scene.method.self_training import switch_labels
from clip2scene.method.semantic import semantic_loss
from clip2scene.method.spatial_temporal import pixel_disagreement, spatial_temporal_loss
from clip2scene.training.losses import lovasz_softmax, segmentation_loss

TOLERANCE = 1e-5  # float32, another summation order; SLidR adds 1e-6 to its divisors


@pytest.mark.parametrize("switched", [False, True])
def test_released_semantic_loss(switched):
    case, official = cases.clip2scene(), golden("clip2scene_losses")
    points = case.point_global.requires_grad_()
    scores = (points @ case.text.T)[case.inverse[case.pair_point]]
    labels = case.labels[tuple(case.pair_pixel.T)]
    if switched:  # epoch 11, counted from 0, at a step whose draw switches
        steps = (Progress(11, 20, step, seed=0) for step in range(100))
        drawn = (switch_labels(labels, scores, RELEASED, step) for step in steps)
        labels = next(new for new in drawn if not torch.equal(new, labels))
    loss = semantic_loss(scores, labels, RELEASED)
    suffix = "_switched" if switched else ""
    assert difference(loss, official[f"semantic{suffix}"]) < TOLERANCE
    (gradient,) = torch.autograd.grad(loss, points)
    assert difference(gradient[::2], official[f"gradient_global{suffix}"]) < TOLERANCE


def test_released_spatial_temporal_loss():
    case, official = cases.clip2scene(), golden("clip2scene_losses")
    voxels = case.point_local.requires_grad_()
    at = tuple(case.pair_pixel.T)
    points, pixels = voxels[case.inverse[case.pair_point]], case.pixels.permute(0, 2, 3, 1)[at]
    cell = case.grid_cell[case.pair_point]
    loss = spatial_temporal_loss(points, pixels, case.labels[at], case.text, cell, RELEASED)
    assert difference(loss, official["spatial_temporal"]) < TOLERANCE
    (gradient,) = torch.autograd.grad(loss, voxels)
    assert difference(gradient[::2], official["gradient_local"]) < TOLERANCE


@pytest.mark.parametrize("switched", [False, True])
def test_released_loss_on_scannet(switched):
    case, official = cases.clip2scene(), golden("clip2scene_losses")
    semantic, local, images = (
        value.requires_grad_() for value in (case.point_global, case.point_local, case.pixels)
    )
    voxel, at = case.inverse[case.pair_point], tuple(case.pair_pixel.T)
    scores, labels = (semantic @ case.text.T)[voxel], case.labels[at]
    if switched:  # from epoch 10 of 30 on, counted from 0
        steps = [Progress(10, 30, step, seed=0) for step in range(100)]
        early = (replace(step, epoch=9) for step in steps)
        assert all(
            torch.equal(labels, switch_labels(labels, scores, RELEASED_SCANNET, step)) for step in early
        )
        drawn = (switch_labels(labels, scores, RELEASED_SCANNET, step) for step in steps)
        labels = next(new for new in drawn if not torch.equal(new, labels))
    loss = semantic_loss(scores, labels, RELEASED_SCANNET)
    loss = loss + pixel_disagreement(local[voxel], images.permute(0, 2, 3, 1)[at])
    suffix = "_switched" if switched else ""
    assert difference(loss, official[f"scannet{suffix}"]) < TOLERANCE
    of_semantic, of_local, of_pixels = torch.autograd.grad(loss, (semantic, local, images))
    assert difference(of_semantic[::2], official[f"scannet_gradient_global{suffix}"]) < TOLERANCE
    assert difference(of_local[::2], official["scannet_gradient_local"]) < TOLERANCE
    assert difference(of_pixels[:, ::16], official["scannet_gradient_pixels"]) < TOLERANCE


@pytest.mark.parametrize("method", [PPKT, SLidR])
def test_contrasts(method):
    case, official = cases.slidr(), golden("slidr_losses")
    voxels, pixels = case.voxels.requires_grad_(), case.pixels.requires_grad_()
    image, row, column = case.pair_pixel.T
    numbered = case.superpixels + case.superpixels_an_image * torch.arange(len(pixels))[:, None, None]
    batch = SimpleNamespace(
        images=None,
        inverse=case.inverse,
        pair_point=case.pair_point,
        pair_image=image,
        pair_row=row,
        pair_column=column,
        superpixels=numbered.int(),
    )

    class Pixels:
        def __call__(self, images):
            return pixels

        def at(self, images, image, row, column):
            return pixels[image, :, row, column]

    network = SimpleNamespace(pairs=len(image), pixels=Pixels())
    loss = method.contrast(network, voxels, batch, Progress(epoch=0, epochs=1, step=0, seed=0))
    name = method.__name__.lower()
    assert difference(loss, official[name]) < TOLERANCE
    of_voxels, of_pixels = torch.autograd.grad(loss, (voxels, pixels))
    assert difference(of_voxels, official[f"{name}_gradient_voxels"]) < TOLERANCE
    assert difference(of_pixels, official[f"{name}_gradient_pixels"]) < TOLERANCE


def test_loss_of_fine_tuning():
    case, official = cases.segmentation(), golden("slidr_losses")
    logits = case.logits.requires_grad_()
    loss = segmentation_loss(logits, case.labels)
    assert difference(loss, official["segmentation"]) < TOLERANCE
    (gradient,) = torch.autograd.grad(loss, logits)
    assert difference(gradient, official["segmentation_gradient"]) < TOLERANCE


def test_lovasz():
    case, official = cases.segmentation(), golden("slidr_losses")
    labelled = case.labels != 0
    loss = lovasz_softmax(case.logits[labelled].softmax(dim=1), case.labels[labelled])
    assert difference(loss, official["lovasz"]) < TOLERANCE


def test_iou():
    """Compare IoU; a class that occurs nowhere has an IoU of 1 in SLidR and NaN here."""
    case, official = cases.segmentation(), golden("slidr_losses")
    scores = Scores(tuple("abcdefghijklmnop"), confusion_matrix(case.predictions, case.labels, 16))
    assert np.isnan(scores.iou).tolist() == [c == 5 for c in range(1, 17)]
    np.testing.assert_allclose(np.nan_to_num(scores.iou, nan=1.0), official["iou"], rtol=1e-6)
    assert scores.miou_released == pytest.approx(official["miou"].item(), rel=1e-6)
