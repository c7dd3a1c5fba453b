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
    logits, positive = _of_present_classes(logits, labels)
    if positive.all():
        return 0.0 * logits.sum()
    negatives = logits.masked_fill(positive, -torch.inf).logsumexp(dim=0)  # [P]
    return (negatives - logits.masked_fill(~positive, -torch.inf).logsumexp(dim=0)).sum()


def equation_1_bounded(logits: Tensor, labels: Tensor) -> Tensor:
    """Equation 1 with all points in the denominator, and a mean over the P classes that occur.

    L = - 1/P sum_c log( sum_{i: label c} exp(D(t_c, p_i) / tau) / sum_j exp(D(t_c, p_j) / tau) )

    Args:
        logits: [M, C] D(t_c, p_i) / tau.
        labels: [M] 0..C-1.

    Returns:
        A scalar, 0 or more.
    """
    logits, positive = _of_present_classes(logits, labels)
    positives = logits.masked_fill(~positive, -torch.inf).logsumexp(dim=0)  # [P]
    return (logits.logsumexp(dim=0) - positives).mean()


def _of_present_classes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [M, P] of the P classes among labels [M], and which pairs have which of them [M, P]."""
    present = torch.unique(labels)
    return logits.index_select(1, present), labels[:, None] == present


LOSSES = {"eq1": equation_1, "eq1_bounded": equation_1_bounded, "cross_entropy": F.cross_entropy}
"""By `Recipe.semantic`."""
