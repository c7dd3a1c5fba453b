"""Speed of CLIP2Scene's losses on as many pairs as two real keyframes have: `make benchmark`."""

import pytest
import torch

from clip2scene.blockwise import normalise_
from clip2scene.machine import keep_freed_memory
from clip2scene.method.recipe import PAPER
from clip2scene.method.spatial_temporal import spatial_temporal_loss
from clip2scene.models.maskclip import sample_features

PAIRS, VOXELS, CHANNELS = 36_000, 28_000, 512


@pytest.fixture(scope="module", autouse=True)
def _memory():
    keep_freed_memory(of_every_size=True)  # as every stage that trains does


@pytest.mark.benchmark(group="losses")
def test_spatial_temporal_loss(benchmark):
    torch.manual_seed(0)
    points, pixels = torch.randn(VOXELS, CHANNELS), normalise_(torch.randn(PAIRS, CHANNELS))
    points.requires_grad_()
    text, labels = normalise_(torch.randn(16, CHANNELS)), torch.randint(0, 16, (PAIRS,))
    of_pair, cell = (torch.randint(0, VOXELS, (PAIRS,)) for _ in range(2))

    def step():
        unit = normalise_(points.clone())
        spatial_temporal_loss(unit, pixels, labels, text, cell, PAPER, of_pair).backward()

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="losses")
def test_sampling(benchmark):
    torch.manual_seed(0)
    maps = torch.randn(12, 14, 26, CHANNELS).movedim(-1, 1)
    image, row, column = (torch.randint(0, end, (PAIRS,)) for end in (12, 224, 416))
    benchmark.pedantic(sample_features, (maps, image, row, column, (224, 416)), rounds=5, warmup_rounds=1)
