"""Sums and rows over all processes, through which gradients flow."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function


def summed(x: Tensor) -> Tensor:
    """Return the sum of `x` over all processes."""
    return _Summed.apply(x)


class _Summed(Function):
    """Sum over processes; torch's own, in `torch.distributed.nn`, is deprecated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the sum of every process's `x`."""
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the sum of every process's gradient, as each has a part of the loss."""
        return _Summed.forward(ctx, gradient)


def gathered(x: Tensor) -> Tensor:
    """Return the rows of all processes, [N_1 + N_2 + ..., ...]; `x` itself if there is one process.

    A loss that is no mean over samples, as Lovász-softmax is none, is computed over them by every process.
    Gradients flow back to the process that a row comes from.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return x
    return _Gathered.apply(x)


class _Gathered(Function):
    """Concatenation of rows over processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the rows of all processes; of each they may be another number."""
        count = torch.tensor([len(x)], device=x.device)
        counts = [torch.empty_like(count) for _ in range(distributed.get_world_size())]
        distributed.all_gather(counts, count)
        ctx.counts = torch.cat(counts).tolist()
        padded = x.new_zeros(max(ctx.counts), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in ctx.counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:rows] for part, rows in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the own rows' gradient, summed over processes: DDP then takes its mean over them."""
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient.split(ctx.counts)[distributed.get_rank()]
