"""The semantic loss compared with its definition in float64 loops."""

import math

import pytest
import torch

from clip2scene.method.recipe import FIXED, PAPER, RELEASED
from clip2scene.method.semantic import divergence, semantic_loss

LABELS = [0, 3, 3, 1, 0, 3, 1, 0]  # class 2 does not occur


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    draw = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    return draw[:8], torch.nn.functional.normalize(draw[8:], dim=1)  # points [8, 5], texts [4, 5]


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def sums_of_equation_1(points, texts, c, tau):
    """Return the sums of exp(D(t_c, p) / tau) over the points of class c and over the others."""
    inside = outside = 0.0
    for point, label in zip(points, LABELS, strict=True):
        value = math.exp(dot(texts[c], point) / tau)
        inside, outside = (inside + value, outside) if label == c else (inside, outside + value)
    return inside, outside


def test_paper_is_equation_1(features):
    points, texts = features
    expected = 0.0
    for c in (0, 1, 3):
        inside, outside = sums_of_equation_1(points, texts, c, tau=0.5)
        expected -= math.log(inside / outside)
    loss = semantic_loss(points @ texts.T, torch.tensor(LABELS), PAPER)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def cross_entropy(point, texts, label, tau):
    scores = [dot(text, point) / tau for text in texts]
    return math.log(sum(map(math.exp, scores))) - scores[label]


def test_fixed_is_cross_entropy_over_classes_weighted_by_the_root_of_their_numbers(features):
    points, texts = features
    weights = [LABELS.count(label) ** -0.5 for label in LABELS]
    terms = (
        weight * cross_entropy(point, texts, label, tau=0.07)
        for weight, point, label in zip(weights, points, LABELS, strict=True)
    )
    loss = semantic_loss(points @ texts.T, torch.tensor(LABELS), FIXED)
    assert loss.item() == pytest.approx(sum(terms) / sum(weights), rel=1e-12)


def test_released_is_cross_entropy_over_classes(features):
    points, texts = features
    terms = (cross_entropy(point, texts, label, tau=1) for point, label in zip(points, LABELS, strict=True))
    expected = sum(terms) / len(LABELS)
    loss = semantic_loss(points @ texts.T, torch.tensor(LABELS), RELEASED)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_one_class_is_no_contrast():
    scores = torch.randn(4, 3, requires_grad=True)
    loss = semantic_loss(scores, torch.ones(4, dtype=torch.long), PAPER)
    loss.backward()
    assert loss.item() == 0
    assert torch.allclose(scores.grad, torch.zeros(4, 3), atol=1e-6)


@pytest.mark.parametrize("recipe", [PAPER, FIXED])
def test_contrasts_do_not_overflow(recipe):
    scores = torch.tensor([[1e4, 0.0], [0.0, 1e4], [-1e4, 0.0]], requires_grad=True)
    semantic_loss(scores, torch.tensor([0, 1, 0]), recipe).backward()
    assert torch.isfinite(scores.grad).all()


def test_divergence_is_that_of_the_two_distributions_over_classes(features):
    points, texts = features
    pixels = torch.nn.functional.normalize(points.flip(0), dim=1)
    for tau in (1.0, 0.07):
        expected = 0.0
        for point, pixel in zip(points, pixels, strict=True):
            p = [math.exp(dot(text, point) / tau) for text in texts]
            q = [math.exp(dot(text, pixel) / tau) for text in texts]
            expected += sum(
                b / sum(q) * math.log(b / sum(q) / (a / sum(p))) for a, b in zip(p, q, strict=True)
            )
        loss = divergence(points @ texts.T, pixels @ texts.T, tau)
        assert loss.item() == pytest.approx(expected / len(points), rel=1e-9)
    assert divergence(pixels @ texts.T, pixels @ texts.T, 1.0).item() == pytest.approx(0, abs=1e-12)


def test_divergence_at_1_is_the_released_codes(features):
    """DistillKL(T=1) of CLIP2Scene @ f37dae7: kl_div with summed terms, times T ** 2, over the batch."""
    points, texts = features
    scores, targets = points @ texts.T, points.flip(0) @ texts.T
    log_p, q = scores.log_softmax(dim=1), targets.softmax(dim=1)
    official = torch.nn.functional.kl_div(log_p, q, reduction="sum") / len(scores)
    torch.testing.assert_close(divergence(scores, targets, 1.0), official)
