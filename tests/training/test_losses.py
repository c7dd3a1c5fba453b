"""Lovász-softmax and the segmentation loss against their definitions."""

import itertools
import math

import pytest
import torch

from clip2scene.training.losses import lovasz_softmax, segmentation_loss


def jaccard_loss(wrong, foreground):
    """1 - IoU of a class when the points in `wrong` are misclassified (Berman et al., equation 4)."""
    union = len(foreground | wrong)
    return 1 - len(foreground - wrong) / union if union else 0.0


def lovasz_extension(errors, foreground):
    """The Lovász extension as an integral: of the loss of the points whose error exceeds t, over t in
    0..1."""
    levels = sorted({0.0, *errors})
    return sum(
        (high - low) * jaccard_loss({i for i, e in enumerate(errors) if e > low}, foreground)
        for low, high in itertools.pairwise(levels)
    )


def test_lovasz_is_the_lovasz_extension_of_the_jaccard_loss():
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.rand(9, 4, generator=generator, dtype=torch.float64).softmax(dim=1)
    labels = [1, 1, 3, 0, 3, 3, 1, 0, 1]  # class 2 does not occur
    expected = []
    for c in sorted(set(labels)):
        foreground = {i for i, label in enumerate(labels) if label == c}
        errors = [abs((i in foreground) - float(p[c])) for i, p in enumerate(probabilities)]
        expected.append(lovasz_extension(errors, foreground))
    loss = lovasz_softmax(probabilities, torch.tensor(labels))
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-12)


def test_lovasz_of_hard_predictions_is_the_jaccard_loss():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    hard = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1, 2, 2]]
    assert lovasz_softmax(hard, labels).item() == pytest.approx(1 - (2 / 3 + 1 / 3 + 1 / 2) / 3)
    assert lovasz_softmax(torch.eye(3)[labels], labels).item() == 0


def test_lovasz_gradient():
    probabilities = torch.rand(7, 3, dtype=torch.float64).softmax(dim=1).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda p: lovasz_softmax(p, labels), probabilities)


def test_segmentation_loss_ignores_class_0():
    logits = torch.tensor([[0.3, 1.0, -2.0], [5.0, 0.0, 1.0], [0.1, 0.2, 0.9]], dtype=torch.float64)
    labels = torch.tensor([1, 0, 2])
    kept = logits[[0, 2]].float()
    cross_entropy = -sum(
        math.log(math.exp(row[c]) / sum(map(math.exp, row)))
        for row, c in zip(kept.tolist(), (1, 2), strict=True)
    )
    expected = cross_entropy / 2 + lovasz_softmax(kept.softmax(dim=1), labels[[0, 2]])
    assert segmentation_loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_segmentation_loss_of_ignored_points_is_zero_with_a_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.zeros(3, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 4))
