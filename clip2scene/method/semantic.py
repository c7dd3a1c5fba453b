"""Semantic consistency: points take the class that CLIP sees in their pixels (paper 3.2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clip2scene.method.recipe import Recipe


def semantic_loss(scores: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """The semantic consistency loss as the recipe has it.

    Args:
        scores: [M, C] D(t_c, p_i), scalar products of the points of M pairs with the texts of C classes.
        labels: [M] 0..C-1, pseudo labels.
        recipe: Which loss, and tau.

    Returns:
        A scalar.
    """
    return LOSSES[recipe.semantic](scores / recipe.temperature, labels)


def equation_1(logits: Tensor, labels: Tensor) -> Tensor:
    """Equation 1 as printed.

    L = - sum_c log( sum_{i: label c} exp(D(t_c, p_i) / tau) / sum_{j: label not c} exp(D(t_c, p_j) / tau) )

    over the classes that occur among the labels. A batch in which only one class occurs has no negatives,
    hence no contrast, and gives 0.

    Args:
        logits: [M, C] D(t_c, p_i) / tau.
        labels: [M] 0..C-1.

    Returns:
        A scalar, which may be negative: the positives are not in the denominator.
    """
    present = torch.unique(labels)
    logits, positive = logits.index_select(1, present), labels[:, None] == present  # [M, P]
    if positive.all():
        return 0.0 * logits.sum()
    negatives = logits.masked_fill(positive, -torch.inf).logsumexp(dim=0)  # [P]
    return (negatives - logits.masked_fill(~positive, -torch.inf).logsumexp(dim=0)).sum()


def weighted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each point over classes, a mean weighted by one over the root of its class's number.

    L = - sum_i w_i log( exp(D(t_c, p_i) / tau) / sum_k exp(D(t_k, p_i) / tau) ) / sum_i w_i,

    where c is the label of i and w_i = M_c ** -1/2 with the M_c points of that label, the weights of
    SalsaNext (Cortinhal et al., 2020): between all points alike, which forgets rare classes, and all
    classes alike, which finds them everywhere.

    Args:
        logits: [M, C] D(t_c, p_i) / tau.
        labels: [M] 0..C-1.

    Returns:
        A scalar, 0 or more.
    """
    count = torch.bincount(labels, minlength=logits.shape[1])  # [C]
    return F.cross_entropy(logits, labels, weight=count.clamp(min=1).to(logits.dtype).rsqrt())


LOSSES = {
    "eq1": equation_1,
    "cross_entropy": F.cross_entropy,
    "weighted_cross_entropy": weighted_cross_entropy,
}
"""By `Recipe.semantic`."""
