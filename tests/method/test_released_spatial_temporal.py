"""The released code's spatial-temporal loss has next to no gradient at a fresh network's features.

Point features are not normalised, so D(p, f) is about |p|^2. Above 24 ln 2 = 16.6, sigmoid(D) is 1 in
float32, so that 1 - sigmoid(D) and its gradient are exactly 0. Training leaves this region
when the semantic loss shrinks the features (docs/recipes.md).
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from clip2scene.config import Crop, DatasetConfig, Pretraining
from clip2scene.datasets.index import build, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.method.recipe import FIXED, RELEASED
from clip2scene.method.semantic import semantic_loss
from clip2scene.method.spatial_temporal import spatial_temporal_loss
from clip2scene.models.backbones import build_backbone
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.synthetic.real_keyframe import write_keyframe

EDGE = 24 * math.log(2)


def of_one_point(length, dtype=torch.float32):
    """Return the loss of a point of this squared length, alone in its cell, and the gradient's norm."""
    point = torch.full((1, 4), math.sqrt(length / 4), dtype=dtype, requires_grad=True)
    text = torch.eye(4, dtype=dtype)[:1]
    where = torch.zeros(1, dtype=torch.long)
    loss = spatial_temporal_loss(point, point.detach(), where, text, where, replace(RELEASED, cell_cap=1))
    loss.backward()
    return loss.item(), point.grad.norm().item()


def test_beyond_the_edge_loss_and_gradient_are_exactly_zero():
    assert of_one_point(EDGE + 0.01) == (0.0, 0.0)
    assert of_one_point(100.0) == (0.0, 0.0)
    inside, before = of_one_point(EDGE - 0.1), of_one_point(1.0)
    assert 0 < inside[0] < 2e-7
    assert 0 < inside[1] < 2e-6
    assert before[0] > 0.2
    assert before[1] > 0.1
    assert all(value > 0 for value in of_one_point(EDGE + 0.01, torch.float64))  # it is float32's doing


def gradients(sample, recipe, width):
    """Return the gradients of both losses by the backbone's features at its initialisation.

    Labels are drawn, as no teacher is at hand; features do not depend on them.
    """
    torch.manual_seed(0)
    backbone = build_backbone("spvcnn", 1, width, "native").train()
    semantic, spatial = nn.Linear(backbone.out_channels, 512), nn.Linear(backbone.out_channels, 512)
    with torch.no_grad():
        features = backbone(sample.coordinates, sample.features)
    features = features[sample.inverse[sample.pair_point]].requires_grad_()
    text = nn.functional.normalize(torch.randn(16, 512), dim=1)
    labels = torch.randint(0, 16, (len(features),))
    scale = (lambda x: nn.functional.normalize(x, dim=1)) if recipe.normalise else (lambda x: x)
    pixels = nn.functional.normalize(torch.randn(len(features), 512), dim=1)
    cell = sample.grid_cell[sample.pair_point]
    losses = (
        semantic_loss(scale(semantic(features)) @ text.T, labels, recipe),
        spatial_temporal_loss(scale(spatial(features)), pixels, labels, text, cell, recipe),
    )
    return [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses]


@pytest.fixture(scope="module", params=["synthetic", "real"])
def sample(request, tmp_path_factory):
    """Return a keyframe with its pairs: an embedded one with earlier sweeps, or a real one without."""
    if request.param == "synthetic":
        root, path = (request.getfixturevalue(name) for name in ("tiny_root", "tiny_index"))
        settings, voxel = Pretraining(sweeps=3, crop=Crop(size=(24, 44))), 0.25
    else:
        shared = request.getfixturevalue("shared_data")
        folder = tmp_path_factory.mktemp("keyframe")
        root, path = folder / "data", folder / "index.parquet"
        write_keyframe(shared / "nuscenes_scene-0061", root, "v1.0-keyframe")
        build(DatasetConfig(root=root, version="v1.0-keyframe"), path)
        settings, voxel = Pretraining(sweeps=3, crop=Crop(size=(224, 416))), 0.1
    index = read_index(path, root).split("train")
    return PretrainingSamples(NuScenes(), index, settings, ("images", "sweeps"), voxel, False, seed=0)[0]


def test_a_fresh_networks_features_lie_beyond_the_edge(sample):
    semantic, spatial = gradients(sample, RELEASED, 0.125)
    still = (spatial == 0).all(dim=1).float().mean().item()
    assert still > 0.5, f"{still:.3f} of the pairs have no gradient at all"
    assert spatial.norm() < 1e-4 * semantic.norm()


def test_unit_features_lie_inside(sample):
    """Cosines are at most 1. (A pair alone in its cell agrees with itself, unless its pixel is fused.)"""

    def ratio(recipe):
        semantic, spatial = gradients(sample, recipe, 0.125)
        return (spatial.norm() / semantic.norm()).item()

    assert ratio(replace(RELEASED, normalise=True)) > 20 * ratio(RELEASED)
    assert ratio(FIXED) > 20 * ratio(RELEASED)
    assert (gradients(sample, FIXED, 0.125)[1] != 0).any(dim=1).all()
