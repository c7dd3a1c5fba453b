# ruff: noqa: ANN001, ANN202 - Numba assigns the types of kernel arguments
"""Sparse convolution on a CPU: gather, multiply and scatter fused in one pass over the pairs.

This is the dataflow that TorchSparse++ (Tang et al., MICRO 2023) calls fetch-on-demand, applied to one tile
of output voxels at a time. Rows are read in place and summed in vector registers, so neither gathered rows
nor products go through memory. Numba compiles the loops over tiles, offsets and pairs. The innermost loop
keeps a block of sums in registers and is written in LLVM IR, because Numba has no vector types. The code is
compiled for the host CPU and stored in Numba's cache.

Each output value is a chain of fused multiply-adds. Their order depends neither on the number of threads nor
on the vector width, so results are bit-identical. These kernels are float32 only; other dtypes use plain
PyTorch (`gather_scatter`), the reference of the tests.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from torch import Tensor
from torch.nn.functional import pad

from clip2scene.portable.registers import (
    INT,
    LONG,
    WIDE,
    add_products,
    at,
    compiled,
    in_parallel,
    load,
    n_threads,
    pointer,
    prefetch,
    take,
)  # fmt: skip
from clip2scene.sparse.pairs import OffsetPairs

_ROWS, _WIDTH = WIDE.rows, WIDE.width
_TILE = 512  # output voxels per tile; their sums and the rows of their pairs stay in a core's cache
_LINE = 64  # bytes of a cache line

_ARRAYS = "rows factors result sources targets ends"
_SIZES = "n_rows n_targets n_offsets tile depth columns part n_shares"
_TASK = np.dtype([(name, np.int64) for name in ("taken", *_ARRAYS.split(), *_SIZES.split())])


def sum_products(rows: Tensor, matrices: Tensor, pairs: OffsetPairs) -> Tensor:
    """Return y[t] = sum of rows[s] @ matrices[k] over the pairs (s, t) of all offsets k.

    Args:
        rows: [V, C] float32.
        matrices: [K, C, C'] float32, one per offset.
        pairs: Pairs (s, t), grouped by offset.

    Returns:
        [V', C'] float32.
    """
    depth, columns = matrices.shape[1:]
    panels = _padded(matrices, _WIDTH).unflatten(2, (-1, _WIDTH)).transpose(1, 2)
    result = rows.new_empty(pairs.n_targets, panels.shape[1] * _WIDTH)
    # As many tiles for each thread, of one size: a coarse level has only a few.
    n_tiles = -(-pairs.n_targets // (_TILE * n_threads())) * n_threads()
    tile = -(-pairs.n_targets // max(1, n_tiles))
    _run(_sum_products, rows, panels, result, pairs, tile, depth, result.shape[1], 0, 0)
    return result[:, :columns].contiguous()


def sum_outer_products(rows: Tensor, gradient: Tensor, pairs: OffsetPairs) -> Tensor:
    """Return w[k] = sum of the outer products of rows[s] and gradient[t] over the pairs (s, t) of offset k.

    Args:
        rows: [V, C] float32.
        gradient: [V', C'] float32.
        pairs: Pairs (s, t), grouped by offset.

    Returns:
        [K, C, C'] float32.
    """
    depth, columns = rows.shape[1], gradient.shape[1]
    rows, gradient = _padded(rows, _ROWS), _padded(gradient, _WIDTH)
    result = rows.new_zeros(len(pairs.sizes), rows.shape[1], gradient.shape[1])
    # Split the work by channels. If there are too few channels for all threads, split it by offsets as well.
    threads = n_threads()
    part = _ROWS * -(-result.shape[1] // (_ROWS * threads))
    n_shares = -(-threads * part // result.shape[1])
    _run(_sum_outer_products, rows, gradient, result, pairs, _TILE, *result.shape[1:], part, n_shares)
    return result[:, :depth, :columns].contiguous()


def _padded(matrices: Tensor, multiple: int) -> Tensor:
    lacking = -matrices.shape[-1] % multiple
    return pad(matrices, (0, lacking)) if lacking else matrices


def _run(
    kernel: Callable, rows: Tensor, factors: Tensor, result: Tensor, pairs: OffsetPairs, *sizes: int
) -> None:
    """Run a kernel on all threads; each thread takes the next unclaimed piece of work, e.g. a tile."""
    arrays = rows.contiguous(), factors.contiguous(), result, pairs.sources, pairs.targets, pairs.ends
    addresses = [array.data_ptr() for array in arrays]
    task = np.array((0, *addresses, len(rows), pairs.n_targets, len(pairs.sizes), *sizes), _TASK)
    in_parallel(kernel, task)


# Addresses are integers, and all array elements have 4 bytes.


def _row(b: ir.IRBuilder, rows: ir.Value, size: ir.Value, indices: ir.Value, place: ir.Value) -> ir.Value:
    """Return the address of row `indices[place]` of `rows`, whose rows have `size` elements."""
    return at(b, rows, b.mul(b.sext(load(b, at(b, indices, place), INT), LONG), size))


@intrinsic
def _add_rows_times_panel(_context, result, targets, columns, rows, sources, depth, panel, n_pairs, spare):
    """Add the products of source rows and a panel [depth, WIDTH] to the target rows, for up to ROWS pairs.

    If there are fewer pairs, the free places repeat the first pair and add its product to the spare row.
    """

    def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
        result, targets, columns, rows, sources, depth, panel, n_pairs, spare = arguments
        used = [b.icmp_signed("<", LONG(i), n_pairs) for i in range(_ROWS)]
        places = [b.select(is_used, LONG(i), LONG(0)) for i, is_used in enumerate(used)]
        starts = [_row(b, rows, depth, sources, place) for place in places]
        ends = [_row(b, result, columns, targets, place) for place in places]
        add_products(
            b,
            WIDE,
            [b.select(is_used, end, spare) for is_used, end in zip(used, ends, strict=True)],
            depth,
            left=lambda step: [at(b, start, step) for start in starts],
            right=lambda step: at(b, panel, b.mul(step, LONG(_WIDTH))),
        )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), write


@intrinsic
def _add_outer_products(_context, result, columns, rows, sources, depth, factors, targets, n_pairs):
    """Add the outer products of `n_pairs` pairs to a block [ROWS, WIDTH] of the result."""

    def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
        result, columns, rows, sources, depth, factors, targets, n_pairs = arguments

        def left(step: ir.Value) -> list[ir.Value]:
            start = _row(b, rows, depth, sources, step)
            return [at(b, start, LONG(i)) for i in range(_ROWS)]

        results = [at(b, result, b.mul(columns, LONG(i))) for i in range(_ROWS)]
        add_products(
            b, WIDE, results, n_pairs, left, right=lambda step: _row(b, factors, columns, targets, step)
        )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), write


# The outer loops, in Numba.


@njit
def _first_pair(targets, begin, end, voxel):
    """Return the first pair in [begin, end) whose target is at least `voxel`; targets are ascending."""
    return begin + np.searchsorted(targets[begin:end], voxel)


@njit
def _prefetch(rows, size, start, stop, first, count, end, part, n_parts):
    """Prefetch one of `n_parts` parts of `count` rows: the columns `start` to `stop` of rows of `size`."""
    for row in range(first + count * part // n_parts, min(first + count * (part + 1) // n_parts, end)):
        for address in range(rows + 4 * (row * size + start), rows + 4 * (row * size + stop), _LINE):
            prefetch(address)


@compiled
def _sum_products(address):
    """Compute `sum_products`, output-stationary: a thread takes a tile and loops over its offsets."""
    task = carray(address, 1, _TASK)[0]
    depth, columns = task.depth, task.columns
    ends = carray(pointer(task.ends), task.n_offsets + 1, np.int32)
    targets = carray(pointer(task.targets), ends[task.n_offsets], np.int32)
    result = carray(pointer(task.result), (task.n_targets, columns), np.float32)
    spare = np.empty(_WIDTH, np.float32)
    while True:
        voxel = take(address) * task.tile
        if voxel >= task.n_targets:
            break
        result[voxel : voxel + task.tile] = 0
        for offset in range(task.n_offsets):
            begin = _first_pair(targets, ends[offset], ends[offset + 1], voxel)
            end = _first_pair(targets, begin, ends[offset + 1], voxel + task.tile)
            for column in range(0, columns, _WIDTH):
                panel = task.factors + 4 * depth * (offset * columns + column)
                for pair in range(begin, end, _ROWS):
                    _add_rows_times_panel(
                        *(task.result + 4 * column, task.targets + 4 * pair, columns),
                        *(task.rows, task.sources + 4 * pair, depth, panel),
                        *(end - pair, spare.ctypes.data),
                    )


@compiled
def _sum_outer_products(address):
    """Compute `sum_outer_products`: a thread takes some channels of some offsets and loops over the tiles."""
    task = carray(address, 1, _TASK)[0]
    depth, columns = task.depth, task.columns
    ends = carray(pointer(task.ends), task.n_offsets + 1, np.int32)
    targets = carray(pointer(task.targets), ends[task.n_offsets], np.int32)
    n_parts = (depth + task.part - 1) // task.part
    while True:
        work = take(address)
        if work >= n_parts * task.n_shares:
            break
        channels = range(work % n_parts * task.part, min((work % n_parts + 1) * task.part, depth), _ROWS)
        begins = ends.copy()
        for voxel in range(task.tile, task.n_targets + task.tile, task.tile):
            source = voxel * task.n_rows // task.n_targets  # about where the next tile's rows begin
            n_sources = task.tile * task.n_rows // task.n_targets
            for offset in range(work // n_parts, task.n_offsets, task.n_shares):
                share = offset // task.n_shares, -(-task.n_offsets // task.n_shares)
                _prefetch(task.factors, columns, 0, columns, voxel, task.tile, task.n_targets, *share)
                _prefetch(
                    *(task.rows, depth, channels.start, channels.stop),
                    *(source, n_sources, task.n_rows, *share),
                )
                begin = begins[offset]
                begins[offset] = end = _first_pair(targets, begin, ends[offset + 1], voxel)
                if begin == end:
                    continue
                for column in range(0, columns, _WIDTH):
                    for channel in channels:
                        _add_outer_products(
                            *(task.result + 4 * ((offset * depth + channel) * columns + column), columns),
                            *(task.rows + 4 * channel, task.sources + 4 * begin, depth),
                            *(task.factors + 4 * column, task.targets + 4 * begin, end - begin),
                        )
