"""Training loop of all pre-training methods and protocols.

A run is a function of its seed. The order of an epoch, its augmentations and the random numbers of a step
come from streams named by epoch or step, independent of earlier draws. A run that was killed therefore
resumes from its last saved epoch and ends with the same weights, bit for bit (on one device, at a fixed
number of threads), for any number of loader workers.
"""

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from clip2scene.config import Config, Optimiser
from clip2scene.errors import InputError
from clip2scene.files import first_line
from clip2scene.machine import gpu_nodes, refuse_small_shared_memory
from clip2scene.method.base import Progress
from clip2scene.models.weights import keys, load_weights, read_checkpoint, write_checkpoint
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.collate import collate
from clip2scene.record import RunRecord
from clip2scene.seeding import generator, seed_everything
from clip2scene.training.meter import Meter

SAVE_SECONDS = 5.0
"""Minimum time between two saved states, seconds: after short epochs, not every epoch is saved."""


class Samples(Protocol):
    """A map-style data set whose augmentations depend only on its seed, `epoch` and the index."""

    epoch: int

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Batch: ...


def launch(config: Config, run: RunRecord) -> Fabric:
    """Start a run on the configured device and precision; under torchrun, DDP with one process per device.

    Raises:
        InputError: the configuration asks for a GPU and there is none.
    """
    torch.set_num_threads(config.threads)
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
) -> dict[str, float]:
    """Train `module`; a run that was killed resumes after the last epoch it saved.

    Args:
        fabric: Device and precision.
        module: Module with ``training_step(batch, progress) -> {name: scalar loss}``, as
            `clip2scene.method.base.Method`. The sum of the losses is minimised. The module is moved to the
            device and trained in place.
        samples: Training samples.
        optimiser: Optimiser whose learning rates start a cosine schedule that falls to 0 over all steps.
            (SLidR and CLIP2Scene step the same curve once per epoch, which is coarse if epochs are few.)
        run: Record of the run, which also holds its seed.
        epochs: Number of passes over `samples`.
        batch_size: Samples per step, summed over all processes.
        workers: Number of loader processes.

    Returns:
        Cost of the run, see `clip2scene.training.meter.Meter.close`.

    Raises:
        InputError: a loss is not finite (the message names the step and the losses), or `batch_size` is not
            a multiple of the number of processes.
    """
    model, _ = fabric.setup(_Step(module), optimiser)
    first = _resume(fabric, module, optimiser, run)
    steps = len(_batches(len(samples), batch_size, run.seed, 0, fabric))
    refuse_small_shared_memory(workers, lambda: batch_size * batch_bytes(samples[0]))
    meter, saved = Meter(fabric, run, epochs * steps, first * steps), time.monotonic()
    for epoch in range(first, epochs):
        seed_everything(run.seed, "training", epoch, fabric.global_rank)
        module.train()
        samples.epoch = epoch
        batches = _batches(len(samples), batch_size, run.seed, epoch, fabric)
        loader = DataLoader(samples, batch_sampler=batches, collate_fn=collate, num_workers=workers)
        for step, batch in enumerate(loaded(loader), start=epoch * steps):
            rate = _schedule(optimiser, step / (epochs * steps))
            progress = Progress(epoch, epochs, step, run.seed)
            losses = model(SimpleNamespace(batch=batch.to(fabric.device), progress=progress))
            loss = sum(losses.values())
            values = _finite({"loss": loss, **losses}, run, progress)
            optimiser.zero_grad()
            fabric.backward(loss)
            optimiser.step()
            meter.update(step, epoch, len(batch.ids), values, rate)
        due = time.monotonic() - saved >= SAVE_SECONDS or epoch + 1 == epochs
        if due and fabric.is_global_zero:
            _save(module, optimiser, run, epoch + 1)
            saved = time.monotonic()
    fabric.barrier()
    if fabric.world_size > 1:  # batch norm statistics differ between processes: use the first's
        _resume(fabric, module, optimiser, run)
    return meter.close()


def batch_bytes(batch: Batch) -> int:
    """Return the bytes of a batch's tensors: what a loader process hands over in shared memory."""
    return sum(value.nbytes for value in vars(batch).values() if isinstance(value, Tensor))


def loaded(loader: DataLoader) -> Iterator[Batch]:
    """Yield a loader's batches.

    Raises:
        InputError: a sample is bad, or a loader process was killed: by a full shared memory, or for want of
            memory.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (InputError, OSError) as error:
            # torch puts the traceback of a loader process into the message
            if "in DataLoader worker process" not in str(error):
                raise
            last = str(error).rpartition(f"{type(error).__name__}: ")[2]
            raise InputError(last.strip()) from None
        except RuntimeError as error:
            killed = ("DataLoader worker (pid", "unable to write to file", "unable to allocate shared memory")
            if not any(phrase in str(error) for phrase in killed):
                raise
            raise InputError(
                f"workers: {loader.num_workers} loader processes: {first_line(error)}; expected more shared "
                "memory (/dev/shm) and memory, or fewer workers (0 loads in the process itself)"
            ) from None
        yield batch


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


def _batches(samples: int, batch_size: int, seed: int, epoch: int, fabric: Fabric) -> list[list[int]]:
    """Return the sample indices of each batch of an epoch for this process.

    All processes together take the same batches as a single process would. The last batch may be short; it
    is padded only until every process has the same number of samples.
    """
    world = fabric.world_size
    if batch_size % world:
        raise InputError(
            f"batch_size: {batch_size}, on {world} processes; expected a multiple of their number"
        )
    order = generator(seed, "order", epoch).permutation(samples)
    order = np.resize(order, math.ceil(samples / world) * world)
    return [
        order[start : start + batch_size][fabric.global_rank :: world].tolist()
        for start in range(0, len(order), batch_size)
    ]


def _schedule(optimiser: Optimizer, done: float) -> float:
    """Set the learning rate of every group after a share `done` of all steps; returns the first group's."""
    for group in optimiser.param_groups:
        initial = group.setdefault("initial_lr", group["lr"])
        group["lr"] = initial * (1 + math.cos(math.pi * done)) / 2
    return optimiser.param_groups[0]["lr"]


def _finite(losses: dict[str, Tensor], run: RunRecord, progress: Progress) -> dict[str, float]:
    """Convert the losses to numbers.

    Raises:
        InputError: a loss is not finite.
    """
    values = {name: loss.item() for name, loss in losses.items()}
    if not all(map(math.isfinite, values.values())):
        listed = ", ".join(f"{name}={value:.4g}" for name, value in values.items())
        raise InputError(
            f"{run.folder}: the loss is not finite at step {progress.step} (epoch {progress.epoch}): "
            f"{listed}; a lower learning rate may help"
        )
    return values


def _save(module: nn.Module, optimiser: Optimizer, run: RunRecord, epochs: int) -> None:
    """Save the state of the run after `epochs` epochs; random streams have no state to save."""
    state = {
        "epochs": epochs,
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "log_size": run.log_size(),
    }
    write_checkpoint(run.resume, state)


def _resume(fabric: Fabric, module: nn.Module, optimiser: Optimizer, run: RunRecord) -> int:
    """Restore the saved state of the run, if there is one; returns the number of completed epochs."""
    state = _saved(run.resume) if run.resume.exists() else {"epochs": 0, "log_size": 0}
    if state["epochs"]:
        try:
            load_weights(module, state["module"], run.resume)
            optimiser.load_state_dict(state["optimiser"])
        except InputError as error:
            raise InputError(f"{error} ({_AGAIN})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = first_line(error)
            raise InputError(f"{run.resume}: optimiser does not fit the run: {reason} ({_AGAIN})") from None
    if fabric.is_global_zero:
        run.rewind_log(state["log_size"])
    return state["epochs"]


_AGAIN = "remove the file, and the run starts again"


def _saved(path: Path) -> dict[str, Any]:
    """Read the state that `_save` wrote.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    try:
        state = read_checkpoint(path)
    except InputError as error:
        raise InputError(f"{error} ({_AGAIN})") from None
    kinds = {"epochs": int, "module": dict, "optimiser": dict, "log_size": int}
    for name, kind in kinds.items():
        value = state.get(name)
        if not isinstance(value, kind) or (kind is int and value < 0):
            raise InputError(f"{path}: found {keys(state)}; expected a run's state with {name} ({_AGAIN})")
    return state
