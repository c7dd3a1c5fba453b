"""Functions of one number that PyTorch leaves to MKL: NumPy and SciPy compute them here.

MKL's square root and arc functions start from the processor's own approximation, which Intel and AMD build
differently, and differ in the last digit. That of NumPy is correctly rounded; the others are NumPy's with
AVX2, the C library's or SciPy's, see `clip2scene.portable.pins`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import special
from torch import Tensor

FUNCTIONS: dict[str, Callable] = {
    "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "log2": np.log2, "log10": np.log10,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "erf": special.erf, "erfinv": special.erfinv,
}  # fmt: skip
"""By PyTorch's name: those of ATen/cpu/vml.h that have a version in MKL."""


def apply(function: Callable, values: Tensor) -> Tensor:
    """Return a function of NumPy or SciPy of every element, in the type of `values`."""
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.asarray(function(values.detach().numpy())))


def operators() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the functions as operators on tensors, by name."""
    return {name: partial(apply, function) for name, function in FUNCTIONS.items()}
