"""Spatial-temporal consistency: points of several sweeps that share a grid cell agree with one feature fused
from all of them and from their pixels (paper 3.3).
"""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from clip2scene.method.recipe import Recipe


def spatial_temporal_loss(
    points: Tensor, pixels: Tensor, labels: Tensor, text: Tensor, cell: Tensor, recipe: Recipe
) -> Tensor:
    """Equation 2: the pairs of a cell are drawn to its fused feature.

    L = sum_n sum_{i in g_n} (1 - sigmoid(D(p_i, f_n))) / N

    A pair counts by itself, as in the released code: a point that two cameras see stands twice in its cell.

    Args:
        points: [M, D] point features p of the pairs.
        pixels: [M, D] pixel features x of the pairs.
        labels: [M] 0..C-1, pseudo labels of the pixels, never switched by self-training.
        text: [C, D] text embeddings.
        cell: [M] grid cell of each pair, any numbers.
        recipe: Fusion, text, lambda, cap and reduction.

    Returns:
        A scalar.
    """
    chosen, cell, first = group(cell, recipe.cell_cap)
    points, pixels = points.index_select(0, chosen), pixels.index_select(0, chosen)
    attending = labels[chosen] if recipe.attention_text == "pair" else labels[chosen][first][cell]
    of_points, of_pixels = attention(points, pixels, text[attending], cell, len(first), recipe)

    weighted = of_points[:, None] * points + of_pixels[:, None] * pixels
    fused = points.new_zeros(len(first), points.shape[1]).index_add(0, cell, weighted)  # equation 3, [N, D]
    disagreement = 1 - torch.sigmoid((points * fused.index_select(0, cell)).sum(dim=1))  # [M]
    return reduce(disagreement, len(first), recipe)


def pixel_disagreement(points: Tensor, pixels: Tensor) -> Tensor:
    """1 - cosine of the point [M, D] and the pixel [M, D] of each pair, mean over pairs.

    In place of equation 2 in the released code's ``scannet_loss``.
    """
    return (1 - cosine_similarity(points, pixels, dim=1)).mean()


def group(cell: Tensor, cap: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Bring the pairs of each cell together.

    Args:
        cell: [M] grid cell of each pair.
        cap: How many pairs of a cell are kept, the first ones; None keeps all.

    Returns:
        The pairs kept [M'], cell by cell and in their order; their cells [M'], renumbered 0..N-1; and where
        in these each cell begins [N].
    """
    chosen = torch.argsort(cell, stable=True)
    _, cell, counts = torch.unique_consecutive(cell[chosen], return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    if cap is not None:
        kept = torch.arange(len(cell), device=cell.device) - first[cell] < cap
        chosen, cell, counts = chosen[kept], cell[kept], counts.clamp(max=cap)
        first = counts.cumsum(0) - counts
    return chosen, cell, first


def attention(
    points: Tensor, pixels: Tensor, text: Tensor, cell: Tensor, cells: int, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Equation 4: a soft-max within each cell, over its pixels and points together.

    b_i = exp(D(p_i, t_i) / lambda) / sum_{j in g_n} (exp(D(x_j, t_j) / lambda) + exp(D(p_j, t_j) / lambda)),

    and a_i the same with D(x_i, t_i) above. With fusion ``points`` there are no pixels: a is 0.

    Args:
        points: [M, D] point features p.
        pixels: [M, D] pixel features x.
        text: [M, D] text t of each pair.
        cell: [M] 0..cells-1.
        cells: N.
        recipe: Fusion and lambda.

    Returns:
        b [M], the weights of the points, and a [M], those of the pixels.
    """
    scores = torch.stack([(points * text).sum(dim=1), (pixels * text).sum(dim=1)])  # [2, M]
    scores = scores / recipe.attention_temperature
    if recipe.fusion == "points":
        scores = torch.stack([scores[0], torch.full_like(scores[1], -torch.inf)])
    with torch.no_grad():
        highest = scores.new_full((cells,), -torch.inf).scatter_reduce(0, cell, scores.amax(dim=0), "amax")
    exponentials = torch.exp(scores - highest[cell])
    total = scores.new_zeros(cells).index_add(0, cell, exponentials.sum(dim=0))
    weights = exponentials / total.index_select(0, cell)
    return weights[0], weights[1]


def reduce(disagreement: Tensor, cells: int, recipe: Recipe) -> Tensor:
    """Sum up the terms [M] of equation 2 over N `cells` as the recipe has it."""
    if recipe.reduction == "mean":
        return disagreement.mean()
    if recipe.reduction == "sum_per_cell":
        return disagreement.sum() / cells
    slots = cells * recipe.cell_cap
    empty = slots - len(disagreement)  # zero features: 1 - sigmoid(0) each
    return (disagreement.sum() + 0.5 * empty) / slots
