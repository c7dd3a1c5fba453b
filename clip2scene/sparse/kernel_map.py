"""Kernel maps: which input voxel meets which output voxel under which offset of the kernel.

Offsets are MinkowskiEngine's: x fastest, -1..1 for kernel 3, -2..2 for 5, and 0..1 for 2, in units of the
input's tensor stride times the dilation.
"""

from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from clip2scene.sparse.coordinates import shift
from clip2scene.sparse.linear import Bags

_TILE = 4096  # output voxels of a tile: their products mostly stay in a core's cache; a GPU takes all at once


class Block(NamedTuple):
    """The pairs of one offset in a tile: rows `source` [p] times its matrix go to rows `target` [p].

    `place` is where their products stand among those of the tile.
    """

    offset: int
    place: slice
    source: Tensor
    target: Tensor


class Tile(NamedTuple):
    """Consecutive output voxels `rows`, their pairs by offset, and which products a voxel is the sum of."""

    rows: slice
    n_pairs: int
    blocks: list[Block]
    bags: Bags


class KernelMap:
    """Pairs of input and output voxels, by tile of the output and kernel offset.

    Attributes:
        n_pairs: Number of pairs, less those of `identity`.
        identity: Offset under which every voxel meets itself and which is left out of the pairs; None if none
            does.
    """

    def __init__(self, table: Tensor, n_inputs: int, symmetric: bool) -> None:
        """Pairs from a table of neighbours.

        Args:
            table: [K, V_out] int32, input voxel that each output voxel meets under each offset; -1 = none.
            n_inputs: V_in.
            symmetric: Inputs are the outputs, and what offset k pairs, offset K - 1 - k pairs the other way.
        """
        self._shape = len(table), n_inputs
        self.identity = len(table) // 2 if symmetric else None
        self._tiles = _tiles(table)
        self._table = None if symmetric else table
        self.n_pairs = sum(tile.n_pairs for tile in self._tiles)

    def tiles(self, transposed: bool) -> list[Tile]:
        """The tiles of the outputs; of the inputs if `transposed`, which are then what is summed up.

        The pairs of a symmetric map are their own transposed ones, under the opposite offsets.
        """
        return self._transposed_tiles if transposed else self._tiles

    @cached_property
    def _transposed_tiles(self) -> list[Tile]:
        if self._table is None:
            last = self._shape[0] - 1
            return [
                tile._replace(blocks=[block._replace(offset=last - block.offset) for block in tile.blocks])
                for tile in self._tiles
            ]
        hits = (self._table >= 0).flatten().nonzero()[:, 0]
        offsets, outputs = hits // self._table.shape[1], hits % self._table.shape[1]
        inputs = self._table.flatten()[hits]
        transposed = self._table.new_full(self._shape, -1)
        transposed[offsets, inputs] = outputs.int()
        return _tiles(transposed)


def _tiles(table: Tensor) -> list[Tile]:
    """Tiles of the pairs in a table [K, V] (see `KernelMap`)."""
    volume, n_voxels = table.shape
    n_tiles = 1 if table.is_cuda else -(-n_voxels // _TILE)
    size = -(-n_voxels // n_tiles)
    padded = pad(table, (0, n_tiles * size - n_voxels), value=-1)
    padded = padded.view(volume, n_tiles, size).transpose(0, 1).contiguous()  # [T, K, size]
    hit = padded >= 0
    pairs = hit.flatten().nonzero()[:, 0]
    sources = padded.flatten()[pairs]
    targets = (pairs // (volume * size) * size + pairs % size).int()

    counts = hit.sum(2)
    totals = counts.sum(1)
    first = totals.cumsum(0) - totals
    place = torch.arange(len(pairs), device=table.device) - first.repeat_interleave(totals)
    places = torch.full_like(padded, -1).flatten().index_copy_(0, pairs, place.int())
    places = places.view(n_tiles, volume, size).transpose(1, 2).flatten()  # by output voxel, then by offset
    members = places[places >= 0]
    offsets = pad(hit.sum(1).cumsum(1), (1, 0)).int()  # [T, size + 1]

    totals = totals.tolist()
    parts = zip(sources.split(totals), targets.split(totals), members.split(totals), offsets, strict=True)
    tiles = []
    for i, (sizes, (source, target, member, offset)) in enumerate(zip(counts.tolist(), parts, strict=True)):
        start, stop = i * size, min((i + 1) * size, n_voxels)
        ends = list(accumulate(sizes, initial=0))
        places = [slice(*ends[k : k + 2]) for k in range(volume)]
        blocks = [Block(k, p, source[p], target[p]) for k, p in enumerate(places) if sizes[k]]
        bags = Bags(member, offset[: stop - start + 1])
        tiles.append(Tile(slice(start, stop), ends[-1], blocks, bags))
    return tiles


def build_kernel_map(
    inputs: Tensor, outputs: Tensor, kernel_size: int, tensor_stride: int, dilation: int
) -> KernelMap:
    """Find the pairs of a convolution.

    Where outputs are the inputs and the kernel is centred, offset k finds what offset K - 1 - k finds, with
    the roles exchanged, and the centre finds every voxel itself: under half of the offsets are looked up.

    Args:
        inputs: [V_in] sorted keys of the input voxels.
        outputs: [V_out] sorted keys of the output voxels; the same object as `inputs` where they are the
            same.
        kernel_size: Edge of the kernel.
        tensor_stride: Spacing of the input voxels.
        dilation: Spacing of the kernel's offsets, in input voxels.
    """
    symmetric = inputs is outputs and kernel_size % 2 == 1
    volume, n_voxels = kernel_size**3, len(outputs)
    if not symmetric:
        table = find_neighbours(inputs, outputs, kernel_size, tensor_stride, dilation)
        return KernelMap(table, len(inputs), symmetric)
    half = find_neighbours(inputs, outputs, kernel_size, tensor_stride, dilation, volume // 2)
    table = half.new_full((volume, n_voxels), -1)
    table[: len(half)] = half
    pairs = (half >= 0).flatten().nonzero()[:, 0]
    offsets, targets = pairs // n_voxels, pairs % n_voxels
    mirrored = (volume - 1 - offsets) * n_voxels + half.flatten()[pairs]
    table.view(-1).index_copy_(0, mirrored, targets.int())
    return KernelMap(table, n_voxels, symmetric)


def find_neighbours(
    keys: Tensor,
    queries: Tensor,
    kernel_size: int,
    tensor_stride: int,
    dilation: int = 1,
    n_offsets: int | None = None,
) -> Tensor:
    """Position in `keys` of each query's neighbour under the first n offsets, or -1: [n, Q] int32.

    Neighbours along x lie side by side in the sorted keys, so that only the first of a row of the kernel is
    searched for; from there to the next are at most `dilation` keys.
    """
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    step = tensor_stride * dilation
    axis = range(first * step, (first + kernel_size) * step, step)
    n_rows = kernel_size**2 if n_offsets is None else -(-n_offsets // kernel_size)
    starts = [shift(axis[0], y, z) for z in axis for y in axis][:n_rows]
    end = keys.new_full((1,), torch.iinfo(keys.dtype).max)
    ended = torch.cat([keys, end])  # past the last key, so that every position can be read
    wanted = queries + keys.new_tensor(starts)[:, None]  # [rows of the kernel, Q]
    position = torch.searchsorted(keys, wanted, out_int32=True)
    found = ended[position]
    columns = [torch.where(found == wanted, position, -1)]
    for _ in range(kernel_size - 1):
        wanted = wanted + step
        for _ in range(dilation):
            position = position + (found < wanted)
            found = ended[position]
        columns.append(torch.where(found == wanted, position, -1))
    return torch.stack(columns, dim=1).flatten(0, 1)[:n_offsets]
