"""PointContrast: its matches on made-up scans, its loss against the official formula, its training."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines.contrast import info_nce
from baselines.pointcontrast import PointContrast, correspondences, draw
from clip2scene.config import Pretraining, parse_config
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.method.base import Progress, Resources
from clip2scene.pairing.collate import collate
from clip2scene.pairing.samples import PretrainingSamples

CONFIG = parse_config({"datasets": {"any": {"root": "data"}}}, "test")
START = Progress(epoch=0, epochs=20, step=0, seed=0)


class Backbone(nn.Sequential):
    """Stand-in for a sparse network: an MLP on each voxel's features."""

    out_channels = 16

    def forward(self, coordinates, features):
        return super().forward(features)


def build(**settings):
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"methods": {"pointcontrast": settings}})
    backbone = Backbone(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16))
    return PointContrast(config, "", backbone, Resources())


def views(make_batch, cells, voxels, sweeps):
    """Return a batch of points with these cells, voxels and views, and no images."""
    batch = make_batch(samples=1, sweeps=1, points=len(cells))
    size = max(voxels) + 1
    return replace(
        batch,
        grid_cell=torch.tensor(cells),
        inverse=torch.tensor(voxels),
        sweep=torch.tensor(sweeps),
        coordinates=torch.zeros(size, 4, dtype=torch.int32),
        features=torch.randn(size, 3, generator=torch.Generator().manual_seed(2)),
        images=None,
    )


def test_matches_are_voxels_with_points_in_one_cell(make_batch):
    """Voxel 0 has points in cells 5 and 6, so that it meets voxels 3 and 4; voxel 2 meets nothing."""
    first = [(5, 0), (6, 0), (6, 1), (7, 2), (5, 0)]
    second = [(6, 3), (5, 4), (6, 4), (9, 5)]
    cells, voxels = zip(*first, *second, strict=True)
    batch = views(make_batch, cells, voxels, [0] * len(first) + [1] * len(second))
    pairs = torch.stack(correspondences(batch), dim=1).tolist()
    assert pairs == [[0, 3], [0, 4], [1, 3], [1, 4]]


def test_matches_of_a_registered_scan_are_exact(tiny_index, tiny_root):
    """Compare with a loop over the cells of two scans, each seen from two sweeps."""
    index = read_index(tiny_index, tiny_root).split("train")
    samples = PretrainingSamples(NuScenes(), index, Pretraining(), {"sweeps", "views"}, 0.4, False, seed=0)
    batch = collate([samples[0], samples[1]])
    assert batch.ids == index.ids[:2]
    cell, view, voxel = batch.grid_cell.numpy(), batch.sweep.numpy(), batch.inverse.numpy()
    expected = set()
    for number in np.unique(cell):
        here = cell == number
        assert len(set(batch.sample[here].tolist())) == 1  # no match between scans
        expected |= {(a, b) for a in voxel[here & (view == 0)] for b in voxel[here & (view == 1)]}
    found = list(zip(*(part.tolist() for part in correspondences(batch)), strict=True))
    assert found == sorted(expected)
    assert len(found) > 100


def test_the_two_views_differ_and_meet_where_they_are_registered(tiny_index, tiny_root):
    index = read_index(tiny_index, tiny_root).split("train")
    config = Pretraining(drop_cuboids=True)
    samples = PretrainingSamples(NuScenes(), index, config, {"sweeps", "views"}, 0.4, False, seed=0)
    first_row = index.frames.iloc[[0]].copy()
    first_row["sweep_points"], first_row["sweep_poses"] = [[]], [[]]
    alone = PretrainingSamples(
        NuScenes(), replace(index, frames=first_row), config, {"sweeps", "views"}, 0.4, False, seed=0
    )
    for data, number in ((samples, 1), (alone, 0)):  # with an earlier sweep, and without
        sample = data[number]
        assert sample.sweep.unique().tolist() == sample.coordinates[:, 0].unique().tolist() == [0, 1]
        one, other = (sample.points[sample.sweep == view] for view in (0, 1))
        assert len(one) != len(other)  # another cuboid is left out
        query, key = correspondences(sample)
        at = sample.points[sample.representative]
        moved = (at[query] - at[key]).norm(dim=1)
        assert moved.median() > 1.0  # metres: they were turned apart
        radius = (at[query, :2].norm(dim=1) - at[key, :2].norm(dim=1)).abs()
        assert radius.quantile(0.9) < 0.8  # but the rotation is about the sensor
        again = data[number]
        tensors = [f.name for f in fields(sample) if isinstance(getattr(sample, f.name), torch.Tensor)]
        assert all(torch.equal(getattr(sample, name), getattr(again, name)) for name in tensors)
    keyframe = load_frame(NuScenes(), index.root, index.frames.iloc[0])
    assert len(alone[0].points) < 2 * len(keyframe.points)


def test_loss_of_two_matches_by_hand():
    """Features (1, 0) and (0, 1) match themselves: log(1 + exp(-1 / tau)) each, which is log(1 + e**-2.5)."""
    unit = torch.eye(2)
    assert info_nce(unit, unit, 0.4).item() == pytest.approx(math.log1p(math.exp(-2.5)), rel=1e-6)
    assert info_nce(unit, unit.flip(0), 0.4).item() == pytest.approx(math.log1p(math.exp(2.5)), rel=1e-6)


def official(features, pairs, offsets, tau):
    """Compute PointNCELossTrainer's loss (PointContrast @ 47e8682) in float64 from its formula, in loops.

    Every voxel of view 0 that has a match takes the match number floor(u * count); logits are q k^T / T, and
    the cross-entropy's target is the diagonal.
    """
    matches = {}
    for first, second in pairs:
        matches.setdefault(first, []).append(second)
    chosen = zip(sorted(matches.items()), offsets, strict=True)
    keys = {query: found[math.floor(u * len(found))] for (query, found), u in chosen}
    unit = [f / np.linalg.norm(f) for f in features.astype(np.float64)]
    total = 0.0
    for q, k in keys.items():
        logits = [unit[q] @ unit[other] / tau for other in keys.values()]
        total += math.log(sum(map(math.exp, logits))) - unit[q] @ unit[k] / tau
    return total / len(keys)


def test_a_step_computes_the_official_loss(make_batch, monkeypatch):
    rng = np.random.default_rng(0)
    cells, voxels = rng.integers(0, 12, 60).tolist(), rng.integers(0, 10, 60)
    sweeps = rng.integers(0, 2, 60)
    batch = views(make_batch, cells, (voxels + 10 * sweeps).tolist(), sweeps.tolist())
    method = build(matches=1000)
    pairs = list(zip(*(part.tolist() for part in correspondences(batch)), strict=True))
    count = len({first for first, _ in pairs})
    offsets = np.linspace(0.05, 0.95, count)
    order = torch.arange(count).flip(0)  # the loss does not depend on the order of the queries
    monkeypatch.setattr(torch, "randperm", lambda n, generator: order)
    monkeypatch.setattr(
        torch, "rand", lambda n, generator, dtype: torch.tensor(offsets[::-1].copy(), dtype=dtype)
    )
    loss = method.training_step(batch, START)["contrast"]
    features = method.linear(method.backbone(batch.coordinates, batch.features)).detach().numpy()
    assert loss.item() == pytest.approx(official(features, pairs, offsets, tau=0.4), rel=1e-5)


def test_draws_take_each_voxel_once_with_one_of_its_matches():
    first = torch.tensor([0, 0, 0, 2, 2, 7])
    second = torch.tensor([10, 11, 12, 10, 13, 14])
    allowed = set(zip(first.tolist(), second.tolist(), strict=True))
    seen = set()
    for seed in range(60):
        query, key = draw(first, second, 2, torch.Generator().manual_seed(seed))
        assert len(set(query.tolist())) == 2
        seen |= set(zip(query.tolist(), key.tolist(), strict=True))
    assert seen == allowed


def test_steps_lower_the_loss_and_train_everything(make_batch):
    """Matched voxels look alike up to noise, so that their features can be told from those of the others."""
    n, generator = 40, torch.Generator().manual_seed(3)
    cells = list(range(n))
    batch = views(make_batch, cells * 2, range(2 * n), [0] * n + [1] * n)
    looks = torch.randn(n, 3, generator=generator)
    batch.features = torch.cat([looks, looks + 0.05 * torch.randn(n, 3, generator=generator)])
    method = build()
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(100):
        loss = sum(method.training_step(batch, START).values())
        optimiser.zero_grad()
        loss.backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in method.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 3.2  # near log(40): nothing is told apart
    assert losses[-1] < 2.4
    voxels = F.normalize(method.linear(method.backbone(batch.coordinates, batch.features)), dim=1)
    nearest = (voxels[:n] @ voxels[n:].T).argmax(dim=1)
    assert (nearest == torch.arange(n)).float().mean() > 0.8


def test_a_step_draws_by_seed_and_step(make_batch):
    method, batch = build(matches=10), make_batch()
    losses = [method.training_step(batch, replace(START, step=step))["contrast"].item() for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_gradients_reach_both_views(make_batch):
    batch = views(make_batch, [0, 1, 0, 1], [0, 1, 2, 3], [0, 0, 1, 1])
    batch.features.requires_grad_()
    build().training_step(batch, START)["contrast"].backward()
    assert (batch.features.grad.abs().sum(dim=1) > 0).all()


def test_refusals(make_batch):
    apart = views(make_batch, [0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 1, 1])
    with pytest.raises(InputError, match="frame-0: their two views have no cell in common"):
        build().training_step(apart, START)
    with pytest.raises(InputError, match="no text alignment"):
        build().classify(torch.zeros(1, 16), torch.zeros(2, 8))


def test_features_are_compared_as_unit_vectors(make_batch):
    batch = make_batch()
    method, larger = build(), build()
    with torch.no_grad():
        larger.linear.weight *= 7
        larger.linear.bias *= 7
    small, large = (m.training_step(batch, START)["contrast"] for m in (method, larger))
    torch.testing.assert_close(small, large)
