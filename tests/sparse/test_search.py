"""Searching and sorting of voxels on a CPU against plain PyTorch, and against all pairs."""

import pytest
import torch

from clip2scene.sparse import kernel_map
from clip2scene.sparse.coordinates import floor, shift, sort_voxels, unpack
from clip2scene.sparse.kernel_map import find_neighbours
from clip2scene.sparse.search import grouped
from tests.sparse.kernel_cases import scattered

KERNELS = [(1, 1, 1), (2, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (3, 2, 3), (5, 1, 1)]
"""Kernel size, tensor stride, dilation."""


@pytest.fixture(params=[(1, 6), (400, 8), (3000, 30)], ids=["one", "few", "many"])
def keys(request) -> torch.Tensor:
    n, size = request.param
    return sort_voxels(scattered(n, size))[0]


@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), KERNELS)
def test_neighbours_are_those_of_all_pairs(kernel_size, stride, dilation):
    """Look every voxel up in a dictionary."""
    keys = torch.unique(floor(sort_voxels(scattered(400, 8))[0], stride))
    place = {key: position for position, key in enumerate(keys.tolist())}
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    axis = [offset * stride * dilation for offset in range(first, first + kernel_size)]
    offsets = [shift(x, y, z) for z in axis for y in axis for x in axis]
    expected = [[place.get(key + offset, -1) for key in keys.tolist()] for offset in offsets]
    assert find_neighbours(keys, keys, kernel_size, stride, dilation).tolist() == expected


@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), KERNELS)
@pytest.mark.parametrize("half", [False, True])
def test_the_path_of_gpus_finds_the_same(monkeypatch, keys, kernel_size, stride, dilation, half):
    coarse, queries = torch.unique(floor(keys, stride)), torch.unique(floor(keys, 2 * stride))
    n_offsets = max(1, kernel_size**3 // 2) if half else None
    found = find_neighbours(coarse, queries, kernel_size, stride, dilation, n_offsets)
    rows = []

    def record(*arguments):
        table = kernel_map._search_rows(*arguments[:5], dilation)[: arguments[5]]
        rows.append(table)
        return table

    monkeypatch.setattr(kernel_map, "search", record)
    assert torch.equal(find_neighbours(coarse, queries, kernel_size, stride, dilation, n_offsets), found)
    assert len(rows) == 1
    assert unpack(coarse[found[found >= 0]]).remainder(stride).eq(0)[:, 1:].all()


@pytest.mark.parametrize(("n", "n_groups"), [(0, 1), (1, 1), (1000, 1), (1000, 7), (1000, 5000)])
def test_groups_keep_their_order(n, n_groups):
    groups = torch.randint(0, n_groups, (n,), generator=torch.Generator().manual_seed(0)).int()
    assert torch.equal(grouped(groups, n_groups), groups.argsort(stable=True))
