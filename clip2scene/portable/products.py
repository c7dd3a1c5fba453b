# ruff: noqa: ANN001, ANN201, ANN202 - Numba assigns the types of kernel arguments
"""Dense matrix products in float32 on a CPU; see `registers` for why they have the same bits everywhere."""

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from clip2scene.portable.registers import (
    NARROW,
    SLIM,
    WIDE,
    Block,
    compiled,
    in_parallel,
    n_threads,
    pointer,
    strided,
    take,
)  # fmt: skip

CHAIN = 256
"""Multiply-adds in one chain; the sums of chains are then added one after the other. Decides bits."""
_TILE = 480  # rows that share a packed panel, a multiple of every block's rows
_DEEP = 16  # a product whose depth exceeds its sides as often: the gradient of a linear map's weight

_FIELDS = (
    "taken a a_batch a_row a_step b b_batch b_step b_column c n_batch n_rows n_columns depth tile span kind "
    "width height from_zero"
)
_TASK = np.dtype([(name, np.int64) for name in _FIELDS.split()])
_wide, _narrow, _slim = strided(WIDE), strided(NARROW), strided(SLIM)


def multiply(a: Tensor, b: Tensor, start: Tensor | None = None) -> Tensor:
    """Return start + a @ b, of two matrices or for each matrix of a batch.

    Args:
        a: [M, K] or [B, M, K] float32, of any strides.
        b: [K, N] or [B, K, N] float32, of any strides.
        start: Broadcast to the result, float32; None for zero.

    Returns:
        [M, N] or [B, M, N] float32, contiguous.
    """
    shape = *a.shape[:-1], b.shape[-1]
    if start is None:
        result = a.new_empty(shape)
    else:
        result = start.expand(shape).clone(memory_format=torch.contiguous_format)
    if a.ndim == 2:
        a, b = a[None], b[None]
    (n_batch, n_rows, depth), n_columns = a.shape, b.shape[2]
    if result.numel():
        kind, block = kind_of(n_columns)
        tile, span = _pieces(n_batch, n_rows, n_columns, depth, block)
        addresses = a.data_ptr(), *a.stride(), b.data_ptr(), *b.stride(), result.data_ptr()
        sizes = n_batch, n_rows, n_columns, depth, tile, span, kind, block.width, block.rows, start is None
        in_parallel(_multiply, np.array((0, *addresses, *sizes), _TASK))
    return result


def _pieces(n_batch: int, n_rows: int, n_columns: int, depth: int, block: Block) -> tuple[int, int]:
    """Return the rows and columns of a piece of work, so that no thread waits long for the others."""
    if n_batch == 1 and depth > _DEEP * max(n_rows, n_columns):
        # Each piece reads all of its rows and columns: one for each thread, cut along the longer side.
        tile, span = n_rows, n_columns
        if n_rows >= n_columns:
            tile = -(-n_rows // n_threads())
        else:
            span = -(-n_columns // n_threads())
        return -(-tile // block.rows) * block.rows, -(-span // block.width) * block.width
    enough = 4 * n_threads() if n_threads() > 1 else 1
    tile, span = _TILE, -(-n_columns // block.width)
    while tile > 60 and n_batch * -(-n_rows // tile) < enough:
        tile //= 2
    while span > 1 and n_batch * -(-n_rows // tile) * -(-n_columns // (span * block.width)) < enough:
        span = -(-span // 2)
    return -(-tile // block.rows) * block.rows, span * block.width


def kind_of(n_columns: int) -> tuple[int, Block]:
    """Return the number and the shape of the block that suits a number of columns."""
    if n_columns <= SLIM.width:
        return 2, SLIM
    return (1, NARROW) if n_columns <= NARROW.width else (0, WIDE)


@njit
def add_block(kind, result, columns, rows, row, step, panel, stride, depth, n_rows, spare):
    """Add the product of `n_rows` rows and a panel to a block of the result; see `add_panel`."""
    if kind == 0:
        _wide(result, columns, rows, row, step, panel, stride, depth, n_rows, spare)
    elif kind == 1:
        _narrow(result, columns, rows, row, step, panel, stride, depth, n_rows, spare)
    else:
        _slim(result, columns, rows, row, step, panel, stride, depth, n_rows, spare)


@njit
def pack(panel, source, step, column, width, n_columns):
    """Copy columns of a matrix into a panel [depth, width], and zeros where there are none."""
    for i in range(len(panel) // width):
        if column == 1:
            for j in range(n_columns):
                panel[i * width + j] = source[i * step + j]
        else:
            for j in range(n_columns):
                panel[i * width + j] = source[i * step + j * column]
        for j in range(n_columns, width):
            panel[i * width + j] = 0


@njit
def copy_block(target, target_step, source, source_step, n_rows, n_columns):
    """Copy a block [n_rows, n_columns] from one address to another."""
    to = carray(pointer(target), (n_rows - 1) * target_step + n_columns, np.float32)
    values = carray(pointer(source), (n_rows - 1) * source_step + n_columns, np.float32)
    for i in range(n_rows):
        for j in range(n_columns):
            to[i * target_step + j] = values[i * source_step + j]


@njit
def add_panel(kind, height, width, c, c_row, a, a_row, a_step, n_rows, panel, stride, used, depth, free):
    """Add the product of `n_rows` rows and a panel, of which `used` columns count, to the result.

    Args:
        kind: Number of the block's kind, see `kind_of`.
        height: Rows of a block.
        width: Columns of a block, and of the panel.
        c: Address of the result.
        c_row: Values from row to row of the result.
        a: Address of the left matrix.
        a_row: Values from row to row of the left matrix.
        a_step: Values from column to column of the left matrix.
        n_rows: Rows of the left matrix and of the result.
        panel: Address of the right matrix.
        stride: Values from row to row of the right matrix.
        used: Columns of the result.
        depth: Columns of the left matrix, rows of the right one.
        free: Array of (height + 1) * width values that may be overwritten.
    """
    edge, spare = free.ctypes.data, free[height * width :].ctypes.data
    for row in range(0, n_rows, height):
        count = min(height, n_rows - row)
        left, target = a + 4 * row * a_row, c + 4 * row * c_row
        if used == width:
            add_block(kind, target, c_row, left, a_row, a_step, panel, stride, depth, count, spare)
        else:
            copy_block(edge, width, target, c_row, count, used)
            add_block(kind, edge, width, left, a_row, a_step, panel, stride, depth, count, spare)
            copy_block(target, c_row, edge, width, count, used)


@compiled
def _multiply(address):
    """Compute `multiply`: a thread takes a tile of rows under some columns of one matrix."""
    task = carray(address, 1, _TASK)[0]
    kind, width, height = task.kind, task.width, task.height
    n_rows, n_columns, tile, span = task.n_rows, task.n_columns, task.tile, task.span
    packed = np.empty(min(CHAIN, task.depth) * width, np.float32)
    free = np.empty((height + 1) * width, np.float32)
    n_spans, n_tiles = (n_columns + span - 1) // span, (n_rows + tile - 1) // tile
    in_place = task.b_column == 1 and (min(n_rows, tile) <= 4 * height or task.b_step <= 256)
    while True:
        work = take(address)
        if work >= task.n_batch * n_spans * n_tiles:
            break
        batch, piece = divmod(work, n_spans * n_tiles)
        row, column = piece // n_spans * tile, piece % n_spans * span
        a = task.a + 4 * (batch * task.a_batch + row * task.a_row)
        b = task.b + 4 * (batch * task.b_batch)
        c = task.c + 4 * ((batch * n_rows + row) * n_columns)
        if task.from_zero:
            piece_of = carray(pointer(c), (min(tile, n_rows - row), n_columns), np.float32)
            piece_of[:, column : column + span] = 0
        for start in range(0, task.depth, CHAIN):
            depth = min(CHAIN, task.depth - start)
            for place in range(column, min(column + span, n_columns), width):
                used = min(width, n_columns - place)
                panel, stride = b + 4 * (start * task.b_step + place * task.b_column), task.b_step
                if not in_place or used < width:
                    length = (depth - 1) * task.b_step + (used - 1) * task.b_column + 1
                    source = carray(pointer(panel), length, np.float32)
                    pack(packed[: depth * width], source, task.b_step, task.b_column, width, used)
                    panel, stride = packed.ctypes.data, width
                add_panel(
                    *(kind, height, width, c + 4 * place, n_columns),
                    *(a + 4 * start * task.a_step, task.a_row, task.a_step, min(tile, n_rows - row)),
                    *(panel, stride, used, depth, free),
                )
