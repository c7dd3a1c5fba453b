# ruff: noqa: ANN001, ANN201, ANN202 - Numba assigns the types of kernel arguments
"""Loops over the rows of features with a vector of channels each, written in LLVM IR, for Numba."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from clip2scene.portable.registers import FLOAT, INT, LONG, WIDE, at, load

_WIDTH, _LANES = WIDE.width, WIDE.lanes
_BIT = ir.IntType(1)
VECTOR = ir.VectorType(FLOAT, _LANES)


def zero() -> ir.Value:
    """Return a vector of zeros."""
    return VECTOR([0.0] * _LANES)


def multiply_add(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """Return x * y + z of vectors, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return b.call(get_or_insert_function(b.module, kind, f"llvm.fma.v{_LANES}f32"), [x, y, z])


@intrinsic
def fused(_context, x, y, z):
    """Return x * y + z of three numbers, rounded once."""

    def write(_: Any, b: ir.IRBuilder, __: Any, arguments: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(FLOAT, [FLOAT] * 3)
        return b.call(get_or_insert_function(b.module, kind, "llvm.fma.f32"), arguments)

    return types.float32(*[types.float32] * 3), write


def over_rows(sums: int, constants: int, inputs: int, outputs: int, body: Callable) -> Callable:
    """Return a function for Numba that reads rows of features, and adds to sums or writes rows of others.

    Args:
        sums: Number of arrays of sums over the rows, a value a channel.
        constants: Number of arrays of other values, one a channel.
        inputs: Number of matrices that are read.
        outputs: Number of matrices that are written.
        body: Given the builder, and vectors of the sums, the constants and the inputs of a row, it returns
            the new sums and the outputs.

    Returns:
        Function of the first row, the number of rows, the channels of a row, the first channel and the one
        after the last, and the addresses of sums, constants, inputs and outputs, as a tuple.
    """
    counts = sums, constants, inputs, outputs
    wide, narrow, edge = (
        _block(*counts, body, n_vectors, is_edge)
        for n_vectors, is_edge in ((WIDE.vectors, False), (1, False), (1, True))
    )

    @njit
    def run(first, n_rows, n_channels, start, stop, addresses):
        channel = start
        while channel + _WIDTH <= stop:
            wide(first, n_rows, n_channels, channel, stop, addresses)
            channel += _WIDTH
        while channel + _LANES <= stop:
            narrow(first, n_rows, n_channels, channel, stop, addresses)
            channel += _LANES
        if channel < stop:
            edge(first, n_rows, n_channels, channel, stop, addresses)

    return run


def _block(
    sums: int, constants: int, inputs: int, outputs: int, body: Callable, n_vectors: int, is_edge: bool
) -> Callable:
    """Return the loop over rows for a block of channels; at the edge, some are beyond the last channel."""
    n_addresses = sums + constants + inputs + outputs

    @intrinsic
    def loop(_context, first, n_rows, n_channels, channel, stop, addresses):
        def write(context: Any, b: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
            first, n_rows, n_channels, channel, stop, addresses = arguments
            places = [at(b, b.extract_value(addresses, i), channel) for i in range(n_addresses)]
            matrices = [at(b, place, b.mul(first, n_channels)) for place in places[sums + constants :]]
            places = places[: sums + constants]
            blocks = range(n_vectors)
            masks = [
                _mask(b, b.sub(stop, b.add(channel, LONG(i * _LANES)))) if is_edge else None for i in blocks
            ]

            def read(address: ir.Value, i: int) -> ir.Value:
                return _read(b, b.add(address, LONG(4 * i * _LANES)), masks[i])

            def store(value: ir.Value, address: ir.Value, i: int) -> None:
                _store(b, value, b.add(address, LONG(4 * i * _LANES)), masks[i])

            known = [[read(place, i) for place in places] for i in blocks]
            before, rows, after = b.block, b.append_basic_block("rows"), b.append_basic_block("done")
            b.branch(rows)
            b.position_at_end(rows)
            row = b.phi(LONG)
            totals = [[b.phi(VECTOR) for _ in range(sums)] for _ in blocks]
            offset = b.mul(row, n_channels)
            now = [at(b, matrix, offset) for matrix in matrices]
            added = []
            for i in blocks:
                values = [read(address, i) for address in now[:inputs]]
                total, results = body(b, totals[i], known[i][sums:], values)
                added.append(total)
                for value, address in zip(results, now[inputs:], strict=True):
                    store(value, address, i)
            following = b.add(row, LONG(1))
            b.cbranch(b.icmp_signed("<", following, n_rows), rows, after)
            row.add_incoming(LONG(0), before)
            row.add_incoming(following, rows)
            b.position_at_end(after)
            for i in blocks:
                for j in range(sums):
                    totals[i][j].add_incoming(known[i][j], before)
                    totals[i][j].add_incoming(added[i][j], rows)
                    store(added[i][j], places[j], i)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5, types.UniTuple(types.int64, n_addresses)), write

    return loop


def _mask(b: ir.IRBuilder, left: ir.Value) -> ir.Value:
    """Return the bits of the lanes below `left`."""
    kind = ir.VectorType(LONG, _LANES)
    splat = b.insert_element(kind(ir.Undefined), left, INT(0))
    splat = b.shuffle_vector(splat, splat, ir.VectorType(INT, _LANES)([0] * _LANES))
    return b.icmp_signed("<", kind(list(range(_LANES))), splat)


def _read(b: ir.IRBuilder, address: ir.Value, mask: ir.Value | None) -> ir.Value:
    """Return the vector at an address; what is masked out is not read, and zero."""
    if mask is None:
        return load(b, address, VECTOR)
    kind = ir.FunctionType(VECTOR, [ir.PointerType(), INT, ir.VectorType(_BIT, _LANES), VECTOR])
    function = get_or_insert_function(b.module, kind, f"llvm.masked.load.v{_LANES}f32.p0")
    return b.call(function, [b.inttoptr(address, ir.PointerType()), INT(4), mask, zero()])


def _store(b: ir.IRBuilder, value: ir.Value, address: ir.Value, mask: ir.Value | None) -> None:
    """Write a vector to an address, but for what is masked out."""
    place = b.inttoptr(address, ir.PointerType())
    if mask is None:
        b.store(value, place, align=4)
        return
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, ir.PointerType(), INT, ir.VectorType(_BIT, _LANES)])
    function = get_or_insert_function(b.module, kind, f"llvm.masked.store.v{_LANES}f32.p0")
    b.call(function, [value, place, INT(4), mask])
