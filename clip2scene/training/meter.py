"""Progress bar, step log and final cost of a run."""

import math
import resource
import sys
import time
from collections.abc import Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from clip2scene.errors import InputError
from clip2scene.method.base import Progress
from clip2scene.record import RunRecord
from clip2scene.training.collapse import Collapse

LOGGED = 1000
"""Approximate number of logged steps per run."""
FETCHED = 10
"""Steps whose losses are fetched from the device together."""
FETCHED_SECONDS = 5.0
"""Longest time until losses are fetched, seconds."""


def progress_bar(fabric: Fabric, name: str, unit: str, total: int, done: int = 0) -> tqdm:
    """Return a progress bar on the first process's standard error; in a log file it updates every 10 s."""
    return tqdm(
        desc=name,
        total=total,
        initial=done,
        unit=unit,
        disable=not fabric.is_global_zero,
        mininterval=0.1 if sys.stderr.isatty() else 10,
    )


def refuse_infinite(history: list[dict[str, float]], section: str) -> None:
    """Raise an InputError if the last step's metrics are not finite.

    Args:
        history: Metrics of each step so far.
        section: Section of the configuration that sets the training.
    """
    if not all(map(math.isfinite, history[-1].values())):
        raise InputError(
            f"{section}.training: the loss is not finite at step {len(history) - 1}: {_listed(history[-1])}; "
            "expected a finite one, for which a lower learning rate may help"
        )


def _listed(losses: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in losses.items())


class Meter:
    """Meter of the speed, losses and memory of a run; only the first process writes.

    Losses stay on the device until `FETCHED` steps have gathered or `FETCHED_SECONDS` have passed, so that
    the host runs ahead of the device.

    Args:
        fabric: Device and processes.
        run: Record that steps are logged to.
        steps: Number of steps of the whole run.
        done: Number of steps completed before the run was resumed.
    """

    def __init__(self, fabric: Fabric, run: RunRecord, steps: int, done: int) -> None:
        self._fabric, self._run, self._steps = fabric, run, steps
        self._every = -(-steps // LOGGED)
        self._samples, self._start = 0, time.perf_counter()
        self._fetched = self._start
        self._waiting: list[tuple[dict[str, float], tuple[str, ...], Tensor]] = []
        self._bar = progress_bar(fabric, f"{run.kind} {run.key}", "step", steps, done)
        self._collapse = Collapse(f"{run.kind} {run.key}")
        if done and fabric.is_global_zero:
            for line in run.logged():
                self._collapse.add(line, tell=False)
        if fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(fabric.device)

    def update(
        self,
        progress: Progress,
        samples: int,
        losses: dict[str, Tensor],
        rate: float,
        measured: Mapping[str, float] | None = None,
    ) -> None:
        """Count a step; about `LOGGED` steps of a run are logged.

        Args:
            progress: The step.
            samples: Samples of the step on this process.
            losses: Scalar losses on this process; their means over all processes are logged.
            rate: Learning rate.
            measured: More numbers to log, of a validation. A step that has some is always logged.

        Raises:
            InputError: a loss of one of the last `FETCHED` steps is not finite.
        """
        self._samples += samples * self._fabric.world_size
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if self._fabric.world_size > 1:
            values = self._fabric.all_reduce(values, reduce_op="mean")
        state = {"step": progress.step, "epoch": progress.epoch, "learning_rate": rate, **(measured or {})}
        self._waiting.append((state, tuple(losses), values))
        due = len(self._waiting) >= FETCHED or time.perf_counter() - self._fetched >= FETCHED_SECONDS
        if due or measured or progress.step + 1 == self._steps:
            self.flush()

    def flush(self) -> None:
        """Fetch the losses that are still on the device, and log them.

        Raises:
            InputError: one is not finite; the message names the first such step and its losses.
        """
        if not self._waiting:
            return
        fetched = iter(torch.cat([values for _, _, values in self._waiting]).tolist())
        for state, names, _ in self._waiting:
            losses = {name: next(fetched) for name in names}
            losses = {"loss": sum(losses.values()), **losses}
            if not all(map(math.isfinite, losses.values())):
                raise InputError(
                    f"{self._run.folder}: the loss is not finite at step {state['step']} (epoch "
                    f"{state['epoch']}): {_listed(losses)}; a lower learning rate may help"
                )
            self._log(state, losses)
        self._bar.update(len(self._waiting))
        self._bar.set_postfix(
            loss=f"{losses['loss']:.3f}", samples_per_s=f"{self._speed():.1f}", refresh=False
        )
        self._waiting.clear()
        self._fetched = time.perf_counter()

    def _log(self, state: dict[str, float], losses: dict[str, float]) -> None:
        step = state["step"]
        wanted = step % self._every == 0 or step + 1 == self._steps or "validation_miou" in state
        if self._fabric.is_global_zero and wanted:
            line = {**state, "samples_per_second": self._speed(), **losses}
            self._run.log(line)
            self._collapse.add(line)

    def close(self) -> dict[str, float]:
        """Return the cost: steps, seconds, samples per second, peak memory in MiB (GPU; resident on a CPU).

        Memory is that of this process, samples per second that of all processes. Of a run that was resumed,
        the seconds are those since.
        """
        self._bar.close()
        if self._fabric.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self._fabric.device) / 2**20
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux
        seconds = time.perf_counter() - self._start
        return {
            "steps": self._steps,
            "seconds": round(seconds, 3),
            "samples_per_second": round(self._speed(), 3),
            "peak_memory_mib": round(memory, 1),
        }

    def _speed(self) -> float:
        return self._samples / (time.perf_counter() - self._start)
