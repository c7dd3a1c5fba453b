"""Row-wise computation on large matrices in blocks that stay in a core's cache.

Tens of thousands of pairs by 512 channels take 70 MB and more. Every such intermediate result is memory that
the system hands out anew, and goes through it once per operation. Rows are computed one by one, so a block
gives the same bits as the whole.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 2**17  # values of a block: 512 KiB in float32
_LEAST = 1e-12  # least norm, as in torch.nn.functional.normalize


def row_blocks(rows: int, width: int, device: torch.device) -> list[slice]:
    """Divide rows into blocks of nearly equal size; on a GPU, into one block.

    Args:
        rows: Number of rows.
        width: Values in a row.
        device: Device of the rows.
    """
    count = max(1, -(-rows * width // _BLOCK)) if device.type == "cpu" else 1
    bounds = [rows * number // count for number in range(count + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


def normalise_(rows: Tensor) -> Tensor:
    """Divide each row of [N, D] by its L2 norm, in place; returns `rows`, differentiable.

    Result and gradient are those of ``F.normalize(rows, dim=1)``, bit by bit.
    """
    return _Normalise.apply(rows)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        norms = rows.new_empty(len(rows), 1)
        for block in row_blocks(*rows.shape, rows.device):
            norms[block] = torch.linalg.vector_norm(rows[block], dim=1, keepdim=True)
            rows[block] /= norms[block].clamp_min(_LEAST)
        ctx.mark_dirty(rows)
        ctx.save_for_backward(rows, norms)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, norms = ctx.saved_tensors
        result = torch.empty_like(unit)
        for block in row_blocks(*unit.shape, unit.device):
            upstream, divisor = gradient[block], norms[block].clamp_min(_LEAST)
            of_norm = (upstream.neg() * (unit[block] / divisor)).sum(1, keepdim=True)
            of_norm.masked_fill_(norms[block] < _LEAST, 0)
            torch.add(upstream / divisor, unit[block] * of_norm, out=result[block])
        return result
