"""Losses of supervised segmentation: cross-entropy and Lovász-softmax."""

import torch
from torch import Tensor
from torch.nn import functional as F


def segmentation_loss(logits: Tensor, labels: Tensor, ignore: int = 0) -> Tensor:
    """Cross-entropy + Lovász-softmax over the labelled points, as SLidR fine-tunes (downstream/criterion.py).

    Args:
        logits: [N, C], one column a label, that of the ignored one included.
        labels: [N] 0..C-1.
        ignore: Points with this label do not count.

    Returns:
        A scalar; 0 if every point is ignored.
    """
    labelled = labels != ignore
    logits, labels = logits[labelled].float(), labels[labelled]
    if len(labels) == 0:
        return logits.sum()
    return F.cross_entropy(logits, labels) + lovasz_softmax(logits.softmax(dim=1), labels)


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Lovász-softmax: a convex surrogate of 1 - IoU, averaged over the classes that occur among the labels.

    For each class the errors |1[label = c] - probability of c| are sorted in descending order and weighted by
    how much each, added to those before it, raises the Jaccard loss (Berman et al., CVPR 2018, algorithm 1).

    Args:
        probabilities: [N, C], N > 0.
        labels: [N] 0..C-1.

    Returns:
        A scalar in 0..1.
    """
    present = torch.unique(labels)
    foreground = (labels == present[:, None]).to(probabilities.dtype)  # [P, N]
    errors = (foreground - probabilities.T.index_select(0, present)).abs()
    errors, order = errors.sort(dim=1, descending=True, stable=True)
    foreground = foreground.gather(1, order)
    total = foreground.sum(dim=1, keepdim=True)
    intersection = total - foreground.cumsum(dim=1)
    union = total + (1 - foreground).cumsum(dim=1)
    jaccard = 1 - intersection / union
    weights = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(total))
    return (errors * weights).sum(dim=1).mean()
