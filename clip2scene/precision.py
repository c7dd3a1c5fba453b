"""Float32 for losses, whatever the precision of the layers before them."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def in_float32(function: Callable[P, T]) -> Callable[P, T]:
    """Compute a function in float32, under autocast too: of tensors in bfloat16, or of their products.

    Autocast casts the factors of every matrix product to bfloat16, whose 8 bits of mantissa hold a cosine to
    0.004. Networks bear that; losses and pseudo labels do not.
    """

    @wraps(function)
    def computed(*arguments: P.args, **named: P.kwargs) -> T:
        tensors = (value for value in (*arguments, *named.values()) if isinstance(value, Tensor))
        with torch.autocast(next(tensors).device.type, enabled=False):
            return function(*map(_float32, arguments), **{k: _float32(v) for k, v in named.items()})

    return computed


def _float32(value: Any) -> Any:
    """Return a tensor of half the precision in float32, and anything else as it is."""
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
