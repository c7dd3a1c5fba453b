# ruff: noqa: ANN001, ANN202 - Numba gives the arguments of its kernels their types
"""Sparse convolution on a CPU: gather, multiply and scatter fused in one pass over the pairs.

The dataflow that TorchSparse++ (Tang et al., MICRO 2023) calls fetch-on-demand, a tile of output voxels at a
time: rows are read where they lie and summed in vector registers, so that neither gathered rows nor products
go through memory. Numba
compiles the loops over tiles, offsets and pairs; the innermost one, which holds a block of sums in registers,
is LLVM IR, as Numba has no vectors. They are compiled for the processor at hand, and kept in Numba's cache.

Every number of a result is a chain of fused multiply-adds, in an order that depends neither on how many
threads run nor on how wide their vectors are: results are the same bit for bit. float32 only; other types are
left to plain PyTorch (`gather_scatter`), the oracle of the tests.
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

from clip2scene.sparse.pairs import Pairs

_CPU = get_host_cpu_features()
# float32 numbers in a vector register, and how many rows of two vectors of sums fill the registers
_LANES, _ROWS = (16, 8) if _CPU.get("avx512f") else (8, 6) if _CPU.get("avx2") else (4, 8)
_WIDTH = 2 * _LANES

_TILE = 512  # voxels: their sums and the rows of their pairs stay in a core's cache

_FIELDS = "taken rows factors result sources targets ends n_targets n_offsets depth columns part n_shares"
_TASK = np.dtype([(name, np.int64) for name in _FIELDS.split()])
_TORCH = ctypes.CDLL(torch._C.__file__)  # and the libraries it is linked with


def sum_products(rows: Tensor, matrices: Tensor, pairs: Pairs) -> Tensor:
    """Sums [V', C'] over the pairs of a row [C] of `rows` [V, C] times its offset's matrix, [K, C, C']."""
    depth, columns = matrices.shape[1:]
    panels = _padded(matrices, _WIDTH).unflatten(2, (-1, _WIDTH)).transpose(1, 2)
    result = rows.new_empty(pairs.n_targets, panels.shape[1] * _WIDTH)
    _run(_sum_products, rows, panels, result, pairs, depth, result.shape[1], 0, 0)
    return result[:, :columns].contiguous()


def sum_outer_products(rows: Tensor, gradient: Tensor, pairs: Pairs) -> Tensor:
    """Sums [K, C, C'] over an offset's pairs of outer products of rows [V, C] and [V', C']."""
    depth, columns = rows.shape[1], gradient.shape[1]
    rows, gradient = _padded(rows, _ROWS), _padded(gradient, _WIDTH)
    result = rows.new_zeros(len(pairs.sizes), rows.shape[1], gradient.shape[1])
    # Each thread has its channels. If there are fewer channels than threads, these share the offsets.
    threads = torch.get_num_threads()
    part = _ROWS * -(-result.shape[1] // (_ROWS * threads))
    n_shares = -(-threads * part // result.shape[1])
    _run(_sum_outer_products, rows, gradient, result, pairs, *result.shape[1:], part, n_shares)
    return result[:, :depth, :columns].contiguous()


def _padded(matrices: Tensor, multiple: int) -> Tensor:
    lacking = -matrices.shape[-1] % multiple
    return pad(matrices, (0, lacking)) if lacking else matrices


def _run(kernel: Callable, rows: Tensor, factors: Tensor, result: Tensor, pairs: Pairs, *sizes: int) -> None:
    """Have all threads run a kernel; each takes of the work what no other has taken."""
    arrays = rows.contiguous(), factors.contiguous(), result, pairs.sources, pairs.targets, pairs.ends
    addresses = [array.data_ptr() for array in arrays]
    task = np.array((0, *addresses, pairs.n_targets, len(pairs.sizes), *sizes), _TASK)
    _in_parallel(kernel.address, task.ctypes.data)


def _in_parallel(function: int, argument: int) -> None:
    """Call a C function with an argument in as many threads as torch has.

    These are its own OpenMP threads where it has GNU's (on Linux). As these look out for work for some
    milliseconds after torch has given them any, others would have to share the cores with them: with Python's
    threads a step of SPVCNN takes 2.0 s in place of 1.6.
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


# The innermost loop, as LLVM IR. Addresses are integers, and whatever they lead to has 4 bytes an element.

_FLOAT, _INT, _LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, _LANES)


def _at(b: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    return b.add(base, b.mul(index, _LONG(4)))


def _load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return b.load(b.inttoptr(address, ir.PointerType()), align=4, typ=kind)


def _row(b: ir.IRBuilder, rows: ir.Value, size: ir.Value, indices: ir.Value, place: ir.Value) -> ir.Value:
    """Address of the row, of `size` elements, that the index at a place names."""
    return _at(b, rows, b.mul(b.sext(_load(b, _at(b, indices, place), _INT), _LONG), size))


def _add_products(
    b: ir.IRBuilder, results: list[ir.Value], n_steps: ir.Value, left: Callable, right: Callable
) -> None:
    """Add to the rows [ROWS, WIDTH] of the result the outer products of all steps.

    Args:
        b: Where to write instructions.
        results: Address of each row.
        n_steps: At least one.
        left: Of a step, the addresses of ROWS numbers.
        right: Of a step, the address of WIDTH adjacent numbers.
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
    """To rows of the result add products of rows and a panel [depth, WIDTH], for up to ROWS pairs.

    Of fewer, the first is computed again in place of those that lack, and added to the spare row.
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
    """To ROWS rows of the result add outer products of ROWS and WIDTH numbers, of `n_pairs` pairs."""

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
    """Number of the next piece of work: the task's first field, before one is added to it."""

    def write(_: Any, b: ir.IRBuilder, __: Any, arguments: list[ir.Value]) -> ir.Value:
        place = b.bitcast(arguments[0], ir.PointerType(_LONG))
        return b.atomic_rmw("add", place, _LONG(1), "monotonic")

    return types.int64(types.voidptr), write


# The loops around it, in Numba.


@njit
def _first_pair(targets, begin, end, voxel):
    """Where among some pairs, whose targets ascend, those of a voxel and the following ones begin."""
    return begin + np.searchsorted(targets[begin:end], voxel)


@cfunc(types.void(types.voidptr), cache=True)
def _sum_products(pointer):
    """Output-stationary: the rows of a tile are one thread's work, offset by offset."""
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


@cfunc(types.void(types.voidptr), cache=True)
def _sum_outer_products(pointer):
    """Some channels of some offsets are one thread's work, which goes through the pairs tile by tile."""
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
