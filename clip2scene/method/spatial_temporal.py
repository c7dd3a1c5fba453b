"""Spatial-temporal consistency loss (paper 3.3).

Points of several sweeps that share a grid cell are pulled towards one feature, fused from these points and
their pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cosine_similarity

from clip2scene.blockwise import row_blocks
from clip2scene.method.recipe import Recipe
from clip2scene.precision import in_float32


@in_float32
def spatial_temporal_loss(
    points: Tensor,
    pixels: Tensor,
    labels: Tensor,
    text: Tensor,
    cell: Tensor,
    recipe: Recipe,
    of_pair: Tensor | None = None,
) -> Tensor:
    """Compute equation 2, which pulls the points of a cell towards its fused feature.

    L = sum_n sum_{i in g_n} (1 - sigmoid(D(p_i, f_n))) / N

    The sum runs over pairs, as in the released code: a point seen by two cameras counts twice in its cell.

    Args:
        points: [V, D] float, point features p.
        pixels: [M, D] float, pixel features x of the pairs. They get no gradient.
        labels: [M] int64, 0..C-1, pseudo labels of the pixels; self-training never switches these.
        text: [C, D] float, text embeddings.
        cell: [M] int64, grid cell of each pair; the numbers may have gaps.
        recipe: Fusion, attention text, lambda, cap and reduction.
        of_pair: [M] int64, row of `points` of each pair; None if each pair has its own, in order.

    Returns:
        Scalar loss.
    """
    chosen, cell, first = group(cell, recipe.cell_cap)
    attending = labels[chosen] if recipe.attention_text == "pair" else labels[chosen][first][cell]
    # Features stay in the order of the pairs: only numbers of pairs are sorted by cell.
    kept, place = chosen.sort()
    if len(kept) < len(pixels):
        pixels, of_pair = pixels.index_select(0, kept), kept if of_pair is None else of_pair[kept]
    elif of_pair is None:
        of_pair = kept
    agreement = _Agreement.apply(
        points, of_pair, pixels, text, attending[place], cell[place], len(first), recipe
    )
    disagreement = 1 - torch.sigmoid(agreement.index_select(0, place.argsort()))  # [M]
    return reduce(disagreement, len(first), recipe)


class _Agreement(torch.autograd.Function):
    """D(p_i, f_n) of each pair with its cell's fused feature (equation 3), without matrices of all pairs."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        of_pair: Tensor,
        pixels: Tensor,
        text: Tensor,
        attending: Tensor,
        cell: Tensor,
        cells: int,
        recipe: Recipe,
    ) -> Tensor:
        blocks = row_blocks(*pixels.shape, pixels.device)
        scores = pixels.new_empty(2, len(pixels))
        for block in blocks:
            p, t = points.index_select(0, of_pair[block]), text.index_select(0, attending[block])
            scores[0, block] = (p * t).sum(dim=1)
            scores[1, block] = (pixels[block] * t).sum(dim=1)
        with torch.enable_grad():
            weights = attention(scores.requires_grad_(), cell, cells, recipe)  # [2, M]
        of_points, of_pixels = weights.detach()[:, :, None]
        fused = points.new_zeros(cells, points.shape[1])  # [N, D]
        for block in blocks:
            p = points.index_select(0, of_pair[block])
            fused.index_add_(0, cell[block], of_points[block] * p + of_pixels[block] * pixels[block])
        agreement = pixels.new_empty(len(pixels))
        for block in blocks:
            p = points.index_select(0, of_pair[block])
            agreement[block] = (p * fused.index_select(0, cell[block])).sum(dim=1)
        ctx.save_for_backward(points, of_pair, pixels, text, attending, cell, fused)
        ctx.blocks, ctx.scores, ctx.weights = blocks, scores, weights
        return agreement

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        points, of_pair, pixels, text, attending, cell, fused = ctx.saved_tensors
        gradient = gradient[:, None]
        of_fused = torch.zeros_like(fused)
        for block in ctx.blocks:
            p = points.index_select(0, of_pair[block])
            of_fused.index_add_(0, cell[block], gradient[block] * p)
        of_weights = torch.empty_like(ctx.scores)
        for block in ctx.blocks:
            p, upstream = points.index_select(0, of_pair[block]), of_fused.index_select(0, cell[block])
            of_weights[0, block] = (upstream * p).sum(dim=1)
            of_weights[1, block] = (upstream * pixels[block]).sum(dim=1)
        (of_scores,) = torch.autograd.grad(ctx.weights, ctx.scores, of_weights, retain_graph=True)
        weights, of_scores = ctx.weights.detach()[0, :, None], of_scores[0, :, None]
        of_points = torch.zeros_like(points)
        for block in ctx.blocks:  # a pair's three uses of its point
            total = gradient[block] * fused.index_select(0, cell[block])
            total += weights[block] * of_fused.index_select(0, cell[block])
            total += of_scores[block] * text.index_select(0, attending[block])
            of_points.index_add_(0, of_pair[block], total)
        return of_points, *[None] * 7


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


def attention(scores: Tensor, cell: Tensor, cells: int, recipe: Recipe) -> Tensor:
    """Compute equation 4: a softmax within each cell, over its pixels and points together.

    b_i = exp(D(p_i, t_i) / lambda) / sum_{j in g_n} (exp(D(x_j, t_j) / lambda) + exp(D(p_j, t_j) / lambda)),

    and a_i has D(x_i, t_i) in the numerator. With fusion ``points`` the pixels are left out: a is 0.

    Args:
        scores: [2, M] float, dot products of each pair's point p and pixel x with its text embedding t.
        cell: [M] int64, 0..cells-1.
        cells: Number of cells N.
        recipe: Fusion and lambda.

    Returns:
        Weights b of the points and a of the pixels, [2, M].
    """
    scores = scores / recipe.attention_temperature
    if recipe.fusion == "points":
        scores = torch.stack([scores[0], torch.full_like(scores[1], -torch.inf)])
    with torch.no_grad():
        highest = scores.new_full((cells,), -torch.inf).scatter_reduce(0, cell, scores.amax(dim=0), "amax")
    exponentials = torch.exp(scores - highest[cell])
    total = scores.new_zeros(cells).index_add(0, cell, exponentials.sum(dim=0))
    return exponentials / total.index_select(0, cell)


def reduce(disagreement: Tensor, cells: int, recipe: Recipe) -> Tensor:
    """Reduce the terms [M] of equation 2 over `cells` cells to a scalar, as `recipe.reduction` says."""
    if recipe.reduction == "mean":
        return disagreement.mean()
    if recipe.reduction == "sum_per_cell":
        return disagreement.sum() / cells
    slots = cells * recipe.cell_cap
    empty = slots - len(disagreement)  # slots with zero features; each adds 1 - sigmoid(0)
    return (disagreement.sum() + 0.5 * empty) / slots
