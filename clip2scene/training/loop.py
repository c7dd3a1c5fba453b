"""Training loop of all pre-training methods and protocols.

A run is a function of its seed. The samples of a step, their augmentations and its random numbers come from
streams named by epoch or step, independent of earlier draws. A run that was killed therefore continues after
the last step that it saved, in the middle of an epoch too, and ends with the same weights, bit for bit (on
one device; with native arithmetic, at a fixed number of threads), for any number of loader workers.
"""

import math
import os
import sys
from contextlib import closing
from types import SimpleNamespace
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from clip2scene.config import Config, Optimiser
from clip2scene.errors import InputError
from clip2scene.machine import gpu_nodes
from clip2scene.method.base import Progress
from clip2scene.portable.operators import begin
from clip2scene.record import RunRecord
from clip2scene.seeding import seed_everything
from clip2scene.training import signals
from clip2scene.training.loading import Order, Samples, load
from clip2scene.training.meter import Meter
from clip2scene.training.precision import repeat_bits, set_precision
from clip2scene.training.state import State
from clip2scene.training.validation import Validation


def launch(config: Config, run: RunRecord) -> Fabric:
    """Start a run on the configured device and precision; under torchrun, DDP with one process per device.

    Raises:
        InputError: the configuration asks for a GPU and there is none, or for another number of processes
            than were started.
    """
    begin(config)
    gpu = config.device != "cpu" and torch.cuda.is_available()
    if config.device == "cuda" and not gpu:
        raise InputError("device: cuda, but torch finds no GPU; expected auto or cpu")
    if config.device == "auto":
        nodes = (
            "" if gpu or not gpu_nodes() else f", though this machine has {len(gpu_nodes())} NVIDIA devices"
        )
        found = f"found {torch.cuda.get_device_name()}" if gpu else f"finds no GPU{nodes}"
        print(f"device: auto: computing on {'cuda' if gpu else 'cpu'}, as torch {found}", file=sys.stderr)
    local, world = (int(os.environ.get(name, 1)) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if world != config.processes:
        raise InputError(
            f"processes: {config.processes}, but {world} were started; expected as many (torchrun "
            f"--standalone --nproc-per-node {config.processes} -m clip2scene run ...)"
        )
    set_precision(config, gpu)
    if gpu:
        repeat_bits()
    fabric = Fabric(
        accelerator="cuda" if gpu else "cpu",
        devices=local,
        num_nodes=world // local,
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        precision=config.precision,
    )
    fabric.launch()
    if fabric.is_global_zero:
        run.begin(config, str(fabric.device))
    fabric.barrier()
    return fabric


def fit(
    fabric: Fabric,
    module: nn.Module,
    samples: Samples,
    optimiser: Optimizer,
    run: RunRecord,
    epochs: int,
    batch_size: int,
    workers: int = 0,
    schedule: Literal["step", "epoch"] = "step",
    checkpoint_minutes: float = 10,
    validation: Validation | None = None,
) -> dict[str, float]:
    """Train `module`; a run that was killed continues after the last step it saved.

    Args:
        fabric: Device and precision.
        module: Module with ``training_step(batch, progress) -> {name: scalar loss}``, as
            `clip2scene.method.base.Method`. The sum of the losses is minimised. The module is moved to the
            device and trained in place.
        samples: Training samples.
        optimiser: Optimiser whose learning rates start a cosine schedule that falls to 0 over all steps.
        run: Record of the run, which also holds its seed.
        epochs: Number of passes over `samples`.
        batch_size: Samples per step, summed over all processes.
        workers: Number of loader processes.
        schedule: Move along the cosine at every step or, as the codes of SLidR and CLIP2Scene do, once an
            epoch, which is coarse if epochs are few.
        checkpoint_minutes: Time between two saved states.
        validation: Measures the network on the way, if given; changes no weights.

    Returns:
        Cost of the run, see `clip2scene.training.meter.Meter.close`.

    Raises:
        InputError: a loss is not finite (the message names the step and the losses), or `batch_size` is not
            a multiple of the number of processes.
        SystemExit: the process was asked to stop (`clip2scene.training.signals`); the state is saved.
    """
    model, _ = fabric.setup(_Step(module), optimiser)
    order = Order(len(samples), batch_size, run.seed, fabric)
    total = epochs * order.steps
    state = State(fabric, run, module, optimiser, checkpoint_minutes)
    first = state.restore()
    state.refuse_full_disk()
    meter = Meter(fabric, run, total, first)
    module.train()
    pin = fabric.device.type == "cuda"
    with (
        signals.noticing() as came,
        closing(load(samples, order, first, total, workers, pin)) as batches,
    ):
        for step, batch in enumerate(batches, start=first):
            progress = Progress(step // order.steps, epochs, step, run.seed)
            seed_everything(run.seed, "training", step, fabric.global_rank)
            done = step / total if schedule == "step" else progress.epoch / epochs
            rate = _set_rates(optimiser, done)
            losses = model(SimpleNamespace(batch=batch.to(fabric.device), progress=progress))
            optimiser.zero_grad()
            fabric.backward(sum(losses.values()))
            optimiser.step()
            measured = validation.after(step + 1) if validation else {}
            meter.update(progress, len(batch.ids), losses, rate, measured)
            if fabric.is_global_zero and (came or state.due()) and step + 1 < total:
                meter.flush()
                state.save(step + 1)
                if came:
                    signals.stop(f"{run.kind} {run.key}", came[0], step + 1, total)
    fabric.barrier()
    return meter.close()


def sgd(groups: list[dict[str, Any]], settings: Optimiser) -> torch.optim.SGD:
    """Return SGD as configured; a parameter group may set its own learning rate."""
    return torch.optim.SGD(
        groups, settings.learning_rate, settings.momentum, settings.dampening, settings.weight_decay
    )


class _Step(nn.Module):
    """A training step as a forward pass, so that mixed precision and DDP apply to it.

    The arguments are wrapped in a namespace because Fabric casts every float tensor that it finds in the
    arguments to bfloat16, and the points of a batch are coordinates in metres.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, arguments: SimpleNamespace) -> dict[str, Tensor]:
        return self.module.training_step(arguments.batch, arguments.progress)


def _set_rates(optimiser: Optimizer, done: float) -> float:
    """Set learning rates after a share `done` of a cosine schedule; returns that of the first group."""
    for group in optimiser.param_groups:
        initial = group.setdefault("initial_lr", group["lr"])
        group["lr"] = initial * (1 + math.cos(math.pi * done)) / 2
    return optimiser.param_groups[0]["lr"]
