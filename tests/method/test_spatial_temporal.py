"""The spatial-temporal loss compared with equations 2 to 4 and with the released code, both as loops."""

import math
from dataclasses import replace

import pytest
import torch

from clip2scene.method.recipe import FIXED, PAPER, RELEASED
from clip2scene.method.spatial_temporal import attention, group, reduce, spatial_temporal_loss

CELLS = [7, 2, 7, 2, 2, 5, 7] + [9] * 11  # numbers have gaps; cell 9 has 11 pairs, above the cap of 8


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    m = len(CELLS)
    labels = torch.randint(0, 3, (m,), generator=generator)
    text = torch.nn.functional.normalize(draw(3, 4), dim=1)
    return draw(m, 4), draw(m, 4), labels, text, torch.tensor(CELLS)


def equations_2_to_4(points, pixels, labels, text, cells):
    """Return the sum over cells and pairs of 1 - sigmoid(D(p, f)) at lambda = 1, and the number of cells."""
    total = 0.0
    for n in sorted(set(cells.tolist())):
        members = [i for i, cell in enumerate(cells.tolist()) if cell == n]
        of_pixel = {i: math.exp(pixels[i] @ text[labels[i]]) for i in members}
        of_point = {i: math.exp(points[i] @ text[labels[i]]) for i in members}
        normaliser = sum(of_pixel.values()) + sum(of_point.values())
        fused = sum((of_pixel[i] * pixels[i] + of_point[i] * points[i]) / normaliser for i in members)
        total += sum(1 - 1 / (1 + math.exp(-(points[i] @ fused))) for i in members)
    return total, len(set(cells.tolist()))


def released_steps(points, labels, text, cells, slots=8):
    """Compute the released loss step by step.

    These are feature_packaging, fusionNet.forward and mean(1 - inner_products) of runnanchen/CLIP2Scene
    @ f37dae7.
    """
    packages = torch.zeros(max(cells.tolist()) + 1, slots, points.shape[1], dtype=points.dtype)
    predicted = torch.zeros(len(packages), slots, dtype=torch.long)
    filled = [0] * len(packages)
    for i, cell in enumerate(cells.tolist()):
        if filled[cell] < slots:
            packages[cell, filled[cell]] = points[i]
            predicted[cell, filled[cell]] = labels[i]
            filled[cell] += 1
    terms = []
    for package, prediction in zip(packages, predicted, strict=True):
        logits = [float(slot @ text[prediction[0]]) for slot in package]
        if sum(logits) == 0:
            continue
        exponentials = [math.exp(logit) if logit != 0 else 0.0 for logit in logits]  # the sparse softmax
        fused = sum(e / sum(exponentials) * slot for e, slot in zip(exponentials, package, strict=True))
        terms += [1 - 1 / (1 + math.exp(-float(fused @ slot))) for slot in package]
    return sum(terms) / len(terms)


def test_paper_is_equations_2_to_4(case):
    total, cells = equations_2_to_4(*case)
    assert spatial_temporal_loss(*case, PAPER).item() == pytest.approx(total / cells, rel=1e-12)


def test_fixed_is_the_mean_over_pairs(case):
    total, _ = equations_2_to_4(*case)
    assert spatial_temporal_loss(*case, FIXED).item() == pytest.approx(total / len(CELLS), rel=1e-12)


def test_released_pads_caps_and_attends_by_the_first_slot(case):
    points, _, labels, text, cells = case
    expected = released_steps(points, labels, text, cells)
    assert spatial_temporal_loss(*case, RELEASED).item() == pytest.approx(expected, rel=1e-12)


def test_released_never_sees_the_pixels(case):
    points, pixels, *rest = case
    assert torch.equal(
        spatial_temporal_loss(points, pixels, *rest, RELEASED),
        spatial_temporal_loss(points, torch.zeros_like(pixels), *rest, RELEASED),
    )


def test_lambda_divides_the_attention_scores(case):
    points, pixels, labels, text, cells = case
    sharper = replace(PAPER, attention_temperature=0.25)
    total, n = equations_2_to_4(points, pixels, labels, text * 4, cells)
    assert spatial_temporal_loss(*case, sharper).item() == pytest.approx(total / n, rel=1e-12)


@pytest.mark.parametrize("recipe", [PAPER, RELEASED, FIXED])
def test_gradients(case, recipe):
    points, *rest = case
    assert torch.autograd.gradcheck(
        lambda p: spatial_temporal_loss(p, *rest, recipe), points.requires_grad_()
    )


def plain_operators(points, pixels, labels, text, cell, recipe, of_pair):
    """Compute the loss with a matrix of all pairs at every step, by PyTorch's own gradients."""
    chosen, cell, first = group(cell, recipe.cell_cap)
    points, pixels = points.index_select(0, of_pair).index_select(0, chosen), pixels.index_select(0, chosen)
    attending = labels[chosen] if recipe.attention_text == "pair" else labels[chosen][first][cell]
    scores = torch.stack([(points * text[attending]).sum(1), (pixels * text[attending]).sum(1)])
    b, a = attention(scores, cell, len(first), recipe)
    weighted = b[:, None] * points + a[:, None] * pixels
    fused = points.new_zeros(len(first), points.shape[1]).index_add(0, cell, weighted)
    disagreement = 1 - torch.sigmoid((points * fused.index_select(0, cell)).sum(1))
    return reduce(disagreement, len(first), recipe)


@pytest.mark.parametrize("recipe", [PAPER, RELEASED, FIXED])
def test_blocks_give_the_bits_of_plain_operators(recipe):
    torch.manual_seed(0)
    pairs, voxels = 5000, 1700  # five blocks of 128 channels
    points, pixels = torch.randn(voxels, 128) / 8, torch.randn(pairs, 128) / 8
    labels, text = torch.randint(0, 16, (pairs,)), torch.randn(16, 128) / 8
    cell, of_pair = torch.randint(0, 900, (pairs,)), torch.randint(0, voxels, (pairs,))
    losses, gradients = [], []
    for loss in (spatial_temporal_loss, plain_operators):
        leaf = points.clone().requires_grad_()
        losses.append(loss(leaf, pixels, labels, text, cell, recipe, of_pair))
        losses[-1].backward()
        gradients.append(leaf.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*losses)
    assert torch.equal(*gradients)


def test_large_features_do_not_overflow(case):
    points, pixels, *rest = case
    large = (1e3 * points).float().requires_grad_()
    rest = [part.float() if part.is_floating_point() else part for part in rest]
    spatial_temporal_loss(large, pixels.float(), *rest, PAPER).backward()
    assert torch.isfinite(large.grad).all()


def test_group_keeps_the_first_pairs_of_each_cell_in_order():
    chosen, cell, first = group(torch.tensor([4, 1, 4, 4, 1]), cap=2)
    assert chosen.tolist() == [1, 4, 0, 2]
    assert cell.tolist() == [0, 0, 1, 1]
    assert first.tolist() == [0, 2]
