"""Our products in place of MKL's and oneDNN's: once installed, PyTorch's own operators call them.

Autograd's formulas, open_clip and timm call the same operators, so nothing goes past them. Attention falls
apart into them. Products of float64 stay MKL's, in the mode whose bits do not depend on the processor.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, get_kernel

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.portable import functions
from clip2scene.portable.convolution import Grid, convolve, weight_gradient
from clip2scene.portable.pins import refuse_deviations
from clip2scene.portable.products import multiply
from clip2scene.portable.registers import set_threads

_COMPATIBLE = 3  # MKL_CBWR_COMPATIBLE in MKL's mkl_types.h
_FLOATS = (torch.float32, torch.float64)
_library: Library | None = None  # PyTorch forgets the operators with it


def begin(config: Config) -> None:
    """Prepare this process for a run's arithmetic on the CPU, as `config.arithmetic` asks for.

    PyTorch's own sums depend on the number of threads, so portable arithmetic leaves them one; our kernels
    have all.

    Raises:
        InputError: portable arithmetic is not possible; see `clip2scene.portable.pins.refuse_deviations`.
    """
    if config.arithmetic == "native":
        torch.set_num_threads(config.threads)
        return
    refuse_deviations()
    install()
    torch.set_num_threads(1)
    set_threads(config.threads)


def install() -> None:
    """Replace PyTorch's products and convolutions on CPUs by ours, in this process and for good."""
    global _library
    if _library is not None:
        return
    _library = Library("aten", "IMPL")
    for types, operators in (((torch.float32,), _OPERATORS), (_FLOATS, functions.operators())):
        for name, function in operators.items():
            for variant, operator in _variants(name, function).items():
                kernel = _of_types(variant, operator, types)
                _library.impl(variant, kernel, "CPU", with_keyset=True, allow_override=True)
    root = _square_root(get_kernel("aten::pow.Tensor_Scalar", "CPU"))
    _library.impl("pow.Tensor_Scalar", root, "CPU", with_keyset=True, allow_override=True)
    torch.backends.cuda.enable_flash_sdp(False)  # the name says CUDA, but it decides for CPUs as well
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.set_flags(False)
    libraries = ctypes.CDLL(torch._C.__file__)
    if hasattr(libraries, "mkl_serv_cbwr_set"):  # takes effect if MKL has computed nothing yet
        libraries.mkl_serv_cbwr_set(_COMPATIBLE)


def _variants(name: str, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return an operator with those that write its result into a given tensor, by name."""

    def out(*arguments: Any, out: Tensor, **named: Any) -> Tensor:
        result = function(*arguments, **named)
        return out.resize_(result.shape).copy_(result)

    def in_place(target: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return target.copy_(function(target, *arguments, **named))

    variants = {name: function}
    if not name.startswith("convolution"):
        variants[f"{name}.out"] = out
    if name in ("addmm", "baddbmm", "addmv", *functions.FUNCTIONS):
        variants[f"{name}_"] = in_place
    return variants


def _of_types(name: str, function: Callable[..., Any], types: tuple[torch.dtype, ...]) -> Callable[..., Any]:
    """Return an operator that calls `function` for some types and what was there before for others."""
    before = get_kernel(f"aten::{name}", "CPU")

    def operator(keys: torch.DispatchKeySet, *arguments: Any, **named: Any) -> Any:
        tensors = (value for value in (*arguments, *named.values()) if isinstance(value, Tensor))
        if all(value.dtype in types for value in tensors):
            return function(*arguments, **named)
        return before.call_boxed(keys, *arguments, **named)

    return operator


def _square_root(before: Any) -> Callable[..., Any]:
    """Return the power of a number, of which 0.5 is the square root, as in PyTorch."""

    def power(keys: torch.DispatchKeySet, values: Tensor, exponent: float) -> Tensor:
        return values.sqrt() if exponent == 0.5 else before.call_boxed(keys, values, exponent)

    return power


def _mm(a: Tensor, b: Tensor) -> Tensor:
    _require(a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0], "mm", a, b)
    return multiply(a, b)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    fits = a.ndim == b.ndim == 3 and a.shape[0] == b.shape[0] and a.shape[2] == b.shape[1]
    _require(fits, "bmm", a, b)
    return multiply(a, b)


def _addmm(start: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if beta == alpha == 1:
        _require(a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0], "addmm", a, b)
        return multiply(a, b, start)
    return _scaled(start, _mm(a, b), beta, alpha)


def _baddbmm(start: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _scaled(start, _bmm(a, b), beta, alpha)


def _mv(a: Tensor, b: Tensor) -> Tensor:
    _require(a.ndim == 2 and b.ndim == 1 and a.shape[1] == b.shape[0], "mv", a, b)
    return multiply(a, b[:, None])[:, 0]


def _addmv(start: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _scaled(start, _mv(a, b), beta, alpha)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    _require(a.ndim == b.ndim == 1 and a.shape == b.shape, "dot", a, b)
    return multiply(a[None], b[:, None])[0, 0]


def _scaled(start: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """Return beta * start + alpha * product; `start` is not read if beta is zero."""
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return product + (start if beta == 1 else start * beta)


def _convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    _require_image(image, weight, transposed, groups)
    grid = _grid(weight, stride, padding, dilation)
    size = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(image.shape[2:], *grid[:4], strict=True)
    ]
    return convolve(image, weight, bias, grid, tuple(size))


def _convolution_backward(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    _require_image(image, weight, transposed, groups)
    grid = _grid(weight, stride, padding, dilation)
    of_image = of_weight = of_bias = None
    if wanted[0]:
        sides = zip(grid.kernel, grid.padding, grid.dilation, strict=True)
        rest = tuple(d * (k - 1) - p for k, p, d in sides)
        backward = Grid(grid.kernel, (1, 1), rest, grid.dilation, gap=grid.stride)
        of_image = convolve(gradient, weight.flip(2, 3).transpose(0, 1), None, backward, image.shape[2:])
    if wanted[1]:
        of_weight = weight_gradient(image, gradient, grid)
    if wanted[2]:
        of_bias = gradient.sum((0, 2, 3))
    return of_image, of_weight, of_bias


def _grid(weight: Tensor, *pairs: list[int]) -> Grid:
    """Return the patches of a convolution; PyTorch gives one number for a pair of equal ones."""
    return Grid(tuple(weight.shape[2:]), *(tuple(pair) * (2 // len(pair)) for pair in pairs))


def _require_image(image: Tensor, weight: Tensor, transposed: bool, groups: int) -> None:
    """Refuse convolutions that none of our networks has.

    Raises:
        InputError: it is of another kind; a network that the configuration names may have such.
    """
    if image.ndim != 4 or transposed or groups != 1 or image.shape[1] != weight.shape[1]:
        raise InputError(
            f"expected a convolution of images in one group, found {'transposed, ' * transposed}{groups} "
            f"groups, {list(image.shape)} and {list(weight.shape)}; arithmetic: native has every kind"
        )


def _require(fits: bool, name: str, a: Tensor, b: Tensor) -> None:
    if not fits:
        raise RuntimeError(f"{name}: found shapes that do not fit: {list(a.shape)} and {list(b.shape)}")


_OPERATORS = {
    "mm": _mm, "bmm": _bmm, "addmm": _addmm, "baddbmm": _baddbmm, "mv": _mv, "addmv": _addmv,
    "dot": _dot, "vdot": _dot, "convolution": _convolution, "convolution_backward": _convolution_backward,
}  # fmt: skip
