"""A network that is read and never trained."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn


class Frozen(nn.Module):
    """Holds a network that moves between devices with its owner and is otherwise no part of it.

    Its weights are in no optimiser, in no checkpoint (they lie in a file of their own) and take no gradient,
    and it stays in evaluation mode: batch norm keeps its statistics.

    Attributes:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # faster on CPU and GPU
        self._held = (network,)  # in a tuple, so that it is not registered

    @property
    def network(self) -> nn.Module:  # noqa: D102
        return self._held[0]

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the network makes of `inputs`."""
        return self.network(*inputs)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)
