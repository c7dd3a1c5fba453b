import math
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clip2scene.config import Config, Optimiser
from clip2scene.errors import InputError
from clip2scene.pairing.batch import Batch
from clip2scene.record import Identity, RunRecord
from clip2scene.seeding import derive, seed_everything
from clip2scene.training import meter, precision
from clip2scene.training.collapse import WINDOW, Collapse
from clip2scene.training.loop import fit, launch, sgd
from clip2scene.training.signals import RETRY
from clip2scene.training.validation import Validation

EPOCHS = 4
CONFIG = Config(datasets={"any": {"root": "data"}}, device="cpu", arithmetic="native")
NO_INPUT = Identity("pretrain", fields={}, settings={}, code={})


class Killed(BaseException):
    """Raised in place of a signal, which nothing may catch."""


class Net(nn.Module):
    """Everything that a resumed run could get wrong: batch norm, dropout, momentum, draws by step."""

    def __init__(self, kill_at=None, poison_at=None, kill=None):
        super().__init__()
        self.kill_at, self.poison_at, self.kill = kill_at, poison_at, kill
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
        self.seen = []

    def training_step(self, batch, progress):
        if progress.step == self.kill_at:
            if self.kill is None:
                raise Killed
            os.kill(os.getpid(), self.kill)
        self.seen.append((progress.epoch, tuple(batch.ids)))
        target = batch.features * (derive(progress.seed, "weight", progress.step) % 5)
        output = self.layers(batch.features)
        self.dtypes = {batch.points.dtype, output.dtype}
        scale = torch.nan if progress.step == self.poison_at else 0.1
        size = self.layers[0].weight.square().mean()
        return {"fit": (output - target).square().mean(), "size": scale * size}

    def score(self, batch):
        self.modes = getattr(self, "modes", set()) | {self.training}
        torch.rand(3)  # a validation that draws numbers changes nothing either
        return self.layers(batch.features)[:, 1:]


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


class Labelled(Samples):
    """Samples with labels of two classes."""

    dataset = SimpleNamespace(classes=("a", "b"))

    def __getitem__(self, i):
        batch = super().__getitem__(i)
        return replace(batch, labels=batch.inverse % 3)


def train(
    folder, make_batch, workers=0, seed=0, precision="32-true", batch_size=2, minutes=0, validate=0,
    schedule="step", **net,
):  # fmt: skip
    """Train a Net; by default, its state is saved after every step."""
    config = CONFIG.model_copy(update={"precision": precision})
    run = RunRecord(folder, "pretrain", seed, NO_INPUT)
    fabric = launch(config, run)
    seed_everything(seed, "initialisation")
    module = Net(**net)
    optimiser = sgd([{"params": list(module.parameters())}], Optimiser(learning_rate=0.2))
    cost = fit(
        fabric,
        module,
        Samples(make_batch),
        optimiser,
        run,
        EPOCHS,
        batch_size,
        workers,
        schedule,
        minutes,
        Validation(fabric, module, module.score, Labelled(make_batch), validate) if validate else None,
    )
    return module, run, cost


def weights(module):
    return torch.cat([value.double().flatten() for value in module.state_dict().values()])


@pytest.fixture
def whole(tmp_path_factory, make_batch):
    """A run that was left alone."""
    return train(tmp_path_factory.mktemp("whole"), make_batch)


def same_log(run, whole):
    """Say whether a run logged what a run that was left alone did, times apart."""
    names = ("step", "epoch", "learning_rate", "loss", "fit", "size")
    first, second = ([[line[name] for name in names] for line in each.logged()] for each in (run, whole))
    return first == second


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kill_at", [1, 7])  # of three steps an epoch: always in the middle of one
def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, make_batch, whole, kill_at, workers):
    module, uninterrupted, _ = whole
    with pytest.raises(Killed):
        train(tmp_path, make_batch, workers, kill_at=kill_at)
    resumed, run, _ = train(tmp_path, make_batch, 2 - workers)
    assert resumed.seen == module.seen[kill_at:]  # no step was taken again
    assert torch.equal(weights(module), weights(resumed))
    assert same_log(run, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_is_asked_to_stop_saves_first(tmp_path, make_batch, whole, number, workers, capsys):
    module, uninterrupted, _ = whole
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, make_batch, workers, minutes=60, kill_at=7, kill=number)
    assert ended.value.code == RETRY == os.EX_TEMPFAIL
    assert f"stopped by {number.name} after step 8 of 12, which is saved" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    resumed, run, _ = train(tmp_path, make_batch)
    assert resumed.seen == module.seen[8:]
    assert torch.equal(weights(module), weights(resumed))
    assert same_log(run, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_of_a_run_ends_no_loader_process(tmp_path, make_batch, number):
    """A cluster signals every process of a job; torch's loader would end the run for a worker that died."""

    class Group(Net):
        def training_step(self, batch, progress):
            if progress.step == 5:
                children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
                assert len(children) >= 2
                for process in children:
                    os.kill(int(process), number)
            return super().training_step(batch, progress)

    run = RunRecord(tmp_path, "pretrain", 0, NO_INPUT)
    fabric, module = launch(CONFIG, run), Group()
    optimiser = sgd([{"params": list(module.parameters())}], Optimiser())
    fit(fabric, module, Samples(make_batch), optimiser, run, EPOCHS, 2, workers=2)
    assert len(module.seen) == 12


def test_an_error_ends_the_loader_processes(tmp_path, make_batch):
    """They ignore the signal by which Python would end them when it exits, and would wait for ever."""

    class Faulty(Samples):
        def __getitem__(self, i):
            raise ZeroDivisionError

    run = RunRecord(tmp_path, "pretrain", 0, NO_INPUT)
    fabric, module = launch(CONFIG, run), Net()
    optimiser = sgd([{"params": list(module.parameters())}], Optimiser())
    with pytest.raises(ZeroDivisionError):
        fit(fabric, module, Faulty(make_batch), optimiser, run, EPOCHS, 2, workers=2)
    assert multiprocessing.active_children() == []
    with pytest.raises(Killed):
        train(tmp_path, make_batch, workers=2, kill_at=4)
    assert multiprocessing.active_children() == []


def test_the_state_before_is_used_where_the_newest_is_damaged(tmp_path, make_batch, whole, capsys):
    module, uninterrupted, _ = whole
    with pytest.raises(Killed):
        train(tmp_path, make_batch, kill_at=7)
    content = bytearray((tmp_path / "resume.pt").read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    (tmp_path / "resume.pt").write_bytes(content)
    resumed, run, _ = train(tmp_path, make_batch)
    assert "resume.pt: is damaged" in (said := capsys.readouterr().err)
    assert "continuing after step 6, from resume.before.pt" in said
    assert resumed.seen == module.seen[6:]
    assert torch.equal(weights(module), weights(resumed))
    assert same_log(run, uninterrupted)


def test_a_run_without_a_whole_state_starts_again_and_says_so(tmp_path, make_batch, whole, capsys):
    with pytest.raises(Killed):
        train(tmp_path, make_batch, kill_at=7)
    for name in ("resume.pt", "resume.before.pt"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    resumed, _, _ = train(tmp_path, make_batch)
    assert "; the run starts again" in capsys.readouterr().err
    assert torch.equal(weights(whole[0]), weights(resumed))


def test_a_run_killed_between_two_renames_continues_from_the_state_before(tmp_path, make_batch, whole):
    with pytest.raises(Killed):
        train(tmp_path, make_batch, kill_at=7)
    (tmp_path / "resume.pt").unlink()
    resumed, _, _ = train(tmp_path, make_batch)
    assert len(resumed.seen) == 6
    assert torch.equal(weights(whole[0]), weights(resumed))


def test_states_are_saved_by_time(tmp_path, make_batch):
    with pytest.raises(Killed):
        train(tmp_path, make_batch, minutes=10, kill_at=7)
    assert not (tmp_path / "resume.pt").exists()


def test_validation_is_logged_and_changes_no_weight(tmp_path, make_batch, whole):
    module, run, _ = train(tmp_path, make_batch, validate=5)
    assert torch.equal(weights(whole[0]), weights(module))
    measured = {line["step"]: line["validation_miou"] for line in run.logged() if "validation_miou" in line}
    assert measured.keys() == {4, 9}
    assert all(0 <= miou <= 1 for miou in measured.values())
    assert module.modes == {False}


def test_the_cosine_moves_once_an_epoch_if_asked(tmp_path, make_batch):
    _, run, _ = train(tmp_path, make_batch, schedule="epoch")
    rates = [line["learning_rate"] for line in run.logged()]
    expected = [0.1 * (1 + math.cos(math.pi * epoch / EPOCHS)) for epoch in range(EPOCHS)]
    assert rates == pytest.approx([rate for rate in expected for _ in range(3)])


def test_losses_are_fetched_every_few_steps(tmp_path, make_batch, monkeypatch):
    """A step that waits for the device leaves it idle while the next one is prepared."""
    fetched = []
    real = meter.Meter.flush
    monkeypatch.setattr(meter, "FETCHED_SECONDS", 60)
    monkeypatch.setattr(meter.Meter, "flush", lambda self: (fetched.append(len(self._waiting)), real(self)))
    train(tmp_path, make_batch, minutes=60)
    assert fetched == [10, 2]


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


def test_a_loss_that_is_not_finite_is_never_saved(tmp_path, make_batch):
    with pytest.raises(InputError, match="not finite at step 4"):
        train(tmp_path, make_batch, poison_at=4)
    resumed, _, _ = train(tmp_path, make_batch)
    assert len(resumed.seen) == 12 - 4


def line(step, loss, **more):
    return {"step": step, "loss": loss, **more}


def test_a_loss_that_collapses_is_said_once(capsys):
    collapse = Collapse("pretrain abc")
    losses = [2.0] * WINDOW + [1.0] * WINDOW + [9.0] * WINDOW + [1.0] * WINDOW + [9.0] * WINDOW
    for step, loss in enumerate(losses):
        collapse.add(line(step, loss))
    first, second = capsys.readouterr().err.splitlines()
    # the mean of the last 20 is above 2 for the first time with three of 9 and 17 of 1
    assert first == (
        f"warning: pretrain abc: the loss has risen by step {2 * WINDOW + 2}: its mean is 2.2, after 2 at "
        "first and 1 at best"
    )
    assert f"by step {4 * WINDOW + 2}" in second


def test_a_loss_that_moves_as_losses_do_is_not_a_collapse(capsys):
    collapse = Collapse("pretrain abc")
    noise = torch.rand(1000, generator=torch.Generator().manual_seed(0)).tolist()
    for step in range(1000):  # self-training starts in the middle
        collapse.add(line(step, 4 * 0.997**step + noise[step] + (0.5 if step > 500 else 0)))
    assert capsys.readouterr().err == ""


def test_a_miou_that_collapses_is_said_at_once(capsys):
    collapse = Collapse("finetune abc")
    for step, miou in enumerate([0.1, 0.4, 0.3, 0.19, 0.1]):
        collapse.add(line(step, 1.0, validation_miou=miou))
    (said,) = capsys.readouterr().err.splitlines()
    assert said == "warning: finetune abc: the mIoU has fallen at step 3: 19.0 %, after 40.0 % at best"


def test_a_processor_without_bf16_is_warned_of(tmp_path, make_batch, monkeypatch, capsys):
    for has, warned in ((True, False), (False, True)):
        monkeypatch.setattr(precision, "has_bf16", lambda gpu, has=has: has)
        train(tmp_path / str(has), make_batch, precision="bf16-mixed")
        assert ("this CPU has no bf16 instructions" in capsys.readouterr().err) == warned


def test_another_number_of_processes_than_configured_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="processes: 2, but 1 were started; .*--nproc-per-node 2"):
        launch(
            CONFIG.model_copy(update={"processes": 2}),
            RunRecord(tmp_path, "pretrain", 0, NO_INPUT),
        )


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
            CONFIG.model_copy(update={"device": "cuda"}),
            RunRecord(tmp_path, "pretrain", 0, NO_INPUT),
        )
