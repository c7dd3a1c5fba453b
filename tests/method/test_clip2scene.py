"""Tests of the whole method: training steps, checkpoints, and refused inputs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from clip2scene.config import parse_config
from clip2scene.errors import InputError
from clip2scene.method import clip2scene
from clip2scene.method.base import Progress, Resources
from clip2scene.method.clip2scene import Clip2Scene
from clip2scene.method.recipe import RECIPES
from clip2scene.method.semantic import divergence, semantic_loss
from clip2scene.method.spatial_temporal import spatial_temporal_loss

CONFIG = parse_config({"datasets": {"any": {"root": "data"}}}, "test")
START = Progress(epoch=0, epochs=20, step=0, seed=0)


class Backbone(nn.Sequential):
    """Stand-in for a sparse network: an MLP on each voxel's features."""

    out_channels = 16

    def __init__(self):
        super().__init__(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, coordinates, features):
        return super().forward(features)


class Teacher(nn.Module):
    """Stand-in for MaskCLIP: values are mean colours of 8 x 8 pixels, and a fixed matrix projects them."""

    value_channels, embed_dim = 3, 6

    def __init__(self):
        super().__init__()
        self.weight = torch.randn(6, 3, 1, 1, generator=torch.Generator().manual_seed(4))

    def values(self, images):
        return nn.functional.avg_pool2d(images.float() / 255 - 0.5, 8)

    def to_joint_space(self, values):
        return nn.functional.normalize(nn.functional.conv2d(values, self.weight), dim=1)


@pytest.fixture
def build(tmp_path, monkeypatch):
    def build(recipe):
        torch.manual_seed(0)
        return Clip2Scene(
            CONFIG, recipe, Backbone(), Resources(tmp_path / "teacher.pt", tmp_path / "text.pt")
        )

    monkeypatch.setattr(clip2scene, "load_maskclip", lambda path, *choices: Teacher())
    text = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    torch.save({"prompts": list("abcd"), "embeddings": nn.functional.normalize(text)}, tmp_path / "text.pt")
    return build


def train(method, batch, steps):
    optimiser = torch.optim.SGD(method.parameters(), lr=0.02, momentum=0.9)
    for _ in range(steps):
        loss = sum(method.training_step(batch, START).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


@pytest.mark.parametrize("recipe", ["paper", "released", "released_scannet", "fixed"])
def test_steps_lower_the_loss_and_train_all_linear_maps_and_the_backbone(build, make_batch, recipe):
    method = build(recipe)
    losses = list(train(method, make_batch(), 20))
    assert losses[-1] < losses[0]
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.parameters())


@pytest.mark.parametrize("recipe", ["paper", "released", "released_scannet", "fixed"])
def test_the_network_learns_what_the_teacher_sees(build, make_batch, recipe):
    method, batch = build(recipe), make_batch()
    *_, _ = train(method, batch, 200)
    pixels = method.teacher.to_joint_space(method.teacher.values(batch.images))
    seen = (method.at_pixels(pixels, batch) @ method.text.T).argmax(dim=1)
    voxels = method.classify(method.backbone(batch.coordinates, batch.features), method.text)
    predicted = voxels[batch.inverse[batch.pair_point]].argmax(dim=1)
    assert (predicted == seen).float().mean() > 0.75  # of four classes; the pixels of some voxels disagree


@pytest.mark.parametrize("recipe", ["paper", "released", "fixed"])
def test_losses_are_those_of_the_pairs_one_by_one(build, make_batch, recipe):
    """Compute both losses from each pair's own voxel and pixel, both normalised except in ``released``."""
    method, batch = build(recipe), make_batch()

    def unit(x):
        return x if recipe == "released" else x / x.norm()

    voxels = method.backbone(batch.coordinates, batch.features)
    maps = Teacher().to_joint_space(Teacher().values(batch.images))
    maps = nn.functional.interpolate(maps, batch.images.shape[-2:], mode="bilinear")
    scores, labels, points, pixels = [], [], [], []
    for point, image, row, column in zip(
        batch.pair_point, batch.pair_image, batch.pair_row, batch.pair_column, strict=True
    ):
        voxel = voxels[batch.inverse[point]]
        pixels.append(unit(maps[image, :, row, column]))
        labels.append((method.text @ pixels[-1]).argmax())
        scores.append(method.text @ unit(method.semantic.weight @ voxel + method.semantic.bias))
        linear = method.spatial_temporal
        points.append(unit(linear.weight @ voxel + linear.bias))
    scores, labels, points, pixels = (torch.stack(rows) for rows in (scores, labels, points, pixels))

    losses = method.training_step(batch, START)
    expected = semantic_loss(scores, labels, RECIPES[recipe])
    torch.testing.assert_close(losses["semantic"], expected, atol=1e-5, rtol=1e-5)
    of_pairs = batch.grid_cell[batch.pair_point]
    expected = spatial_temporal_loss(points, pixels, labels, method.text, of_pairs, RECIPES[recipe])
    torch.testing.assert_close(losses["spatial_temporal"], expected, atol=1e-5, rtol=1e-5)


def test_released_loss_on_scannet_is_a_cosine_with_mapped_values(build, make_batch):
    """Map the whole image linearly, up-sample it, and read it at each pair's pixel; cells play no role."""
    method, batch = build("released_scannet"), make_batch()
    maps = (
        Teacher().values(batch.images).movedim(1, -1) @ method.image_mapping.weight.T
        + method.image_mapping.bias
    )
    size = batch.images.shape[-2:]
    maps = nn.functional.interpolate(maps.movedim(-1, 1), size, mode="bilinear").movedim(1, -1)
    pixels = maps[batch.pair_image, batch.pair_row, batch.pair_column]
    voxels = method.spatial_temporal(method.backbone(batch.coordinates, batch.features))
    points = voxels[batch.inverse[batch.pair_point]]
    cosines = [p @ x / (p.norm() * x.norm()) for p, x in zip(points, pixels, strict=True)]
    loss = method.training_step(batch, START)["spatial_temporal"]
    torch.testing.assert_close(loss, 1 - torch.stack(cosines).mean())


def test_the_same_seed_gives_the_same_weights(build, make_batch):
    runs = []
    for _ in range(2):
        method = build("fixed")
        *_, _ = train(method, make_batch(), 3)
        runs.append(method.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_losses_come_from_different_linear_maps(build, make_batch):
    method = build("paper")
    losses = method.training_step(make_batch(), START)
    (gradient,) = torch.autograd.grad(
        losses["semantic"], method.spatial_temporal.weight, allow_unused=True, retain_graph=True
    )
    assert gradient is None
    (gradient,) = torch.autograd.grad(losses["spatial_temporal"], method.semantic.weight, allow_unused=True)
    assert gradient is None


def test_ablations_leave_a_loss_out_and_still_classify(build, make_batch):
    batch = make_batch()
    for recipe, loss in (("fixed_without_semantic", "spatial_temporal"), ("fixed_baseline", "semantic")):
        method = build(recipe)
        assert list(method.training_step(batch, START)) == [loss]
        assert method.classify(torch.randn(5, 16), torch.randn(7, 6)).shape == (5, 7)


@pytest.mark.parametrize("base", ["paper", "released", "fixed"])
def test_kl_distillation_replaces_both_losses(build, make_batch, base):
    """The targets are MaskCLIP's logits, which are cosines whatever the recipe; nothing switches later."""
    method, batch = build(f"{base}_kl_distillation"), make_batch()
    losses = method.training_step(batch, START)
    assert list(losses) == ["semantic"]
    maps = method.teacher.to_joint_space(method.teacher.values(batch.images))
    pixels = nn.functional.normalize(method.at_pixels(maps, batch), dim=1)
    features = method.backbone(batch.coordinates, batch.features)
    scores = method.classify(features, method.text)[batch.inverse[batch.pair_point]]
    expected = divergence(
        scores, pixels @ method.text.T, RECIPES[base].temperature if base == "fixed" else 1.0
    )
    torch.testing.assert_close(losses["semantic"], expected)
    late = replace(START, epoch=19)
    assert all(
        torch.equal(method.training_step(batch, replace(late, step=step))["semantic"], losses["semantic"])
        for step in range(8)
    )
    *_, last = train(method, batch, 20)
    assert last < losses["semantic"]


def test_self_training_replaces_the_teachers_labels(build, make_batch):
    method, batch = build("fixed_self_training_only"), make_batch()
    before = method.training_step(batch, START)
    after = method.training_step(batch, replace(START, epoch=15))
    assert after["semantic"] < before["semantic"]  # its own predictions have the smallest cross-entropy
    assert torch.equal(after["spatial_temporal"], before["spatial_temporal"])


def test_the_teacher_is_in_no_checkpoint_and_no_optimiser(build):
    method = build("paper").train()
    owned = set(method.state_dict())
    assert owned == {name for name, _ in method.named_parameters()}
    assert {name.partition(".")[0] for name in owned} == {"backbone", "semantic", "spatial_temporal"}
    assert set(method.inherited()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_evaluation_builds_without_the_teacher(tmp_path, build):
    trained = build("fixed")
    evaluated = Clip2Scene(CONFIG, "fixed", Backbone(), Resources(text=tmp_path / "text.pt"))
    evaluated.load_state_dict(trained.state_dict())
    features = torch.randn(5, 16)
    assert torch.equal(evaluated.classify(features, trained.text), trained.classify(features, trained.text))


def test_mixed_precision(build, make_batch):
    method = build("fixed")
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.training_step(make_batch(), START)
    full = method.training_step(make_batch(), START)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(full[name].item(), rel=0.05)


def test_a_batch_without_pairs_is_refused(build, make_batch):
    none = torch.zeros(0, dtype=torch.long)
    batch = replace(make_batch(), pair_point=none, pair_image=none, pair_row=none, pair_column=none)
    with pytest.raises(InputError, match="frame-0, frame-1: no point falls into any image"):
        build("fixed").training_step(batch, START)
