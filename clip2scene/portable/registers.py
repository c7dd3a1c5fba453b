# ruff: noqa: ANN001, ANN201, ANN202 - Numba assigns the types of kernel arguments
"""The innermost loop of all products: a block of sums in vector registers, and the threads that run it.

Numba compiles the loops around it. The innermost one is written in LLVM IR, because Numba has no vector
types. The code is compiled for the host CPU and stored in Numba's cache.

Each sum is a chain of fused multiply-adds, and vectors hold sums of their own. So neither the width of the
vectors nor the shape of a block changes a bit of the result.
"""

import ctypes
import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import CellType, FunctionType
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import cfunc, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic


class Block(NamedTuple):
    """Shape of a block of sums in registers: `rows` times `vectors` vectors of `lanes` float32 values."""

    lanes: int
    vectors: int
    rows: int

    @property
    def width(self) -> int:
        """Columns of the block."""
        return self.lanes * self.vectors


def blocks_of(features: dict[str, bool]) -> tuple[Block, Block, Block]:
    """Return the blocks that fill the registers of a processor: for many columns, for few, for very few."""
    if features.get("avx512f"):
        return Block(16, 2, 8), Block(16, 1, 16), Block(8, 1, 16)
    if features.get("avx2"):
        return Block(8, 2, 6), Block(8, 1, 12), Block(8, 1, 12)
    return Block(4, 2, 8), Block(4, 2, 8), Block(4, 2, 8)


def features() -> dict[str, bool]:
    """Return the vector instructions that Numba compiles for: this processor's, or those it was told."""
    told = numba.config.CPU_FEATURES  # NUMBA_CPU_FEATURES
    if told is None:
        return get_host_cpu_features()
    return {name[1:]: name[0] == "+" for name in told.split(",") if name}


_SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()
WIDE, NARROW, SLIM = blocks_of(features())

_threads: int | None = None
_TORCH = ctypes.CDLL(torch._C.__file__)  # symbols are also found in the libraries that it links, e.g. OpenMP
FLOAT, INT, LONG = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def compiled(function: Callable) -> Any:
    """Compile a kernel, whose only argument is the address of its task; keep it in Numba's cache if possible.

    Where neither the installation nor the user's cache can be written, it is compiled anew in each process.
    Numba looks at a kernel's own file to see whether its cache holds, and at the values that a kernel closes
    over. So each closes over a hash of the files that kernels are made of.
    """
    code = function.__code__.replace(co_freevars=("sources",))
    cell = CellType(_SOURCES)
    function = FunctionType(code, function.__globals__, function.__name__, closure=(cell,))
    try:
        return cfunc(types.void(types.voidptr), cache=True)(function)
    except (RuntimeError, OSError):  # Numba finds no folder for its cache, or the disk is full
        return cfunc(types.void(types.voidptr))(function)


def n_threads() -> int:
    """Return the number of threads that kernels use: that of `set_threads`, or torch's own."""
    return _threads or torch.get_num_threads()


def set_threads(count: int | None) -> None:
    """Have kernels use `count` threads, which changes no bit; None: as many as torch."""
    global _threads
    _threads = count


def in_parallel(kernel: Any, task: np.ndarray) -> None:
    """Call a kernel with a task on `n_threads` threads.

    If torch uses GNU OpenMP (on Linux), these are torch's own threads. They spin for a few milliseconds after
    each parallel region, so a second thread pool would compete with them for the cores: a step of SPVCNN
    takes 2.0 s with Python threads and 1.6 s with torch's threads. Without GNU OpenMP, Python threads run.
    """
    count, argument = n_threads(), task.ctypes.data
    if count == 1:
        kernel.ctypes(argument)
        return
    if hasattr(_TORCH, "GOMP_parallel"):
        _TORCH.GOMP_parallel(ctypes.c_void_p(kernel.address), ctypes.c_void_p(argument), count, 0)
        return
    threads = [Thread(target=kernel.ctypes, args=(argument,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Addresses are integers, and all array elements have 4 bytes.


def at(b: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    """Return the address of an array's element."""
    return b.add(base, b.mul(index, LONG(4)))


def load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    """Return the value at an address."""
    return b.load(b.inttoptr(address, ir.PointerType()), align=4, typ=kind)


def add_products(
    b: ir.IRBuilder, block: Block, results: list[ir.Value], n_steps: ir.Value, left: Callable, right: Callable
) -> None:
    """Add the outer products of all steps to a block of the result.

    Args:
        b: Builder that receives the instructions.
        block: Shape of the block.
        results: Address of each of the block's rows.
        n_steps: Number of steps, at least one.
        left: Function that returns the addresses of a step's left factors, one a row.
        right: Function that returns the address of a step's adjacent right factors, one a column.
    """
    vector = ir.VectorType(FLOAT, block.lanes)
    multiply_add = get_or_insert_function(
        b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{block.lanes}f32"
    )
    before, loop, after = b.block, b.append_basic_block("steps"), b.append_basic_block("summed")
    b.branch(loop)
    b.position_at_end(loop)
    step = b.phi(LONG)
    sums = [[b.phi(vector) for _ in range(block.vectors)] for _ in range(block.rows)]
    columns = right(step)
    factors = [load(b, b.add(columns, LONG(4 * i * block.lanes)), vector) for i in range(block.vectors)]
    totals = []
    for address, row in zip(left(step), sums, strict=True):
        number = b.insert_element(vector(ir.Undefined), load(b, address, FLOAT), INT(0))
        number = b.shuffle_vector(number, number, ir.VectorType(INT, block.lanes)([0] * block.lanes))
        totals.append([b.call(multiply_add, [number, *pair]) for pair in zip(factors, row, strict=True)])
    following = b.add(step, LONG(1))
    b.cbranch(b.icmp_signed("<", following, n_steps), loop, after)
    step.add_incoming(LONG(0), before)
    step.add_incoming(following, loop)
    b.position_at_end(after)
    for i, address in enumerate(results):
        for j in range(block.vectors):
            sums[i][j].add_incoming(vector(None), before)
            sums[i][j].add_incoming(totals[i][j], loop)
            place = b.inttoptr(b.add(address, LONG(4 * j * block.lanes)), ir.PointerType())
            b.store(b.fadd(b.load(place, align=4, typ=vector), totals[i][j]), place, align=4)


@intrinsic
def pointer(_context, address):
    """Return the pointer to an address."""

    def write(_: Any, b: ir.IRBuilder, __: Any, arguments: list[ir.Value]) -> ir.Value:
        return b.inttoptr(arguments[0], ir.PointerType(ir.IntType(8)))

    return types.voidptr(types.int64), write


@intrinsic
def take(_context, pointer):
    """Return the number of the next piece of work and increment it (atomically): the task's first field."""

    def write(_: Any, b: ir.IRBuilder, __: Any, arguments: list[ir.Value]) -> ir.Value:
        place = b.bitcast(arguments[0], ir.PointerType(LONG))
        return b.atomic_rmw("add", place, LONG(1), "monotonic")

    return types.int64(types.voidptr), write


@intrinsic
def copy(_context, target, source, count):
    """Copy `count` values from one address to another."""

    def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
        target, source, count = arguments
        place = ir.PointerType()
        kind = ir.FunctionType(ir.VoidType(), [place, place, LONG, ir.IntType(1)])
        function = get_or_insert_function(b.module, kind, "llvm.memcpy.p0.p0.i64")
        size = b.mul(count, LONG(4))
        b.call(function, [b.inttoptr(target, place), b.inttoptr(source, place), size, ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), write


@intrinsic
def prefetch(_context, address):
    """Have the cache line at an address brought into the core's second cache, for a read soon."""

    def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), INT, INT, INT])
        function = get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        place = b.inttoptr(arguments[0], ir.PointerType())
        b.call(function, [place, INT(0), INT(2), INT(1)])  # a read, of that cache, of data
        return context.get_dummy_value()

    return types.void(types.int64), write


def strided(block: Block) -> Callable:
    """Return the function that adds a product of rows and a panel to a block of the result, for Numba."""

    @intrinsic
    def add(_context, result, columns, rows, row, step, panel, stride, depth, n_rows, spare):
        def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
            result, columns, rows, row, step, panel, stride, depth, n_rows, spare = arguments
            used = [b.icmp_signed("<", LONG(i), n_rows) for i in range(block.rows)]
            starts = [
                at(b, rows, b.select(is_used, b.mul(row, LONG(i)), LONG(0))) for i, is_used in enumerate(used)
            ]
            ends = [at(b, result, b.mul(columns, LONG(i))) for i in range(block.rows)]

            def left(number: ir.Value) -> list[ir.Value]:
                offset = b.mul(step, number)
                return [at(b, start, offset) for start in starts]

            add_products(
                *(b, block, [b.select(*pair, spare) for pair in zip(used, ends, strict=True)], depth),
                left=left,
                right=lambda number: at(b, panel, b.mul(number, stride)),
            )
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), write

    return add
