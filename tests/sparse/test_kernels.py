"""Kernels of the native engine compared with plain PyTorch, which test_convolution.py checks."""

import pytest
import torch
from kernel_cases import KINDS, draw, kernel_map, run

from clip2scene.sparse import Geometry, gather_scatter


@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_are_those_of_plain_pytorch(kernels, kind):
    """Use odd numbers of channels and offsets with many pairs, few pairs, or none."""
    pairs = kernel_map(kind)
    drawn = draw(pairs, (5, 19))
    torch.testing.assert_close(
        run(kernels, pairs, drawn), run(gather_scatter, pairs, drawn), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("channels", [(1, 70), (70, 3), (33, 65), (16, 32), (64, 96)])
def test_channels_of_several_blocks(kernels, channels):
    pairs = kernel_map((2, 1, 1, False))
    drawn = draw(pairs, channels)
    torch.testing.assert_close(
        run(kernels, pairs, drawn), run(gather_scatter, pairs, drawn), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_bit_identical_on_repetition(kernels, transposed):
    maps = [kernel_map((2, 2, 1, transposed)) for _ in range(2)]
    drawn = draw(maps[0], (5, 19))
    first, second = (run(kernels, pairs, drawn) for pairs in maps)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_offset_without_pairs_has_no_gradient(kernels):
    """Place two voxels side by side: of a kernel of size 3, only the centre and two x offsets have pairs."""
    pairs = Geometry(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]])).kernel_map(1, 3)
    features, weight, upstream = draw(pairs, (5, 19))
    result, _, gradient = run(kernels, pairs, (features, weight, upstream))
    expected = features @ weight[13] + torch.stack([features[1] @ weight[14], features[0] @ weight[12]])
    torch.testing.assert_close(result, expected)
    assert gradient.flatten(1).any(1).nonzero().flatten().tolist() == [12, 13, 14]


def test_no_pairs_at_all(kernels):
    """Place a voxel at an odd coordinate, which a kernel of size 1 at stride 2 never reaches."""
    pairs = Geometry(torch.tensor([[0, 1, 0, 0]])).kernel_map(1, 1, 2)
    result = run(kernels, pairs, draw(pairs, (5, 19)))
    assert [(list(value.shape), bool(value.any())) for value in result] == [
        ([1, 19], False),
        ([1, 5], False),
        ([1, 5, 19], False),
    ]
