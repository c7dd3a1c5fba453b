"""A network that a method reads and never trains."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn


class Frozen(nn.Module):
    """Holds a network that moves between devices with the method and is otherwise no part of it.

    Its weights are in no optimiser, in no checkpoint (they lie in a file of their own) and take no gradient,
    and it stays in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._held = (network.requires_grad_(False).eval(),)  # in a tuple, so that it is not registered

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the network makes of `inputs`."""
        return self._held[0](*inputs)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._held[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)
