"""Wrapper of a network that is used but never trained."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn


class Frozen(nn.Module):
    """Wrapper of a network that moves between devices with its owner and is otherwise independent of it.

    The network's weights receive no gradient. They are in no optimiser, and in no checkpoint because they
    have a file of their own. The network stays in evaluation mode, so its batch norm statistics are fixed.

    Attributes:
        network: The frozen network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # faster on CPU and GPU
        self._held = (network,)  # in a tuple, so that it is not registered as a submodule

    @property
    def network(self) -> nn.Module:  # noqa: D102
        return self._held[0]

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Run the network on `inputs`, without gradients."""
        return self.network(*inputs)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)
