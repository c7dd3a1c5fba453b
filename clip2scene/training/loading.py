"""Batches of a run in an order that its seed decides, from loader processes that live as long as the run."""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clip2scene.errors import InputError
from clip2scene.files import first_line
from clip2scene.machine import refuse_small_shared_memory
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.collate import collate
from clip2scene.seeding import generator
from clip2scene.training import signals


class Samples(Protocol):
    """A map-style data set whose augmentations depend only on its seed, `epoch` and the index."""

    epoch: int

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Batch: ...


class _Epochs(Dataset[Batch]):
    """Samples by epoch and index, so that one loader serves all epochs."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        self.samples.epoch, index = place
        return self.samples[index]


class Order:
    """The samples of every step of a run: a permutation an epoch, drawn from the seed and the epoch.

    All processes together take the same batches as a single process would. The last batch of an epoch may be
    short; it is padded only until every process has the same number of samples.

    Args:
        samples: Number of samples.
        batch_size: Samples a step, summed over all processes.
        seed: Seed of the run.
        fabric: Processes.

    Attributes:
        steps: Steps an epoch.

    Raises:
        InputError: `batch_size` is not a multiple of the number of processes.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, fabric: Fabric) -> None:
        world = fabric.world_size
        if batch_size % world:
            raise InputError(
                f"batch_size: {batch_size}, on {world} processes; expected a multiple of their number"
            )
        self._samples, self._batch_size, self._seed = samples, batch_size, seed
        self._rank, self._world = fabric.global_rank, world
        self._padded = math.ceil(samples / world) * world
        self.steps = math.ceil(self._padded / batch_size)

    def batches(self, first: int, total: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the samples of this process at the steps `first` to `total`, each as epoch and index."""
        for step in range(first, total):
            epoch, number = divmod(step, self.steps)
            if number == 0 or step == first:
                order = np.resize(
                    generator(self._seed, "order", epoch).permutation(self._samples), self._padded
                )
            start = number * self._batch_size
            mine = order[start : start + self._batch_size][self._rank :: self._world]
            yield [(epoch, int(index)) for index in mine]


def load(samples: Samples, order: Order, first: int, total: int, workers: int, pin: bool) -> Iterator[Batch]:
    """Yield the batches of the steps `first` to `total`.

    Args:
        samples: The samples.
        order: Their order.
        first: Number of steps that are done already; their samples are not loaded.
        total: Number of steps of the whole run.
        workers: Loader processes, which live until the last step.
        pin: Put batches into pinned memory, from where a GPU fetches them while it computes.

    Raises:
        InputError: see `loaded`; or shared memory is too small for the loader processes.
    """
    first_batch = next(order.batches(first, total), [])
    refuse_small_shared_memory(workers, lambda: len(first_batch) * batch_bytes(samples[0]))
    loader = DataLoader(
        _Epochs(samples),
        batch_sampler=order.batches(first, total),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=signals.ignore,
    )
    return loaded(loader)


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
    try:
        while (batch := _next(batches, loader.num_workers)) is not None:
            yield batch
    finally:  # now: a traceback that holds a frame of torch's must not keep loader processes alive
        getattr(batches, "_shutdown_workers", lambda: None)()


def _next(batches: Iterator[Batch], workers: int) -> Batch | None:
    """Return a loader's next batch; None at its end. See `loaded` on errors."""
    try:
        return next(batches, None)
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
            f"workers: {workers} loader processes: {first_line(error)}; expected more shared memory "
            "(/dev/shm) and memory, or fewer workers (0 loads in the process itself)"
        ) from None
