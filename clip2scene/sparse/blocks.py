"""The pairs of a kernel map laid out for Triton's kernels (`implicit_gemm`)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 64  # output voxels of a program
_BITS = 62  # offsets whose hits fit one sort key


class Blocks(NamedTuple):
    """Output voxels, `BLOCK` at a time, and the steps of each block: one an offset that finds any neighbour.

    Attributes:
        n_voxels: V_out.
        voxels: [B, BLOCK] int32 the block's output voxels, -1 past the last.
        ends: [B + 1] int32 where among the S steps those of each block begin, and the end of the last.
        offsets: [S] int32.
        neighbours: [S, BLOCK] int32 the input voxel that each of the block's voxels meets, -1 if none.
    """

    n_voxels: int
    voxels: Tensor
    ends: Tensor
    offsets: Tensor
    neighbours: Tensor


def build_blocks(sources: Tensor, targets: Tensor, ends: Tensor, n_voxels: int) -> Blocks:
    """Blocks of voxels that have neighbours under the same offsets, as far as there are such.

    A step multiplies the rows of all voxels of its block, with zeros for those that have no neighbour there.
    Sorting voxels by the set of their offsets (as spconv and TorchSparse++ do) makes these few: see
    docs/performance.md. Within a set they keep their order in space.

    Args:
        sources: See `Pairs`.
        targets: See `Pairs`.
        ends: See `Pairs`.
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
    place = order.argsort()[targets]
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
