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

import ctypes
from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import carray, cfunc, njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from torch import Tensor
from torch.nn.functional import pad

from clip2scene.sparse.pairs import OffsetPairs

_CPU = get_host_cpu_features()
# float32 values per vector register, and number of rows of sums (two vectors each) that fill the registers
_LANES, _ROWS = (16, 8) if _CPU.get("avx512f") else (8, 6) if _CPU.get("avx2") else (4, 8)
_WIDTH = 2 * _LANES

_TILE = 512  # output voxels per tile; their sums and the rows of their pairs stay in a core's cache

_FIELDS = "taken rows factors result sources targets ends n_targets n_offsets depth columns part n_shares"
_TASK = np.dtype([(name, np.int64) for name in _FIELDS.split()])
_TORCH = ctypes.CDLL(torch._C.__file__)  # symbols are also found in the libraries that it links, e.g. OpenMP


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
    _run(_sum_products, rows, panels, result, pairs, depth, result.shape[1], 0, 0)
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
    threads = torch.get_num_threads()
    part = _ROWS * -(-result.shape[1] // (_ROWS * threads))
    n_shares = -(-threads * part // result.shape[1])
    _run(_sum_outer_products, rows, gradient, result, pairs, *result.shape[1:], part, n_shares)
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
    task = np.array((0, *addresses, pairs.n_targets, len(pairs.sizes), *sizes), _TASK)
    _in_parallel(kernel.address, task.ctypes.data)


def _in_parallel(function: int, argument: int) -> None:
    """Call a C function with an argument on as many threads as torch uses.

    If torch uses GNU OpenMP (on Linux), these are torch's own threads. They spin for a few milliseconds after
    each parallel region, so a second thread pool would compete with them for the cores: a step of SPVCNN
    takes 2.0 s with Python threads and 1.6 s with torch's threads. Without GNU OpenMP, Python threads run.
    """
    n_threads = torch.get_num_threads()
    if hasattr(_TORCH, "GOMP_parallel"):
        _TORCH.GOMP_parallel(ctypes.c_void_p(function), ctypes.c_void_p(argument), n_threads, 0)
        return
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    threads = [Thread(target=call, args=(argument,)) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# The innermost loop, in LLVM IR. Addresses are integers, and all array elements have 4 bytes.

_FLOAT, _INT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, _LANES)


def _at(b: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    return b.add(base, b.mul(index, _LONG(4)))


def _load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return b.load(b.inttoptr(address, ir.PointerType()), align=4, typ=kind)


def _row(b: ir.IRBuilder, rows: ir.Value, size: ir.Value, indices: ir.Value, place: ir.Value) -> ir.Value:
    """Return the address of row `indices[place]` of `rows`, whose rows have `size` elements."""
    return _at(b, rows, b.mul(b.sext(_load(b, _at(b, indices, place), _INT), _LONG), size))


def _add_products(
    b: ir.IRBuilder, results: list[ir.Value], n_steps: ir.Value, left: Callable, right: Callable
) -> None:
    """Add the outer products of all steps to a block [ROWS, WIDTH] of the result.

    Args:
        b: Builder that receives the instructions.
        results: Address of each of the block's rows.
        n_steps: Number of steps, at least one.
        left: Function that returns the addresses of a step's ROWS left factors.
        right: Function that returns the address of a step's WIDTH adjacent right factors.
    """
    multiply_add = get_or_insert_function(
        b.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{_LANES}f32"
    )
    before, loop, after = b.block, b.append_basic_block("steps"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    step = b.phi(_LONG)
    sums = [[b.phi(_VECTOR) for _ in range(2)] for _ in range(_ROWS)]
    columns = right(step)
    factors = [_load(b, b.add(columns, _LONG(4 * half * _LANES)), _VECTOR) for half in range(2)]
    totals = []
    for address, row in zip(left(step), sums, strict=True):
        number = b.insert_element(_VECTOR(ir.Undefined), _load(b, address, _FLOAT), _INT(0))
        number = b.shuffle_vector(number, number, ir.VectorType(_INT, _LANES)([0] * _LANES))
        totals.append([b.call(multiply_add, [number, *pair]) for pair in zip(factors, row, strict=True)])
    following = b.add(step, _LONG(1))
    b.cbranch(b.icmp_signed("<", following, n_steps), loop, after)
    step.add_incoming(_LONG(0), before)
    step.add_incoming(following, loop)
    b.position_at_end(after)
    for i, address in enumerate(results):
        for half in range(2):
            sums[i][half].add_incoming(_VECTOR(None), before)
            sums[i][half].add_incoming(totals[i][half], loop)
            place = b.inttoptr(b.add(address, _LONG(4 * half * _LANES)), ir.PointerType())
            b.store(b.fadd(b.load(place, align=4, typ=_VECTOR), totals[i][half]), place, align=4)


@intrinsic
def _add_rows_times_panel(_context, result, targets, columns, rows, sources, depth, panel, n_pairs, spare):
    """Add the products of source rows and a panel [depth, WIDTH] to the target rows, for up to ROWS pairs.

    If there are fewer pairs, the free places repeat the first pair and add its product to the spare row.
    """

    def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
        result, targets, columns, rows, sources, depth, panel, n_pairs, spare = arguments
        used = [b.icmp_signed("<", _LONG(i), n_pairs) for i in range(_ROWS)]
        places = [b.select(is_used, _LONG(i), _LONG(0)) for i, is_used in enumerate(used)]
        starts = [_row(b, rows, depth, sources, place) for place in places]
        ends = [_row(b, result, columns, targets, place) for place in places]
        _add_products(
            b,
            [b.select(is_used, end, spare) for is_used, end in zip(used, ends, strict=True)],
            depth,
            left=lambda step: [_at(b, start, step) for start in starts],
            right=lambda step: _at(b, panel, b.mul(step, _LONG(_WIDTH))),
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
            return [_at(b, start, _LONG(i)) for i in range(_ROWS)]

        results = [_at(b, result, b.mul(columns, _LONG(i))) for i in range(_ROWS)]
        _add_products(b, results, n_pairs, left, right=lambda step: _row(b, factors, columns, targets, step))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), write


@intrinsic
def _pointer(_context, address):
    def write(_: Any, b: ir.IRBuilder, __: Any, arguments: list[ir.Value]) -> ir.Value:
        return b.inttoptr(arguments[0], ir.PointerType(ir.IntType(8)))

    return types.voidptr(types.int64), write


@intrinsic
def _take(_context, pointer):
    """Return the number of the next piece of work and increment it (atomically): the task's first field."""

    def write(_: Any, b: ir.IRBuilder, __: Any, arguments: list[ir.Value]) -> ir.Value:
        place = b.bitcast(arguments[0], ir.PointerType(_LONG))
        return b.atomic_rmw("add", place, _LONG(1), "monotonic")

    return types.int64(types.voidptr), write


# The outer loops, in Numba.


def _compiled(function: Callable) -> Any:
    """Compile a kernel, whose only argument is the address of its task; keep it in Numba's cache if possible.

    Where neither the installation nor the user's cache can be written, it is compiled anew in each process.
    """
    try:
        return cfunc(types.void(types.voidptr), cache=True)(function)
    except (RuntimeError, OSError):  # Numba finds no folder for its cache, or the disk is full
        return cfunc(types.void(types.voidptr))(function)


@njit
def _first_pair(targets, begin, end, voxel):
    """Return the first pair in [begin, end) whose target is at least `voxel`; targets are ascending."""
    return begin + np.searchsorted(targets[begin:end], voxel)


@_compiled
def _sum_products(pointer):
    """Compute `sum_products`, output-stationary: a thread takes a tile and loops over its offsets."""
    task = carray(pointer, 1, _TASK)[0]
    depth, columns = task.depth, task.columns
    ends = carray(_pointer(task.ends), task.n_offsets + 1, np.int32)
    targets = carray(_pointer(task.targets), ends[task.n_offsets], np.int32)
    result = carray(_pointer(task.result), (task.n_targets, columns), np.float32)
    spare = np.empty(_WIDTH, np.float32)
    while True:
        voxel = _take(pointer) * _TILE
        if voxel >= task.n_targets:
            break
        result[voxel : voxel + _TILE] = 0
        for offset in range(task.n_offsets):
            begin = _first_pair(targets, ends[offset], ends[offset + 1], voxel)
            end = _first_pair(targets, begin, ends[offset + 1], voxel + _TILE)
            for column in range(0, columns, _WIDTH):
                panel = task.factors + 4 * depth * (offset * columns + column)
                for pair in range(begin, end, _ROWS):
                    _add_rows_times_panel(
                        *(task.result + 4 * column, task.targets + 4 * pair, columns),
                        *(task.rows, task.sources + 4 * pair, depth, panel),
                        *(end - pair, spare.ctypes.data),
                    )


@_compiled
def _sum_outer_products(pointer):
    """Compute `sum_outer_products`: a thread takes some channels of some offsets and loops over the tiles."""
    task = carray(pointer, 1, _TASK)[0]
    depth, columns = task.depth, task.columns
    ends = carray(_pointer(task.ends), task.n_offsets + 1, np.int32)
    targets = carray(_pointer(task.targets), ends[task.n_offsets], np.int32)
    n_parts = (depth + task.part - 1) // task.part
    while True:
        work = _take(pointer)
        if work >= n_parts * task.n_shares:
            break
        channels = range(work % n_parts * task.part, min((work % n_parts + 1) * task.part, depth), _ROWS)
        begins = ends.copy()
        for voxel in range(_TILE, task.n_targets + _TILE, _TILE):
            for offset in range(work // n_parts, task.n_offsets, task.n_shares):
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
