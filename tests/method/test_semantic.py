"""The semantic loss against its definitions, written out in float64 loops."""

import math

import pytest
import torch

from clip2scene.method.recipe import FIXED, PAPER, RELEASED
from clip2scene.method.semantic import contrast_of_classes, semantic_loss

LABELS = [0, 3, 3, 1, 0, 3, 1, 0]  # class 2 does not occur


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    return draw[:8], torch.nn.functional.normalize(draw[8:], dim=1)  # points [8, 5], texts [4, 5]


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def test_paper_is_equation_1(features):
    points, texts = features
    expected = 0.0
    for c in sorted(set(LABELS)):
        numerator = denominator = 0.0
        for point, label in zip(points, LABELS, strict=True):
            value = math.exp(dot(texts[c], point) / 0.5)
            if label == c:
                numerator += value
            else:
                denominator += value
        expected -= math.log(numerator / denominator)
    loss = semantic_loss(points @ texts.T, torch.tensor(LABELS), PAPER)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("recipe", "tau", "unit"), [(RELEASED, 1.0, False), (FIXED, 0.07, True)])
def test_cross_entropy_over_classes(features, recipe, tau, unit):
    points, texts = features
    assert recipe.normalise == unit  # scores come normalised or not from Clip2Scene.embed
    expected = 0.0
    for point, label in zip(points, LABELS, strict=True):
        scores = [dot(text, point) / tau for text in texts]
        expected += (math.log(sum(map(math.exp, scores))) - scores[label]) / len(LABELS)
    loss = semantic_loss(points @ texts.T, torch.tensor(LABELS), recipe)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_equation_1_without_negatives_is_zero_and_has_a_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = contrast_of_classes(logits, torch.ones(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


def test_equation_1_does_not_overflow():
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    contrast_of_classes(logits, torch.tensor([0, 1])).backward()
    assert torch.isfinite(logits.grad).all()
