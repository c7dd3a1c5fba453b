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
    loss = contrast_of_classes if recipe.semantic == "eq1" else F.cross_entropy
    return loss(scores / recipe.temperature, labels)


def contrast_of_classes(logits: Tensor, labels: Tensor) -> Tensor:
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
    if len(present) < 2:
        return 0.0 * logits.sum()
    logits = logits.index_select(1, present)  # [M, P]
    positive = labels[:, None] == present
    numerator = logits.masked_fill(~positive, -torch.inf).logsumexp(dim=0)  # [P]
    denominator = logits.masked_fill(positive, -torch.inf).logsumexp(dim=0)
    return (denominator - numerator).sum()
