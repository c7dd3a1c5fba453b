"""Sparse convolution in plain PyTorch (gather, matrix products, scatter): the reference of the other kernels.

It supports every device and dtype. Every sum has a fixed order (`Bags`), so results are bit-identical from
run to run. The products of all pairs are in memory at once.
"""

import torch
from torch import Tensor

from clip2scene.sparse.pairs import OffsetPairs


def sum_products(rows: Tensor, matrices: Tensor, pairs: OffsetPairs) -> Tensor:
    """Return y[t] = sum of rows[s] @ matrices[k] over the pairs (s, t) of all offsets k.

    Args:
        rows: [V, C].
        matrices: [K, C, C'], one per offset.
        pairs: Pairs (s, t), grouped by offset.

    Returns:
        [V', C'].
    """
    gathered = rows.index_select(0, pairs.sources).split(pairs.sizes)
    return pairs.bags.sum(torch.cat([part @ matrix for part, matrix in zip(gathered, matrices, strict=True)]))


def sum_outer_products(rows: Tensor, gradient: Tensor, pairs: OffsetPairs) -> Tensor:
    """Return w[k] = sum of the outer products of rows[s] and gradient[t] over the pairs (s, t) of offset k.

    Args:
        rows: [V, C].
        gradient: [V', C'].
        pairs: Pairs (s, t), grouped by offset.

    Returns:
        [K, C, C'].
    """
    left = rows.index_select(0, pairs.sources).split(pairs.sizes)
    right = gradient.index_select(0, pairs.targets).split(pairs.sizes)
    return torch.stack([a.t() @ b for a, b in zip(left, right, strict=True)])
