"""Kernel maps: which input voxel meets which output voxel under which offset of the kernel.

Offsets are MinkowskiEngine's: x fastest, -1..1 for kernel 3, -2..2 for 5, and 0..1 for 2, in units of the
input's tensor stride times the dilation.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from clip2scene.sparse.blocks import Blocks, Pairs, build_blocks
from clip2scene.sparse.coordinates import shift
from clip2scene.sparse.linear import Bags

_TILE = 32768  # pairs of a tile, about: small buffers, long matrix products; a GPU takes all at once


class Tile(NamedTuple):
    """Consecutive output voxels `rows`, their pairs by offset, and which products a voxel is the sum of.

    Rows `source` [p] times the matrix of their offset go to rows `target` [p]; those of one of the `offsets`
    stand together, `sizes` of them.
    """

    rows: slice
    source: Tensor
    target: Tensor
    offsets: list[int]
    sizes: list[int]
    bags: Bags


class KernelMap:
    """Pairs of input and output voxels.

    Attributes:
        n_pairs: Number of pairs.
        identity: Offset under which every voxel meets itself and which is left out of the pairs; None if none
            does.
    """

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor,
        sizes: list[int],
        n_voxels: tuple[int, int],
        identity: int | None,
    ) -> None:
        """Pairs of `inputs` [P] and `outputs` [P], of which there are `n_voxels`, `sizes` at a time.

        Those of an offset ascend: their keys differ by a constant. With `identity`, what offset k pairs,
        offset K - 1 - k pairs the other way.
        """
        self.n_pairs, self.identity = sum(sizes), identity
        self._inputs, self._outputs = inputs.int(), outputs.int()
        self._sizes, self._n_voxels = sizes, n_voxels

    def tiles(self, transposed: bool) -> list[Tile]:
        """The tiles of the output voxels; if `transposed`, inputs are the outputs and the other way round."""
        return self._tiles_of_inputs if transposed else self._tiles_of_outputs

    @cached_property
    def _tiles_of_outputs(self) -> list[Tile]:
        return _tiles(self._inputs, self._outputs, self._sizes, self._n_voxels[1])

    @cached_property
    def _tiles_of_inputs(self) -> list[Tile]:
        if self.identity is None:
            return _tiles(self._outputs, self._inputs, self._sizes, self._n_voxels[0])
        last = len(self._sizes) - 1
        return [
            tile._replace(offsets=[last - offset for offset in tile.offsets])
            for tile in self._tiles_of_outputs
        ]

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs by offset, those of `identity` too."""
        inputs, outputs, sizes = self._inputs, self._outputs, list(self._sizes)
        if self.identity is not None:
            sizes[self.identity] = self._n_voxels[0]
            before = sum(sizes[: self.identity])
            every = torch.arange(self._n_voxels[0], dtype=torch.int32, device=inputs.device)
            inputs, outputs = (torch.cat([x[:before], every, x[before:]]) for x in (inputs, outputs))
        ends = pad(inputs.new_tensor(sizes).cumsum(0), (1, 0)).int()
        return Pairs(inputs, outputs, ends, sizes)

    def blocks(self, transposed: bool) -> Blocks:
        """The output voxels as Triton's kernels take them; `transposed` as in `tiles`."""
        return self._blocks_of_inputs if transposed else self._blocks_of_outputs

    @cached_property
    def _blocks_of_outputs(self) -> Blocks:
        return build_blocks(self.pairs, self._n_voxels[1])

    @cached_property
    def _blocks_of_inputs(self) -> Blocks:
        if self.identity is None:
            return build_blocks(self.pairs.transpose, self._n_voxels[0])
        blocks = self._blocks_of_outputs
        return blocks._replace(offsets=len(self._sizes) - 1 - blocks.offsets)


def _tiles(sources: Tensor, targets: Tensor, sizes: list[int], n_voxels: int) -> list[Tile]:
    """Tiles of pairs of `sources` [P] and `targets` [P] that ascend within each offset's `sizes`."""
    n_tiles = 1 if targets.is_cuda else max(1, -(-len(targets) // _TILE))
    rows = [n_voxels * tile // n_tiles for tile in range(n_tiles + 1)]
    edges = targets.new_tensor(rows)
    within = torch.stack([torch.searchsorted(part, edges) for part in targets.split(sizes)])  # [K, T + 1]
    counts = within.diff(dim=1)
    places = counts.cumsum(0) - counts  # where in its tile each block begins [K, T]
    first = counts.flatten().cumsum(0).view_as(counts) - counts  # and where among all pairs

    order = targets.argsort(stable=True)
    to_place = (places - first).flatten().repeat_interleave(counts.flatten(), output_size=len(targets))
    members = (order + to_place[order]).int()
    ends = pad(torch.bincount(targets, minlength=n_voxels).cumsum(0), (1, 0))  # of each voxel's members

    counts, first = counts.t().tolist(), first.t().tolist()  # [T, K]
    member_ends = ends[edges].tolist()
    tiles = []
    for i in range(n_tiles):
        bags = Bags(
            members[member_ends[i] : member_ends[i + 1]],
            (ends[rows[i] : rows[i + 1] + 1] - member_ends[i]).int(),
        )
        parts = [slice(begin, begin + count) for begin, count in zip(first[i], counts[i], strict=True)]
        source, target = (
            pairs if n_tiles == 1 else torch.cat([pairs[part] for part in parts])
            for pairs in (sources, targets)
        )
        offsets = [offset for offset, count in enumerate(counts[i]) if count]
        held = [count for count in counts[i] if count]
        tiles.append(Tile(slice(rows[i], rows[i + 1]), source, target, offsets, held, bags))
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
    volume = kernel_size**3
    n_offsets = volume // 2 if symmetric else volume
    table = find_neighbours(inputs, outputs, kernel_size, tensor_stride, dilation, n_offsets)
    hit = table >= 0
    sizes = hit.sum(1).tolist()
    pairs = hit.flatten().nonzero()[:, 0]
    source, target = table.flatten()[pairs], pairs % len(outputs)
    if symmetric:
        mirrored_source, mirrored_target = reversed(target.split(sizes)), reversed(source.split(sizes))
        source, target = torch.cat([source, *mirrored_source]), torch.cat([target, *mirrored_target])
        sizes = [*sizes, 0, *reversed(sizes)]
    identity = volume // 2 if symmetric else None
    return KernelMap(source, target, sizes, (len(inputs), len(outputs)), identity)


def find_neighbours(
    keys: Tensor,
    queries: Tensor,
    kernel_size: int,
    tensor_stride: int,
    dilation: int = 1,
    n_offsets: int | None = None,
) -> Tensor:
    """Position in `keys` of each query's neighbour under the first n offsets (None: all): [n, Q], -1 if none.

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
    position = torch.searchsorted(keys, wanted)
    found = ended.take(position)
    columns = [torch.where(found == wanted, position, -1)]
    for _ in range(kernel_size - 1):
        wanted = wanted + step
        for _ in range(dilation):
            position = position + (found < wanted)
            found = ended.take(position)
        columns.append(torch.where(found == wanted, position, -1))
    return torch.stack(columns, dim=1).flatten(0, 1)[:n_offsets]
