"""PPKT and SLidR as methods, with a tiny image encoder."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.ppkt import PPKT
from baselines.slidr import SLidR
from clip2scene.config import parse_config
from clip2scene.errors import InputError
from clip2scene.method.base import Progress, Resources
from clip2scene.models.image_encoder import build_encoder

CONFIG = parse_config({"datasets": {"any": {"root": "data"}}}, "test")
START = Progress(epoch=0, epochs=20, step=0, seed=0)


class Backbone(nn.Sequential):
    """Stand-in for a sparse network: an MLP on each voxel's features."""

    out_channels = 16

    def forward(self, coordinates, features):
        return super().forward(features)


@pytest.fixture(params=[PPKT, SLidR])
def build(request, tmp_path):
    def build(encoder=tmp_path / "encoder.pt"):
        torch.manual_seed(0)
        backbone = Backbone(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 16))
        return request.param(CONFIG, "", backbone, Resources(encoder=encoder))

    torch.manual_seed(1)
    state = build_encoder("embedded").state_dict()
    torch.save({"architecture": "embedded", "state_dict": state}, tmp_path / "encoder.pt")
    return build


def test_steps_lower_the_loss_and_train_backbone_linear_map_and_decoder(build, make_batch):
    method, batch = build().train(), make_batch()
    encoder = [weight.clone() for weight in method.pixels.encoder.encoder.network.state_dict().values()]
    optimiser = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = sum(method.training_step(batch, START).values())
        optimiser.zero_grad()
        loss.backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in method.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.03
    after = method.pixels.encoder.encoder.network.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(encoder, after, strict=True))


def test_checkpoints_hold_what_is_trained(build):
    names = {name.rpartition(".")[0] for name in build().state_dict()}
    assert names == {"backbone.0", "backbone.2", "linear", "pixels.decoder"}


def test_mixed_precision(build, make_batch):
    method = build()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.training_step(make_batch(), START)["contrast"]
    assert loss.item() == pytest.approx(
        method.training_step(make_batch(), START)["contrast"].item(), rel=0.05
    )


def test_refusals(build, make_batch):
    none = torch.zeros(0, dtype=torch.long)
    batch = replace(make_batch(), pair_point=none, pair_image=none, pair_row=none, pair_column=none)
    with pytest.raises(InputError, match="frame-0, frame-1: no point falls into any image"):
        build().training_step(batch, START)
    with pytest.raises(InputError, match="no text alignment"):
        build(encoder=None).classify(torch.zeros(1, 16), torch.zeros(2, 8))


@pytest.mark.parametrize("build", [PPKT], indirect=True)
def test_ppkt_draws_other_pairs_at_every_step(build, make_batch):
    method, batch = build(), make_batch()
    method.pairs = 10
    losses = [method.training_step(batch, replace(START, step=step))["contrast"].item() for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
