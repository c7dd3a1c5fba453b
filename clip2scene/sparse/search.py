# ruff: noqa: ANN001, ANN202 - Numba assigns the types of kernel arguments
"""Searching and sorting of voxels on a CPU, each in one pass.

Keys and queries of a kernel map are sorted, and neighbours along x are close together. So a position only
ever moves forward, and no binary search is needed. Groups are small integers, which need no comparisons.
"""

import numpy as np
import torch
from numba import carray
from torch import Tensor

from clip2scene.portable.registers import compiled, in_parallel, pointer, take

_FIELDS = "taken keys queries starts table n_keys n_queries n_starts n_offsets kernel_size step"
_TASK = np.dtype([(name, np.int64) for name in _FIELDS.split()])
_GROUPS = np.dtype([(name, np.int64) for name in ("taken", "groups", "order", "ends", "n", "n_groups")])


def search(
    keys: Tensor, queries: Tensor, starts: list[int], kernel_size: int, step: int, n_offsets: int
) -> Tensor:
    """Find the neighbour of each query under each kernel offset.

    Args:
        keys: [V] int64, sorted.
        queries: [Q] int64, sorted.
        starts: Difference of keys between the first voxel of each kernel row and a query.
        kernel_size: Number of offsets of a kernel row.
        step: Difference of keys between neighbouring voxels of a kernel row.
        n_offsets: Number n of leading offsets to look up.

    Returns:
        [n, Q] int64, position of the neighbour in `keys`, or -1 if there is none.
    """
    first = torch.tensor(starts, dtype=torch.int64)
    table = torch.empty(n_offsets, len(queries), dtype=torch.int64)
    arrays = keys.contiguous(), queries.contiguous(), first, table
    sizes = len(keys), len(queries), len(starts), n_offsets, kernel_size, step
    in_parallel(_search, np.array((0, *(array.data_ptr() for array in arrays), *sizes), _TASK))
    return table


def grouped(groups: Tensor, n_groups: int) -> Tensor:
    """Return the order that sorts by group and is stable: ``groups.argsort(stable=True)``.

    Args:
        groups: [N] int32, 0..n_groups - 1.
        n_groups: Number of groups.

    Returns:
        [N] int64.
    """
    order = torch.empty(len(groups), dtype=torch.int64)
    ends = torch.bincount(groups, minlength=n_groups).cumsum(0)
    arrays = groups.contiguous(), order, ends
    addresses = (array.data_ptr() for array in arrays)
    in_parallel(_group, np.array((0, *addresses, len(groups), n_groups), _GROUPS))
    return order


@compiled
def _search(address):
    """Compute `search`: a thread takes a kernel row and walks along keys and queries."""
    task = carray(address, 1, _TASK)[0]
    keys = carray(pointer(task.keys), task.n_keys, np.int64)
    queries = carray(pointer(task.queries), task.n_queries, np.int64)
    starts = carray(pointer(task.starts), task.n_starts, np.int64)
    table = carray(pointer(task.table), (task.n_offsets, task.n_queries), np.int64)
    while True:
        row = take(address)
        if row >= task.n_starts:
            break
        offsets = range(row * task.kernel_size, min((row + 1) * task.kernel_size, task.n_offsets))
        start = 0
        for query in range(task.n_queries):
            wanted = queries[query] + starts[row]
            while start < task.n_keys and keys[start] < wanted:
                start += 1
            position = start
            for offset in offsets:
                while position < task.n_keys and keys[position] < wanted:
                    position += 1
                found = position < task.n_keys and keys[position] == wanted
                table[offset, query] = position if found else -1
                wanted += task.step


@compiled
def _group(address):
    """Compute `grouped`: one thread does it all, from the last element to the first."""
    task = carray(address, 1, _GROUPS)[0]
    groups = carray(pointer(task.groups), task.n, np.int32)
    order = carray(pointer(task.order), task.n, np.int64)
    ends = carray(pointer(task.ends), task.n_groups, np.int64)
    if take(address) == 0:
        for element in range(task.n - 1, -1, -1):
            group = groups[element]
            ends[group] -= 1
            order[ends[group]] = element
