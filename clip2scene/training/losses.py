"""Losses for supervised segmentation: cross-entropy and Lovász-softmax."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clip2scene.precision import in_float32


@in_float32
def segmentation_loss(logits: Tensor, labels: Tensor, ignore: int = 0) -> Tensor:
    """Return cross-entropy + Lovász-softmax over the labelled points, SLidR's loss for fine-tuning.

    valeoai/SLidR, downstream/criterion.py.

    Args:
        logits: [N, C] float, one column per label, including the ignored one.
        labels: [N] int64, 0..C-1.
        ignore: Label of the points to leave out.

    Returns:
        Scalar loss; 0 if every point is ignored.
    """
    labelled = (labels != ignore).nonzero().squeeze(1)  # once: a GPU has to be waited for
    logits, labels = logits.index_select(0, labelled), labels.index_select(0, labelled)
    if len(labels) == 0:
        return logits.sum()
    return F.cross_entropy(logits, labels) + lovasz_softmax(logits.softmax(dim=1), labels)


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the Lovász-softmax loss, a convex surrogate of 1 - IoU, averaged over the classes in `labels`.

    For each class c, the errors |1[label = c] - probability of c| are sorted in descending order. Each is
    weighted by the increase of the Jaccard loss when its point joins those before it (Berman et al., CVPR
    2018, algorithm 1).

    Args:
        probabilities: [N, C] float, N > 0.
        labels: [N] int64, 0..C-1.

    Returns:
        Scalar loss in 0..1.
    """
    present = torch.unique(labels)
    foreground = (labels == present[:, None]).to(probabilities.dtype)  # [P, N]
    errors = (foreground - probabilities.T.index_select(0, present)).abs()
    errors, order = errors.sort(dim=1, descending=True, stable=True)
    foreground = foreground.gather(1, order)
    total = foreground.sum(dim=1, keepdim=True)
    inside = foreground.bool().cumsum(dim=1)  # of integers: a GPU sums floats in any order
    rank = torch.arange(1, foreground.shape[1] + 1, device=foreground.device)
    intersection, union = total - inside, total + (rank - inside)
    jaccard = 1 - intersection / union
    weights = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(total))
    return (errors * weights).sum(dim=1).mean()
