# ruff: noqa: ANN001, ANN202 - Numba assigns the types of kernel arguments
"""Convolutions of images in float32 on a CPU; see `registers` for why they have the same bits everywhere.

Images are channels last. A thread copies the patches of some pixels into its cache and multiplies them with
the weight. Neither the patches of a whole image nor a transformed image is in memory.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor
from torch.nn.functional import pad

from clip2scene.portable.products import CHAIN, add_panel, kind_of, multiply
from clip2scene.portable.registers import compiled, copy, in_parallel, n_threads, pointer, take

_CACHE = 2**16  # values of the patches that a thread holds: 256 KiB

_FIELDS = (
    "taken image weight result n_images height width channels n_rows n_columns n_outputs kernel_y kernel_x "
    "stride_y stride_x padding_y padding_x dilation_y dilation_x gap_y gap_x tile kind block_width block_rows"
)
_TASK = np.dtype([(name, np.int64) for name in _FIELDS.split()])
Pair = tuple[int, int]


class Grid(NamedTuple):
    """Place of the patch of an output pixel; pairs are along y and x.

    Output pixel y has the input pixels (y * stride - padding + k * dilation) / gap for k < kernel; those that
    lie outside or are no integer count as zero.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    gap: Pair = (1, 1)

    @property
    def is_pointwise(self) -> bool:
        """Say whether the patch of a pixel is the pixel itself."""
        return self == Grid((1, 1), (1, 1), (0, 0), (1, 1))


def convolve(image: Tensor, weight: Tensor, bias: Tensor | None, grid: Grid, size: Pair) -> Tensor:
    """Convolve images.

    Args:
        image: [L, C, H, W] float32.
        weight: [C', C, h, w] float32.
        bias: [C'] float32, or None.
        grid: Patches; its kernel is (h, w).
        size: Height and width (H', W') of the result.

    Returns:
        [L, C', H', W'] float32, channels last.
    """
    image = image.contiguous(memory_format=torch.channels_last)
    n_outputs, channels = weight.shape[:2]
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, n_outputs)  # [h w C, C']
    if grid.is_pointwise:
        rows = image.permute(0, 2, 3, 1).reshape(1, -1, channels)
        result = multiply(rows, matrix[None], bias)[0]
        return result.view(len(image), *size, n_outputs).permute(0, 3, 1, 2)
    shape = len(image), *size, n_outputs
    result = image.new_zeros(shape) if bias is None else bias.expand(shape).contiguous()
    _, block = kind_of(n_outputs)
    panels = pad(matrix, (0, -n_outputs % block.width)).unflatten(1, (-1, block.width)).transpose(0, 1)
    panels = panels.contiguous()  # [P, h w C, width]
    pixels = len(image) * size[0] * size[1]
    tile = max(1, min(480, _CACHE // len(matrix), -(-pixels // (4 * n_threads()))) // block.rows)
    if pixels and image.numel():
        _run(_convolve, image, panels, result, grid, size, n_outputs, tile * block.rows)
    return result.permute(0, 3, 1, 2)


def weight_gradient(image: Tensor, gradient: Tensor, grid: Grid) -> Tensor:
    """Return the gradient [C', C, h, w] of a convolution's weight.

    Args:
        image: [L, C, H, W] float32.
        gradient: [L, C', H', W'] float32, of the result.
        grid: Patches; its kernel is (h, w).
    """
    image = image.contiguous(memory_format=torch.channels_last)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    channels, n_outputs, size = image.shape[1], gradient.shape[1], gradient.shape[2:]
    if grid.is_pointwise:
        rows = image.permute(0, 2, 3, 1).reshape(1, -1, channels)
        upstream = gradient.permute(0, 2, 3, 1).reshape(1, -1, n_outputs)
        return multiply(upstream.transpose(1, 2), rows)[0].view(n_outputs, channels, 1, 1)
    result = image.new_zeros(*grid.kernel, channels, n_outputs)
    if gradient.numel() and image.numel():
        _run(_weight_gradient, image, gradient, result, grid, size, n_outputs, n_threads())
    return result.permute(3, 2, 0, 1).contiguous()


def _run(
    kernel, image: Tensor, weight: Tensor, result: Tensor, grid: Grid, size: Pair, n_outputs: int, tile: int
) -> None:
    kind, block = kind_of(n_outputs)
    n_images, channels, height, width = image.shape
    addresses = image.data_ptr(), weight.data_ptr(), result.data_ptr()
    shape = n_images, height, width, channels, *size, n_outputs
    places = grid.kernel + grid.stride + grid.padding + grid.dilation + grid.gap
    task = np.array((0, *addresses, *shape, *places, tile, kind, block.width, block.rows), _TASK)
    in_parallel(kernel, task)


@njit
def _gather(patches, size, task, first, count, y, x, nothing):
    """Copy the pixels that lie at offset (y, x) of `count` patches to addresses that are `size` values apart.

    Args:
        patches: Address of the first copy.
        size: Values from copy to copy.
        task: Task of `_convolve` or `_weight_gradient`.
        first: First output pixel whose patch is wanted.
        count: Number of patches.
        y: Row of the kernel.
        x: Column of the kernel.
        nothing: Address of a pixel of zeros, for what lies outside.
    """
    channels, height, width, image = task.channels, task.height, task.width, task.image
    n_rows, n_columns, gap_y, gap_x = task.n_rows, task.n_columns, task.gap_y, task.gap_x
    stride_y, stride_x = task.stride_y, task.stride_x
    above, before = y * task.dilation_y - task.padding_y, x * task.dilation_x - task.padding_x
    gaps = gap_y > 1 or gap_x > 1
    rest, column = divmod(first, n_columns)
    number, row = divmod(rest, n_rows)
    for i in range(count):
        top, left = row * stride_y + above, column * stride_x + before
        inside = top >= 0 and left >= 0
        if inside and gaps:
            inside = top % gap_y == 0 and left % gap_x == 0
            top, left = top // gap_y, left // gap_x
        source = nothing
        if inside and top < height and left < width:
            source = image + 4 * ((number * height + top) * width + left) * channels
        copy(patches + 4 * i * size, source, channels)
        column += 1
        if column == n_columns:
            column, row = 0, row + 1
            if row == n_rows:
                row, number = 0, number + 1


@compiled
def _convolve(address):
    """Compute `convolve`: a thread takes a tile of output pixels."""
    task = carray(address, 1, _TASK)[0]
    n_pixels, n_outputs = task.n_images * task.n_rows * task.n_columns, task.n_outputs
    size, tile, width = task.kernel_y * task.kernel_x * task.channels, task.tile, task.block_width
    patches = np.empty(tile * size, np.float32)
    nothing = np.zeros(task.channels, np.float32)
    free = np.empty((task.block_rows + 1) * width, np.float32)
    while True:
        first = take(address) * tile
        if first >= n_pixels:
            break
        count = min(tile, n_pixels - first)
        for y in range(task.kernel_y):
            for x in range(task.kernel_x):
                place = (y * task.kernel_x + x) * task.channels
                _gather(patches.ctypes.data + 4 * place, size, task, first, count, y, x, nothing.ctypes.data)
        for start in range(0, size, CHAIN):
            for column in range(0, n_outputs, width):
                add_panel(
                    *(task.kind, task.block_rows, width),
                    *(task.result + 4 * (first * n_outputs + column), n_outputs),
                    *(patches[start:].ctypes.data, size, 1, count),
                    *(task.weight + 4 * (column * size + start * width), width),
                    *(min(width, n_outputs - column), min(CHAIN, size - start), free),
                )


@compiled
def _weight_gradient(address):
    """Compute `weight_gradient`: a thread takes some offsets of the kernel."""
    task = carray(address, 1, _TASK)[0]
    n_pixels, n_outputs = task.n_images * task.n_rows * task.n_columns, task.n_outputs
    channels, width = task.channels, task.block_width
    patches = np.empty(CHAIN * channels, np.float32)
    nothing = np.zeros(channels, np.float32)
    packed = np.zeros(CHAIN * width, np.float32)
    free = np.empty((task.block_rows + 1) * width, np.float32)
    gradient = carray(pointer(task.weight), n_pixels * n_outputs, np.float32)
    while True:
        work = take(address)
        if work >= task.tile:
            break
        for first in range(0, n_pixels, CHAIN):
            count = min(CHAIN, n_pixels - first)
            for offset in range(work, task.kernel_y * task.kernel_x, task.tile):
                y, x = divmod(offset, task.kernel_x)
                _gather(patches.ctypes.data, channels, task, first, count, y, x, nothing.ctypes.data)
                for column in range(0, n_outputs, width):
                    used = min(width, n_outputs - column)
                    panel, stride = task.weight + 4 * (first * n_outputs + column), n_outputs
                    if used < width:
                        for i in range(count):
                            for j in range(used):
                                packed[i * width + j] = gradient[(first + i) * n_outputs + column + j]
                        panel, stride = packed.ctypes.data, width
                    add_panel(
                        *(task.kind, task.block_rows, width),
                        *(task.result + 4 * (offset * channels * n_outputs + column), n_outputs),
                        *(patches.ctypes.data, 1, channels, channels, panel, stride, used, count, free),
                    )
