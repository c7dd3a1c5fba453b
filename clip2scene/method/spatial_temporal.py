"""Spatial-temporal consistency loss (paper 3.3).

Points of several sweeps that share a grid cell are pulled towards one feature, fused from these points and
their pixels.
"""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from clip2scene.method.recipe import Recipe
from clip2scene.precision import in_float32


@in_float32
def spatial_temporal_loss(
    points: Tensor, pixels: Tensor, labels: Tensor, text: Tensor, cell: Tensor, recipe: Recipe
) -> Tensor:
    """Compute equation 2, which pulls the points of a cell towards its fused feature.

    L = sum_n sum_{i in g_n} (1 - sigmoid(D(p_i, f_n))) / N

    The sum runs over pairs, as in the released code: a point seen by two cameras counts twice in its cell.

    Args:
        points: [M, D] float, point features p of the pairs.
        pixels: [M, D] float, pixel features x of the pairs.
        labels: [M] int64, 0..C-1, pseudo labels of the pixels; self-training never switches these.
        text: [C, D] float, text embeddings.
        cell: [M] int64, grid cell of each pair; the numbers may have gaps.
        recipe: Fusion, attention text, lambda, cap and reduction.

    Returns:
        Scalar loss.
    """
    chosen, cell, first = group(cell, recipe.cell_cap)
    points, pixels = points.index_select(0, chosen), pixels.index_select(0, chosen)
    attending = labels[chosen] if recipe.attention_text == "pair" else labels[chosen][first][cell]
    of_points, of_pixels = attention(points, pixels, text[attending], cell, len(first), recipe)

    weighted = of_points[:, None] * points + of_pixels[:, None] * pixels
    fused = points.new_zeros(len(first), points.shape[1]).index_add(0, cell, weighted)  # equation 3, [N, D]
    disagreement = 1 - torch.sigmoid((points * fused.index_select(0, cell)).sum(dim=1))  # [M]
    return reduce(disagreement, len(first), recipe)


@in_float32
def pixel_disagreement(points: Tensor, pixels: Tensor) -> Tensor:
    """Return 1 - cosine similarity of points [M, D] and pixels [M, D], averaged over the M pairs.

    The released code's ``scannet_loss`` uses this instead of equation 2.
    """
    return (1 - cosine_similarity(points, pixels, dim=1)).mean()


def group(cell: Tensor, cap: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sort pairs by cell and keep the first `cap` pairs of each.

    Args:
        cell: [M] int64, grid cell of each pair.
        cap: Number of pairs to keep per cell; None keeps all.

    Returns:
        Indices [M'] of the kept pairs, sorted by cell and otherwise in their original order; their cells
        [M'], renumbered 0..N-1; and the start [N] of each cell in these. All are int64.
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
    """Compute equation 4: a softmax within each cell, over its pixels and points together.

    b_i = exp(D(p_i, t_i) / lambda) / sum_{j in g_n} (exp(D(x_j, t_j) / lambda) + exp(D(p_j, t_j) / lambda)),

    and a_i has D(x_i, t_i) in the numerator. With fusion ``points`` the pixels are left out: a is 0.

    Args:
        points: [M, D] float, point features p.
        pixels: [M, D] float, pixel features x.
        text: [M, D] float, text embedding t of each pair.
        cell: [M] int64, 0..cells-1.
        cells: Number of cells N.
        recipe: Fusion and lambda.

    Returns:
        Weights b [M] of the points and a [M] of the pixels.
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
    """Reduce the terms [M] of equation 2 over `cells` cells to a scalar, as `recipe.reduction` says."""
    if recipe.reduction == "mean":
        return disagreement.mean()
    if recipe.reduction == "sum_per_cell":
        return disagreement.sum() / cells
    slots = cells * recipe.cell_cap
    empty = slots - len(disagreement)  # slots with zero features; each adds 1 - sigmoid(0)
    return (disagreement.sum() + 0.5 * empty) / slots
