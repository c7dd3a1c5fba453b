from dataclasses import replace

import pytest
import torch
from torch import nn

from clip2scene.config import Config, Optimiser
from clip2scene.errors import InputError
from clip2scene.pairing.batch import Batch
from clip2scene.record import Identity, RunRecord
from clip2scene.seeding import derive, seed_everything
from clip2scene.training import loop
from clip2scene.training.loop import fit, launch, sgd

EPOCHS = 4
NO_INPUT = Identity("pretrain", fields={}, settings={}, code={})


class Killed(BaseException):
    """Raised in place of a signal, which nothing may catch."""


class Net(nn.Module):
    """Everything that a resumed run could get wrong: batch norm, dropout, momentum, draws by step."""

    def __init__(self, kill_at=None, poison_at=None):
        super().__init__()
        self.kill_at, self.poison_at = kill_at, poison_at
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
        self.seen = []

    def training_step(self, batch, progress):
        if progress.step == self.kill_at:
            raise Killed
        self.seen.append((progress.epoch, tuple(batch.ids)))
        target = batch.features * (derive(progress.seed, "weight", progress.step) % 5)
        output = self.layers(batch.features)
        self.dtypes = {batch.points.dtype, output.dtype}
        scale = torch.nan if progress.step == self.poison_at else 0.1
        size = self.layers[0].weight.square().mean()
        return {"fit": (output - target).square().mean(), "size": scale * size}


class Samples:
    """Five samples with noise that depends on the epoch and the index."""

    epoch = 0

    def __init__(self, make_batch):
        self.batch: Batch = make_batch(samples=1)

    def __len__(self):
        return 5

    def __getitem__(self, i):
        noise = torch.Generator().manual_seed(derive(7, "augmentation", self.epoch, i))
        features = self.batch.features + torch.rand(self.batch.features.shape, generator=noise)
        return replace(self.batch, ids=[str(i)], features=features)


def train(folder, make_batch, workers=0, seed=0, precision="32-true", batch_size=2, **net):
    config = Config(datasets={"any": {"root": "data"}}, device="cpu", precision=precision)
    run = RunRecord(folder, "pretrain", seed, NO_INPUT)
    fabric = launch(config, run)
    seed_everything(seed, "initialisation")
    module = Net(**net)
    optimiser = sgd([{"params": list(module.parameters())}], Optimiser(learning_rate=0.2))
    cost = fit(fabric, module, Samples(make_batch), optimiser, run, EPOCHS, batch_size, workers)
    return module, run, cost


def weights(module):
    return torch.cat([value.double().flatten() for value in module.state_dict().values()])


def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, make_batch, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    whole, uninterrupted, _ = train(tmp_path / "whole", make_batch)
    with pytest.raises(Killed):
        train(tmp_path / "killed", make_batch, kill_at=7)  # in the middle of the third epoch
    resumed, run, _ = train(tmp_path / "killed", make_batch)
    assert resumed.seen == whole.seen[6:]  # two epochs of three steps were not taken again
    assert torch.equal(weights(whole), weights(resumed))
    for log in (uninterrupted.logged(), run.logged()):
        assert [line["step"] for line in log] == list(range(12))
    assert [line["loss"] for line in run.logged()] == [line["loss"] for line in uninterrupted.logged()]


def test_weights_depend_on_the_seed_and_not_on_the_loader(tmp_path, make_batch):
    first, _, _ = train(tmp_path / "1", make_batch)
    second, _, _ = train(tmp_path / "2", make_batch, workers=2)
    other, _, _ = train(tmp_path / "3", make_batch, seed=1)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    assert first.seen[0:3] != other.seen[0:3]


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own(tmp_path, make_batch):
    module, _, _ = train(tmp_path, make_batch)
    orders = [sum((ids for at, ids in module.seen if at == epoch), ()) for epoch in range(EPOCHS)]
    assert all(sorted(order) == list("01234") for order in orders)
    assert len(set(orders)) > 1


def test_losses_rates_and_cost_are_recorded(tmp_path, make_batch):
    _, run, cost = train(tmp_path, make_batch)
    first, *_, last = run.logged()
    assert first["loss"] == pytest.approx(first["fit"] + first["size"])
    assert first["learning_rate"] == 0.2
    assert 0 < last["learning_rate"] < 0.2 * 0.02  # the last of 12 steps of a cosine
    assert cost["steps"] == 12
    assert cost["samples_per_second"] > 0
    assert cost["peak_memory_mib"] > 50


def test_a_loss_that_is_not_finite_is_named_with_its_step(tmp_path, make_batch):
    with pytest.raises(InputError, match=r"not finite at step 4 \(epoch 1\): loss=nan, fit=.*, size=nan"):
        train(tmp_path, make_batch, poison_at=4)


def test_mixed_precision_is_for_layers_and_leaves_coordinates_alone(tmp_path, make_batch):
    module, _, _ = train(tmp_path / "mixed", make_batch, precision="bf16-mixed")
    assert module.dtypes == {torch.float32, torch.bfloat16}  # points; what the layers put out
    module, _, _ = train(tmp_path / "true", make_batch)
    assert module.dtypes == {torch.float32}


def test_a_gpu_that_is_not_there_is_an_input_error(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="device: cuda"):
        launch(
            Config(datasets={"any": {"root": "data"}}, device="cuda"),
            RunRecord(tmp_path, "pretrain", 0, NO_INPUT),
        )
