"""Kernel maps: the pairs of input and output voxels under each offset of a kernel.

Offsets follow MinkowskiEngine: x fastest, -1..1 for kernel size 3, -2..2 for 5 and 0..1 for 2, in units of
the input's tensor stride times the dilation.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from clip2scene.sparse.coordinates import REACH, shift
from clip2scene.sparse.pairs import KernelMap, OffsetPairs
from clip2scene.sparse.search import search


def build_kernel_map(
    inputs: Tensor, outputs: Tensor, kernel_size: int, tensor_stride: int, dilation: int
) -> KernelMap:
    """Find the pairs of a convolution.

    If the outputs are the inputs and the kernel is centred, fewer than half of the offsets are looked up:
    offset K - 1 - k has the pairs of offset k with the roles exchanged, and the centre pairs every voxel with
    itself.

    Args:
        inputs: [V_in] int64, sorted keys of the input voxels.
        outputs: [V_out] int64, sorted keys of the output voxels; the same object as `inputs` if the voxels
            are the same.
        kernel_size: Edge length of the kernel.
        tensor_stride: Spacing of the input voxels, in finest voxels.
        dilation: Spacing of the kernel offsets, in input voxels.
    """
    symmetric = inputs is outputs and kernel_size % 2 == 1
    volume = kernel_size**3
    n_offsets = volume // 2 if symmetric else volume
    table = find_neighbours(inputs, outputs, kernel_size, tensor_stride, dilation, n_offsets)
    hit = table >= 0
    counts = hit.sum(1)
    sizes = counts.tolist()
    pairs = _positions(hit.flatten(), sum(sizes))
    source, target = table.flatten()[pairs], pairs % len(outputs)
    source, target = source.int(), target.int()
    if symmetric:
        every = torch.arange(len(inputs), dtype=torch.int32, device=inputs.device)
        mirrored_source, mirrored_target = reversed(target.split(sizes)), reversed(source.split(sizes))
        source, target = (
            torch.cat([source, every, *mirrored_source]),
            torch.cat([target, every, *mirrored_target]),
        )
        sizes = [*sizes, len(inputs), *reversed(sizes)]
        counts = torch.cat([counts, counts.new_full((1,), len(inputs)), counts.flip(0)])
    ends = pad(counts.cumsum(0), (1, 0)).int()
    forward = OffsetPairs(source, target, sizes, ends, len(outputs))
    mirror = forward if symmetric else None
    return KernelMap(forward, OffsetPairs(target, source, sizes, ends, len(inputs), mirror))


def _positions(mask: Tensor, count: int) -> Tensor:
    """Return the positions [count] int64 of the true elements of a mask.

    A GPU is not waited for if it is told their number.
    """
    if mask.device.type == "cpu":
        return mask.nonzero()[:, 0]  # faster there
    return torch.nonzero_static(mask, size=count)[:, 0]


def find_neighbours(
    keys: Tensor,
    queries: Tensor,
    kernel_size: int,
    tensor_stride: int,
    dilation: int = 1,
    n_offsets: int | None = None,
) -> Tensor:
    """Find the neighbour of each query under each kernel offset.

    Neighbours along x are close together in the sorted keys. On a GPU only the first voxel of a kernel row
    needs a binary search, and the next one is at most `dilation` keys further; a CPU needs none (`search`).

    Args:
        keys: [V] int64, sorted keys of the voxels to search.
        queries: [Q] int64, sorted keys of the kernel's centres (of its lowest corners for even kernels).
        kernel_size: Edge length of the kernel.
        tensor_stride: Spacing of the searched voxels, in finest voxels.
        dilation: Spacing of the kernel offsets, in searched voxels.
        n_offsets: Number n of leading offsets to look up; None for all.

    Returns:
        [n, Q] int64, position of the neighbour in `keys`, or -1 if there is none.

    Raises:
        ValueError: the kernel reaches so far that keys of neighbours would be those of other voxels.
    """
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    step = tensor_stride * dilation
    if kernel_size * step > REACH:
        raise ValueError(
            f"a kernel of size {kernel_size} at stride {tensor_stride} and dilation {dilation} reaches "
            f"{kernel_size * step} voxels; expected at most {REACH}"
        )
    axis = range(first * step, (first + kernel_size) * step, step)
    n_rows = kernel_size**2 if n_offsets is None else -(-n_offsets // kernel_size)
    starts = [shift(axis[0], y, z) for z in axis for y in axis][:n_rows]
    if keys.device.type == "cpu":
        return search(keys, queries, starts, kernel_size, step, n_offsets or kernel_size**3)
    return _search_rows(keys, queries, starts, kernel_size, step, dilation)[:n_offsets]


@cache
def _uploaded(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Return integers as a tensor on a device, brought there once: a GPU is waited for each time."""
    return torch.tensor(values, device=device)


def _search_rows(
    keys: Tensor, queries: Tensor, starts: list[int], kernel_size: int, step: int, dilation: int
) -> Tensor:
    """Compute `clip2scene.sparse.search.search` in plain PyTorch, for all offsets of the kernel rows."""
    end = keys.new_full((1,), torch.iinfo(keys.dtype).max)
    ended = torch.cat([keys, end])  # sentinel behind the last key, so that every position can be read
    wanted = queries + _uploaded(tuple(starts), keys.device)[:, None]  # [kernel rows, Q]
    position = torch.searchsorted(keys, wanted)
    found = ended.take(position)
    columns = [torch.where(found == wanted, position, -1)]
    for _ in range(kernel_size - 1):
        wanted = wanted + step
        for _ in range(dilation):
            position = position + (found < wanted)
            found = ended.take(position)
        columns.append(torch.where(found == wanted, position, -1))
    return torch.stack(columns, dim=1).flatten(0, 1)
