"""Semantic consistency loss: points learn the class that CLIP predicts for their pixels (paper 3.2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clip2scene.method.recipe import Recipe
from clip2scene.precision import in_float32


@in_float32
def semantic_loss(scores: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Compute the semantic consistency loss of a recipe, unless it is ``kl`` (see `divergence`).

    Args:
        scores: [M, C] float, D(t_c, p_i): dot products of the points of M pairs with the texts of C classes.
        labels: [M] int64, 0..C-1, pseudo labels.
        recipe: Choice of loss, and tau.

    Returns:
        Scalar loss.
    """
    return LOSSES[recipe.semantic](scores / recipe.temperature, labels)


def equation_1(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute equation 1 as printed.

    L = - sum_c log( sum_{i: label c} exp(D(t_c, p_i) / tau) / sum_{j: label not c} exp(D(t_c, p_j) / tau) )

    over the classes c that occur among the labels. A batch with a single class has no negatives; its loss
    is 0.

    Args:
        logits: [M, C] float, D(t_c, p_i) / tau.
        labels: [M] int64, 0..C-1.

    Returns:
        Scalar loss. It can be negative, since the denominator does not contain the positives.
    """
    present = torch.unique(labels)
    logits, positive = logits.index_select(1, present), labels[:, None] == present  # [M, P]
    if positive.all():
        return 0.0 * logits.sum()
    negatives = logits.masked_fill(positive, -torch.inf).logsumexp(dim=0)  # [P]
    return (negatives - logits.masked_fill(~positive, -torch.inf).logsumexp(dim=0)).sum()


def weighted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy over classes, weighted by the inverse square root of class frequency.

    L = - sum_i w_i log( exp(D(t_c, p_i) / tau) / sum_k exp(D(t_k, p_i) / tau) ) / sum_i w_i,

    where c is the label of point i and w_i = M_c ** -1/2 for M_c points of that label. These are the weights
    of SalsaNext (Cortinhal et al., 2020), a compromise between weighting every point equally (rare classes
    are ignored) and every class equally (rare classes are over-predicted).

    Args:
        logits: [M, C] float, D(t_c, p_i) / tau.
        labels: [M] int64, 0..C-1.

    Returns:
        Scalar loss, 0 or more.
    """
    count = torch.bincount(labels, minlength=logits.shape[1])  # [C]
    return F.cross_entropy(logits, labels, weight=count.clamp(min=1).to(logits.dtype).rsqrt())


@in_float32
def divergence(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Compute the KL distillation of Table 3, which replaces both losses.

    L = 1/M sum_i sum_c q_ic log(q_ic / p_ic), with q_i = softmax(D(t_c, x_i) / tau) of the pixel and
    p_i = softmax(D(t_c, p_i) / tau) of the point. With tau = 1 this is the released, unused ``DistillKL``
    (CLIP2Scene @ f37dae7, pretrain/criterion.py).

    Args:
        scores: [M, C] float, dot products of points and texts.
        targets: [M, C] float, cosines of their pixels and texts, which MaskCLIP's logits are.
        temperature: tau.

    Returns:
        Scalar loss, 0 or more.
    """
    logits = F.log_softmax(scores / temperature, dim=1)
    return F.kl_div(
        logits, F.log_softmax(targets / temperature, dim=1), reduction="batchmean", log_target=True
    )


LOSSES = {
    "eq1": equation_1,
    "cross_entropy": F.cross_entropy,
    "weighted_cross_entropy": weighted_cross_entropy,
}
"""Losses by the value of `Recipe.semantic`: (logits [M, C], labels [M]) -> scalar."""
