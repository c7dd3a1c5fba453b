# ruff: noqa: ANN001 - Triton assigns the types of kernel arguments
"""Sparse convolution on an NVIDIA GPU: a masked implicit GEMM in Triton, one launch for any kernel size.

The output and the gradient of the features are computed output-stationary. A program holds the sums of a
block of output voxels and channels, loops over the offsets under which any of these voxels has a neighbour,
gathers the neighbours' rows and multiplies them by the offset's matrix. The gradient of the weights is summed
over fixed parts of each offset's pairs, then over the parts.

Results are bit-identical from run to run. There are no atomics, and block sizes are constants, because
`triton.autotune` chooses them by timing and so may sum in a different order in the next run.

Sums are accumulated in float32 for all feature dtypes. float32 features are multiplied as in `torch.matmul`:
exactly (IEEE), or in TF32 if `torch.set_float32_matmul_precision` or `torch.backends` allow it. float64 uses
plain PyTorch (`gather_scatter`), the reference of the tests.

Block sizes were chosen on an H200 (docs/performance.md).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from clip2scene.sparse.blocks import BLOCK
from clip2scene.sparse.pairs import OffsetPairs

_CHANNELS = 64  # channels per program, at most
_DEPTH = 64  # channels, or pairs, summed in one step, at most
_PART = 2048  # pairs of an offset per program; more if an offset would need more than _PARTS programs
_PARTS = 32


def sum_products(rows: Tensor, matrices: Tensor, pairs: OffsetPairs) -> Tensor:
    """Return y[t] = sum of rows[s] @ matrices[k] over the pairs (s, t) of all offsets k.

    Args:
        rows: [V, C].
        matrices: [K, C, C'], one per offset.
        pairs: Pairs (s, t), grouped by offset.

    Returns:
        [V', C'].
    """
    rows, blocks = rows.contiguous(), pairs.blocks
    _, depth, columns = matrices.shape
    result = rows.new_empty(blocks.n_voxels, columns)
    width = _block(columns, _CHANNELS)
    with torch.cuda.device_of(rows):
        _sum_products_kernel[(len(blocks.voxels) * triton.cdiv(columns, width),)](
            *(rows, matrices, *blocks[1:], result, depth, columns, *matrices.stride()),
            PRECISION=_precision(),
            VOXELS=BLOCK,
            COLUMNS=width,
            DEPTH=_block(depth, _DEPTH),
            num_stages=2,
        )
    return result


def sum_outer_products(rows: Tensor, gradient: Tensor, pairs: OffsetPairs) -> Tensor:
    """Return w[k] = sum of the outer products of rows[s] and gradient[t] over the pairs (s, t) of offset k.

    Args:
        rows: [V, C].
        gradient: [V', C'].
        pairs: Pairs (s, t), grouped by offset.

    Returns:
        [K, C, C'] float32.
    """
    rows, gradient = rows.contiguous(), gradient.contiguous()
    n_offsets, depth, columns = len(pairs.sizes), rows.shape[1], gradient.shape[1]
    parts = min(triton.cdiv(max(pairs.sizes), _PART), _PARTS)
    sums = rows.new_empty(parts, n_offsets, depth, columns, dtype=torch.float32)
    height, width = _block(depth, _CHANNELS), _block(columns, _CHANNELS)
    with torch.cuda.device_of(rows):
        _sum_outer_products_kernel[
            (triton.cdiv(depth, height) * triton.cdiv(columns, width), n_offsets, parts)
        ](
            *(rows, gradient, pairs.sources, pairs.targets, pairs.ends, sums, depth, columns),
            PRECISION=_precision(),
            ROWS=height,
            COLUMNS=width,
            DEPTH=_DEPTH,
            num_stages=3,
        )
    return sums.sum(0)


def _block(size: int, most: int) -> int:
    """Return the block size for `size` channels: a power of two, >= 16 (for `tl.dot`) and <= `most`."""
    return min(max(triton.next_power_of_2(size), 16), most)


def _precision() -> str:
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


@triton.jit
def _sum_products_kernel(
    rows,
    matrices,
    voxels,
    ends,
    offsets,
    neighbours,
    result,
    depth,
    columns,
    matrix_stride,
    row_stride,
    column_stride,
    PRECISION: tl.constexpr,
    VOXELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    n_chunks = (depth + DEPTH - 1) // DEPTH
    n_columns = (columns + COLUMNS - 1) // COLUMNS
    block = tl.program_id(0) // n_columns  # programs that gather the same rows are adjacent
    column = tl.program_id(0) % n_columns * COLUMNS + tl.arange(0, COLUMNS)
    lane = tl.arange(0, VOXELS)
    total = tl.full((VOXELS, COLUMNS), 0.0, tl.float32)
    # a single loop over steps and channel chunks, so that loads are prefetched across steps
    for i in range(tl.load(ends + block) * n_chunks, tl.load(ends + block + 1) * n_chunks):
        step = i // n_chunks
        channel = i % n_chunks * DEPTH + tl.arange(0, DEPTH)
        neighbour = tl.load(neighbours + step * VOXELS + lane)[:, None].to(tl.int64)
        gathered = tl.load(
            rows + neighbour * depth + channel[None, :],
            mask=(neighbour >= 0) & (channel < depth)[None, :],
            other=0.0,
        )
        matrix = matrices + tl.load(offsets + step).to(tl.int64) * matrix_stride
        factor = tl.load(
            matrix + channel[:, None] * row_stride + column[None, :] * column_stride,
            mask=(channel < depth)[:, None] & (column < columns)[None, :],
            other=0.0,
        )
        total = tl.dot(gathered, factor, total, input_precision=PRECISION)
    voxel = tl.load(voxels + block * VOXELS + lane)[:, None].to(tl.int64)
    tl.store(
        result + voxel * columns + column[None, :],
        total.to(result.dtype.element_ty),
        mask=(voxel >= 0) & (column < columns)[None, :],
    )


@triton.jit
def _sum_outer_products_kernel(
    features,
    gradient,
    inputs,
    outputs,
    ends,
    sums,
    rows,
    columns,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    n_columns = (columns + COLUMNS - 1) // COLUMNS
    row = (tl.program_id(0) // n_columns * ROWS + tl.arange(0, ROWS))[:, None]
    column = (tl.program_id(0) % n_columns * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    offset, part = tl.program_id(1), tl.program_id(2)
    begin, end = tl.load(ends + offset), tl.load(ends + offset + 1)
    size = (end - begin + tl.num_programs(2) - 1) // tl.num_programs(2)
    begin += part * size
    end = tl.minimum(begin + size, end)
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for first in range(begin, end, DEPTH):
        pair = first + tl.arange(0, DEPTH)
        source = tl.load(inputs + pair, mask=pair < end, other=-1)[None, :].to(tl.int64)
        target = tl.load(outputs + pair, mask=pair < end, other=-1)[:, None].to(tl.int64)
        left = tl.load(features + source * rows + row, mask=(source >= 0) & (row < rows), other=0.0)
        right = tl.load(
            gradient + target * columns + column, mask=(target >= 0) & (column < columns), other=0.0
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    place = (part * tl.num_programs(1) + offset).to(tl.int64) * rows * columns
    tl.store(sums + place + row * columns + column, total, mask=(row < rows) & (column < columns))
