"""Sparse convolution in plain PyTorch: gather, matrix products, scatter. The oracle of the other kernels.

It serves any device and type. Every sum runs in a fixed order (`Bags`), so that results are bit-identical
from run to run; the products of all pairs are in memory at once.
"""

import torch
from torch import Tensor

from clip2scene.sparse.pairs import Pairs


def sum_products(rows: Tensor, matrices: Tensor, pairs: Pairs) -> Tensor:
    """Sums [V', C'] over the pairs of a row [C] of `rows` [V, C] times its offset's matrix, [K, C, C']."""
    gathered = rows.index_select(0, pairs.sources).split(pairs.sizes)
    return pairs.bags.sum(torch.cat([part @ matrix for part, matrix in zip(gathered, matrices, strict=True)]))


def sum_outer_products(rows: Tensor, gradient: Tensor, pairs: Pairs) -> Tensor:
    """Sums [K, C, C'] over an offset's pairs of outer products of rows [V, C] and [V', C']."""
    left = rows.index_select(0, pairs.sources).split(pairs.sizes)
    right = gradient.index_select(0, pairs.targets).split(pairs.sizes)
    return torch.stack([a.t() @ b for a, b in zip(left, right, strict=True)])
