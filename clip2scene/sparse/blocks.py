"""Layout of a kernel map's pairs for the Triton kernels of `implicit_gemm`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 64  # output voxels per program
_BITS = 62  # number of offsets whose hits fit in one int64 sort key


class Blocks(NamedTuple):
    """Output voxels in blocks of `BLOCK`, and the steps of each block.

    A step is a kernel offset under which at least one voxel of the block has a neighbour.

    Attributes:
        n_voxels: V_out, the number of output voxels.
        voxels: [B, BLOCK] int32, output voxels of each block; -1 pads the last block.
        ends: [B + 1] int32, step boundaries: block b has the steps ends[b] to ends[b + 1] - 1.
        offsets: [S] int32, kernel offset of each step.
        neighbours: [S, BLOCK] int32, input voxel that each voxel of the block meets in the step, or -1.
    """

    n_voxels: int
    voxels: Tensor
    ends: Tensor
    offsets: Tensor
    neighbours: Tensor


@contextmanager
def _in_any_order() -> Iterator[None]:
    """Let torch write in any order, which changes no integers in places of their own, nor their sums.

    Its deterministic operators (`clip2scene.training.precision.repeat_bits`) would sort them first.
    """
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


@_in_any_order()
def build_blocks(sources: Tensor, targets: Tensor, ends: Tensor, n_voxels: int) -> Blocks:
    """Group target voxels that have neighbours under the same offsets into blocks, as far as possible.

    A step multiplies one row per voxel of its block; the row is zero if the voxel has no neighbour under the
    step's offset. Sorting the voxels by their set of offsets, as spconv and TorchSparse++ do, makes such rows
    rare (see docs/performance.md). Voxels with the same set keep their spatial order.

    Args:
        sources: [P] int32, see `OffsetPairs`.
        targets: [P] int32, see `OffsetPairs`.
        ends: [K + 1] int32, see `OffsetPairs`.
        n_voxels: Number of target voxels.
    """
    device, n_offsets = sources.device, len(ends) - 1
    targets = targets.long()
    offset = torch.repeat_interleave(ends.diff(), output_size=len(targets)).long()
    sets = targets.new_zeros(-(-n_offsets // _BITS), n_voxels)
    sets.view(-1).index_add_(0, offset // _BITS * n_voxels + targets, 1 << offset % _BITS)
    order = torch.arange(n_voxels, device=device)
    for bits in sets:
        order = order[bits[order].argsort(stable=True)]

    n_blocks = -(-n_voxels // BLOCK)
    place = torch.empty_like(order)
    place[order] = torch.arange(n_voxels, device=device)
    place = place[targets]
    step = place // BLOCK * n_offsets + offset
    used = torch.zeros(n_blocks * n_offsets, dtype=torch.bool, device=device)
    used[step] = True
    steps = used.nonzero()[:, 0]
    neighbours = sources.new_full((len(steps), BLOCK), -1)
    neighbours.view(-1)[(used.cumsum(0)[step] - 1) * BLOCK + place % BLOCK] = sources
    return Blocks(
        n_voxels,
        pad(order, (0, n_blocks * BLOCK - n_voxels), value=-1).view(n_blocks, BLOCK).int(),
        pad(used.view(n_blocks, n_offsets).sum(1).cumsum(0), (1, 0)).int(),
        (steps % n_offsets).int(),
        neighbours,
    )
