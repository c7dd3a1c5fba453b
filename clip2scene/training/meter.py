"""How fast a run trains and what it takes: the progress bar, the logged steps, the final cost."""

import resource
import sys
import time

import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from clip2scene.training.record import RunRecord

LOGGED = 1000
"""About how many steps of a run are logged."""


def progress_bar(fabric: Fabric, name: str, unit: str, total: int, done: int = 0) -> tqdm:
    """A progress bar on the first process's standard error; a log file gets a line every ten seconds."""
    return tqdm(
        desc=name,
        total=total,
        initial=done,
        unit=unit,
        disable=not fabric.is_global_zero,
        mininterval=0.1 if sys.stderr.isatty() else 10,
    )


class Meter:
    """Follows a run step by step; writes on the first process only.

    Args:
        fabric: Device and processes.
        run: Where steps are logged.
        steps: Steps of the whole run.
        done: Steps taken before the run was killed and continued.
    """

    def __init__(self, fabric: Fabric, run: RunRecord, steps: int, done: int) -> None:
        self._fabric, self._run, self._steps = fabric, run, steps
        self._every = -(-steps // LOGGED)
        self._samples, self._start = 0, time.perf_counter()
        self._bar = progress_bar(fabric, f"{run.kind} {run.key}", "step", steps, done)
        if fabric.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(fabric.device)

    def update(self, step: int, epoch: int, samples: int, losses: dict[str, float], rate: float) -> None:
        """Count a step of `samples` samples; log it if its turn has come."""
        self._samples += samples * self._fabric.world_size
        self._bar.update()
        self._bar.set_postfix(
            loss=f"{losses['loss']:.3f}", samples_per_s=f"{self._speed():.1f}", refresh=False
        )
        if self._fabric.is_global_zero and (step % self._every == 0 or step + 1 == self._steps):
            state = {"step": step, "epoch": epoch, "learning_rate": rate, "samples_per_second": self._speed()}
            self._run.log(state | losses)

    def close(self) -> dict[str, float]:
        """What this process took: seconds, samples a second, peak memory in MiB (of the GPU, or resident)."""
        self._bar.close()
        if self._fabric.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self._fabric.device) / 2**20
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts in KiB
        seconds = time.perf_counter() - self._start
        return {
            "steps": self._steps,
            "seconds": round(seconds, 3),
            "samples_per_second": round(self._speed(), 3),
            "peak_memory_mib": round(memory, 1),
        }

    def _speed(self) -> float:
        return self._samples / (time.perf_counter() - self._start)
