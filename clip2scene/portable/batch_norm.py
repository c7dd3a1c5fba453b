# ruff: noqa: ANN001, ANN202 - Numba assigns the types of kernel arguments
"""Batch norm in training, fused with the shortcut and the ReLU that follow it.

The bits are those of PyTorch's operators with AVX2 on one thread (ATen/native/cpu/batch_norm_kernel.cpp),
whose sums run down the rows. Threads share the channels instead of the rows, so their number changes no bit.
It does change PyTorch's own sums, to which portable arithmetic therefore leaves one thread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, njit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from clip2scene.portable.channels import fused, multiply_add, over_rows, zero
from clip2scene.portable.registers import compiled, in_parallel, n_threads, pointer, take

_LINE = 16  # channels of a cache line
_VECTOR = 8  # channels of a vector of AVX2; PyTorch rounds those after the last whole vector differently
_CHUNK = 256  # rows of a loop over one vector of channels; those of all channels stay in the second cache

_ADDRESSES = (
    "x y shortcut gradient result weight bias mean deviation factor term running_mean running_variance "
    "of_weight of_bias"
)
_SIZES = "n_rows n_channels part clips"
_TASK = np.dtype(
    [(name, np.int64) for name in ("taken", *_ADDRESSES.split(), *_SIZES.split())]
    + [("epsilon", np.float64), ("momentum", np.float64)]
)


def normalise(features: Tensor, norm: nn.BatchNorm1d, shortcut: Tensor | None, clips: bool) -> Tensor:
    """Normalise features, add a shortcut and clip at zero; updates the running statistics of `norm`.

    Args:
        features: [V, C] float32 on the CPU, two rows at least.
        norm: Batch norm over C channels in training, with a weight, a bias and running statistics.
        shortcut: [V, C] float32, or None.
        clips: Apply ReLU.

    Returns:
        [V, C] float32, differentiable in the features, the shortcut and the parameters of `norm`.

    Raises:
        ValueError: the shape of features or shortcut does not fit. The kernels read memory by address and
            would not notice.
    """
    expected = [len(features), norm.num_features]
    for tensor in (features, shortcut):
        if tensor is not None and list(tensor.shape) != expected:
            raise ValueError(f"expected features of shape {expected}, found {list(tensor.shape)}")
    norm.num_batches_tracked.add_(1)
    return _Normalise.apply(features, norm.weight, norm.bias, shortcut, norm, clips)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        shortcut: Tensor | None,
        norm: nn.BatchNorm1d,
        clips: bool,
    ) -> Tensor:
        features = features.contiguous()
        shortcut = None if shortcut is None else shortcut.contiguous()
        result = torch.empty_like(features)
        mean, deviation = torch.empty_like(weight), torch.empty_like(weight)
        _run(
            *((_statistics, _results), features.shape, clips),
            **{"x": features, "shortcut": shortcut, "result": result, "weight": weight, "bias": bias},
            **{"running_mean": norm.running_mean, "running_variance": norm.running_var},
            **{"mean": mean, "deviation": deviation, "epsilon": norm.eps, "momentum": norm.momentum},
        )
        ctx.save_for_backward(features, weight, mean, deviation, *([result] if clips else []))
        ctx.adds = shortcut is not None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, deviation, *result = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_features, of_weight, of_bias = (torch.empty_like(value) for value in (features, weight, weight))
        passed = torch.empty_like(gradient) if ctx.adds and result else None  # by ReLU, to the shortcut
        _run(
            *((_gradient_statistics, _gradients), features.shape, bool(result)),
            **{"x": features, "y": result[0] if result else None, "gradient": gradient, "weight": weight},
            **{"shortcut": passed, "result": of_features},
            **{"mean": mean, "deviation": deviation, "of_weight": of_weight, "of_bias": of_bias},
        )
        of_shortcut = gradient if passed is None else passed
        return of_features, of_weight, of_bias, of_shortcut if ctx.adds else None, None, None


def _run(
    kernels: tuple[Callable, Callable], shape: torch.Size, clips: bool, **values: Tensor | float | None
) -> None:
    """Run two kernels on all threads, the first over channels in whole cache lines, the second over rows."""
    channels = np.empty((2, shape[1]), np.float32)
    task = np.zeros((), _TASK)
    for name, value in values.items():
        if value is not None:
            task[name] = value.data_ptr() if isinstance(value, Tensor) else value
    task["n_rows"], task["n_channels"] = shape
    task["part"] = _LINE * -(-shape[1] // (_LINE * n_threads()))
    task["clips"] = clips
    task["factor"], task["term"] = channels.ctypes.data, channels[1].ctypes.data
    for kernel in kernels:
        task["taken"] = 0
        in_parallel(kernel, task)


# The loops over rows; `channels.over_rows` says what they get.


def _passed(b: ir.IRBuilder, gradient: ir.Value, y: list[ir.Value]) -> ir.Value:
    """Return what ReLU, whose result is `y`, lets through of a gradient; all of it without ReLU."""
    return b.select(b.fcmp_ordered("<=", y[0], zero()), zero(), gradient) if y else gradient


def _result_loop(adds: bool, clips: bool) -> Callable:
    """Return the loop that writes relu(x * factor + term + shortcut), or less."""

    def body(b: ir.IRBuilder, _: list, constants: list, inputs: list) -> tuple[list, list]:
        value = multiply_add(b, inputs[0], *constants)
        if adds:
            value = b.fadd(value, inputs[1])
        if clips:
            value = b.select(b.fcmp_ordered("<", value, zero()), zero(), value)
        return [], [value]

    return over_rows(sums=0, constants=2, inputs=1 + adds, outputs=1, body=body)


def _gradient_sums_loop(clips: bool, keeps: bool) -> Callable:
    """Return the loop that sums g, which ReLU lets through, and (x - mean) * g; it may keep g."""

    def body(b: ir.IRBuilder, sums: list, means: list, inputs: list) -> tuple[list, list]:
        x, gradient, *y = inputs
        passed = _passed(b, gradient, y)
        product = multiply_add(b, b.fsub(x, *means), passed, sums[1])
        return [b.fadd(sums[0], passed), product], [passed] * keeps

    return over_rows(sums=2, constants=1, inputs=2 + clips, outputs=int(keeps), body=body)


def _gradient_loop(clips: bool) -> Callable:
    """Return the loop that writes (g - mean gradient - (x - mean) * slope) * deviation * weight."""

    def body(b: ir.IRBuilder, _: list, constants: list, inputs: list) -> tuple[list, list]:
        mean, slope, mean_gradient, deviation, weight, is_last = constants
        x, gradient, *y = inputs
        centred, rest = b.fsub(x, mean), b.fsub(_passed(b, gradient, y), mean_gradient)
        rounded_once = multiply_add(b, b.fneg(centred), slope, rest)
        rounded_twice = b.fsub(rest, b.fmul(centred, slope))
        rest = b.select(b.fcmp_ordered(">", is_last, zero()), rounded_twice, rounded_once)
        return [], [b.fmul(b.fmul(rest, deviation), weight)]

    return over_rows(sums=0, constants=6, inputs=2 + clips, outputs=1, body=body)


def _add_squares(b: ir.IRBuilder, sums: list, means: list, inputs: list) -> tuple[list, list]:
    centred = b.fsub(*inputs, *means)
    return [multiply_add(b, centred, centred, *sums)], []


_sums = over_rows(1, 0, 1, 0, lambda b, sums, _, inputs: ([b.fadd(*sums, *inputs)], []))
_squares = over_rows(1, 1, 1, 0, _add_squares)
_plain, _clip, _add, _add_and_clip = (
    _result_loop(adds, clips) for adds in (False, True) for clips in (False, True)
)
_gradient_sums, _clipped_sums, _keep_sums = (
    _gradient_sums_loop(False, False),
    _gradient_sums_loop(True, False),
    _gradient_sums_loop(True, True),
)
_of_features, _of_clipped_features = _gradient_loop(False), _gradient_loop(True)


@njit
def _array(address, size):
    return carray(pointer(address), size, np.float32)


@compiled
def _statistics(address):
    """Compute the statistics of some channels, and the factor and the term of each."""
    task = carray(address, 1, _TASK)[0]
    n_rows, n_channels = task.n_rows, task.n_channels
    weight, bias = _array(task.weight, n_channels), _array(task.bias, n_channels)
    mean, deviation = _array(task.mean, n_channels), _array(task.deviation, n_channels)
    factor, term = _array(task.factor, n_channels), _array(task.term, n_channels)
    running_mean = _array(task.running_mean, n_channels)
    running_variance = _array(task.running_variance, n_channels)
    total, squares = np.zeros(n_channels, np.float32), np.zeros(n_channels, np.float32)
    share = np.float32(task.momentum)
    kept = np.float32(1) - share
    while True:
        start = take(address) * task.part
        if start >= n_channels:
            break
        stop = min(start + task.part, n_channels)
        for row in range(0, n_rows, _CHUNK):
            addresses = total.ctypes.data, task.x
            _sums(row, min(_CHUNK, n_rows - row), n_channels, start, stop, addresses)
        for i in range(start, stop):
            mean[i] = np.float64(total[i]) / n_rows
        for row in range(0, n_rows, _CHUNK):
            addresses = squares.ctypes.data, task.mean, task.x
            _squares(row, min(_CHUNK, n_rows - row), n_channels, start, stop, addresses)
        for i in range(start, stop):
            deviation[i] = 1 / np.sqrt(np.float64(squares[i] / np.float32(n_rows)) + task.epsilon)
            factor[i] = deviation[i] * weight[i]
            term[i] = fused(-mean[i], factor[i], bias[i])
            running_mean[i] = share * mean[i] + kept * running_mean[i]
            variance = squares[i] / np.float32(n_rows - 1)
            running_variance[i] = fused(share, variance, kept * running_variance[i])


@compiled
def _results(address):
    """Compute the result of some rows, from the last to the first: the last are still in the cache."""
    task = carray(address, 1, _TASK)[0]
    n_channels = task.n_channels
    while True:
        row = (task.n_rows - 1) // _CHUNK * _CHUNK - take(address) * _CHUNK
        if row < 0:
            break
        rows = min(_CHUNK, task.n_rows - row)
        if task.shortcut:
            addresses = task.factor, task.term, task.x, task.shortcut, task.result
            if task.clips:
                _add_and_clip(row, rows, n_channels, 0, n_channels, addresses)
            else:
                _add(row, rows, n_channels, 0, n_channels, addresses)
        else:
            addresses = task.factor, task.term, task.x, task.result
            if task.clips:
                _clip(row, rows, n_channels, 0, n_channels, addresses)
            else:
                _plain(row, rows, n_channels, 0, n_channels, addresses)


@compiled
def _gradient_statistics(address):
    """Compute the gradients of the parameters of some channels."""
    task = carray(address, 1, _TASK)[0]
    n_rows, n_channels = task.n_rows, task.n_channels
    deviation = _array(task.deviation, n_channels)
    of_weight, of_bias = _array(task.of_weight, n_channels), _array(task.of_bias, n_channels)
    slope, mean_gradient = _array(task.factor, n_channels), _array(task.term, n_channels)
    total, product = np.zeros(n_channels, np.float32), np.zeros(n_channels, np.float32)
    size = np.float32(n_rows)
    while True:
        start = take(address) * task.part
        if start >= n_channels:
            break
        stop = min(start + task.part, n_channels)
        addresses = total.ctypes.data, product.ctypes.data, task.mean, task.x, task.gradient
        clipped, kept = (task.y,), (task.y, task.shortcut)
        for row in range(0, n_rows, _CHUNK):
            rows = min(_CHUNK, n_rows - row)
            if task.shortcut:
                _keep_sums(row, rows, n_channels, start, stop, addresses + kept)
            elif task.clips:
                _clipped_sums(row, rows, n_channels, start, stop, addresses + clipped)
            else:
                _gradient_sums(row, rows, n_channels, start, stop, addresses)
        for i in range(start, stop):
            slope[i] = product[i] * deviation[i] * deviation[i] / size
            mean_gradient[i] = total[i] / size
            of_weight[i] = product[i] * deviation[i]
            of_bias[i] = total[i]


@compiled
def _gradients(address):
    """Compute the gradient of some rows, in the order of `_results`."""
    task = carray(address, 1, _TASK)[0]
    n_channels = task.n_channels
    is_last = np.zeros(n_channels, np.float32)
    is_last[n_channels // _VECTOR * _VECTOR :] = 1
    constants = (
        *(task.mean, task.factor, task.term),
        *(task.deviation, task.weight, is_last.ctypes.data),
    )
    while True:
        row = (task.n_rows - 1) // _CHUNK * _CHUNK - take(address) * _CHUNK
        if row < 0:
            break
        rows = min(_CHUNK, task.n_rows - row)
        if task.clips and not task.shortcut:
            matrices = task.x, task.gradient, task.y, task.result
            _of_clipped_features(row, rows, n_channels, 0, n_channels, constants + matrices)
        else:
            passed = task.shortcut if task.shortcut else task.gradient
            matrices = task.x, passed, task.result
            _of_features(row, rows, n_channels, 0, n_channels, constants + matrices)
