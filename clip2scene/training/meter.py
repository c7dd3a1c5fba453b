"""Progress bar, step log and final cost of a run."""

import math
import resource
import sys
import time

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from clip2scene.errors import InputError
from clip2scene.record import RunRecord

LOGGED = 1000
"""Approximate number of logged steps per run."""


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
        listed = ", ".join(f"{name}={value:.4g}" for name, value in history[-1].items())
        raise InputError(
            f"{section}.training: the loss is not finite at step {len(history) - 1}: {listed}; expected a "
            "finite one, for which a lower learning rate may help"
        )


class Meter:
    """Meter of the speed and memory of a run; only the first process writes.

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
        self._bar = progress_bar(fabric, f"{run.kind} {run.key}", "step", steps, done)
        if fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(fabric.device)

    def update(self, step: int, epoch: int, samples: int, losses: dict[str, float], rate: float) -> None:
        """Count a step with `samples` samples on this process; every `steps` / `LOGGED`-th step is logged."""
        self._samples += samples * self._fabric.world_size
        self._bar.update()
        self._bar.set_postfix(
            loss=f"{losses['loss']:.3f}", samples_per_s=f"{self._speed():.1f}", refresh=False
        )
        if self._fabric.is_global_zero and (step % self._every == 0 or step + 1 == self._steps):
            state = {"step": step, "epoch": epoch, "learning_rate": rate, "samples_per_second": self._speed()}
            self._run.log(state | losses)

    def close(self) -> dict[str, float]:
        """Return the cost: steps, seconds, samples per second, peak memory in MiB (GPU; resident on a CPU).

        Memory is that of this process, samples per second that of all processes.
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
