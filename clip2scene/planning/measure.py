"""Measurement of one run in a process of its own: time, memory, and waiting for the data loader.

The pilot listens to the stage's progress bar, which counts its units, and to torch's data loader. The stage
is computed by its own function, which knows nothing of it.
"""

import multiprocessing
import os
import pkgutil
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clip2scene.compute import call_stage
from clip2scene.errors import InputError
from clip2scene.planning.costs import Time
from clip2scene.stages.base import get_stage
from clip2scene.study import Study
from clip2scene.task import Task

WARM_UP = 0.25
"""Share of the units that come before those whose time is taken: the first ones compile and fill caches."""


@dataclass(frozen=True)
class Moment:
    """State of a run at a time: units done, clock, CPU seconds, and seconds of waiting for the loader."""

    units: int
    clock: float
    cpu: float
    waited: float


@dataclass
class Watch:
    """Record of a run's progress bars and of its data loader.

    Attributes:
        bars: Moments of each progress bar, its opening first.
        waited: Seconds spent in waiting for the loader.
        batch_bytes: Size of the largest batch.
        open_files: The most files that were open at a batch.
        batches: Batches that were loaded.
        loaders_mib: Memory of all loader processes together that no other process shares.
    """

    bars: dict[Any, list[Moment]] = field(default_factory=dict)
    waited: float = 0.0
    batch_bytes: int = 0
    open_files: int = 0
    batches: int = 0
    loaders_mib: float = 0.0

    def tick(self, bar: Any, units: int) -> None:
        """Note that a progress bar has moved."""
        moments = self.bars.setdefault(bar, [])
        done = moments[-1].units if moments else 0
        moments.append(Moment(done + units, time.perf_counter(), cpu_seconds(), self.waited))

    @property
    def moments(self) -> list[Moment]:
        """Moments of the bar that took longest; none if there was none."""
        return max(self.bars.values(), key=lambda found: found[-1].clock - found[0].clock, default=[])

    @property
    def units(self) -> int:
        """Units that this bar counted."""
        return self.moments[-1].units if self.moments else 0


@dataclass(frozen=True)
class Measured:
    """Measurements of one run; see `clip2scene.planning.costs.Kind`."""

    units: int
    seconds: Time
    cpu_seconds: Time
    waiting: float
    memory_mib: float
    gpu_memory_mib: float
    batch_mib: float
    open_files: int


def measure(task: Task, again: bool = False, beside: Sequence[Task] = ()) -> Measured:
    """Compute a run in a new process and measure it.

    Args:
        task: The run.
        beside: Runs that are computed at the same time, and not measured.
        again: Compute it twice, and count what the first time costs more to the start of the process. Runs
            that share a process load libraries and compile kernels once.

    Raises:
        InputError: bad input, or the process was killed.
    """
    with new_processes(1 + len(beside)) as pool:
        try:
            measured, *others = [pool.submit(_compute, each, again, time.time()) for each in (task, *beside)]
            for other in others:
                other.result()
            found, ended = measured.result()
        except BrokenProcessPool:
            raise InputError(
                f"{task.run.kind} ({task.run.title}): its process was killed, most often for want of memory; "
                "expected more memory, or a smaller batch_size"
            ) from None
    return replace(found, seconds=_started(found.seconds, time.time() - ended))


def new_processes(count: int) -> ProcessPoolExecutor:
    """Return processes that have imported nothing, and start loader processes as this process would.

    A process that was spawned spawns its own by default: each loader would import torch once more.
    """
    return ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=_start_others_by,
        initargs=(multiprocessing.get_start_method(),),
    )


def _start_others_by(method: str) -> None:
    multiprocessing.set_start_method(method, force=True)


def _compute(task: Task, again: bool, began: float) -> tuple[Measured, float]:
    """Measure a run in this process; return the time of its end as well."""
    pkgutil.resolve_name(get_stage(task.run.kind).function)  # the imports
    Study(task.config)  # as `clip2scene run` does
    start, start_cpu = time.time() - began, cpu_seconds()
    watch, seconds, cpu = _timed(task)
    if again:
        first, first_cpu = seconds, cpu
        watch, seconds, cpu = _timed(task)
        start += max(0.0, first.fixed - seconds.fixed)
        start_cpu += max(0.0, first_cpu.fixed - cpu.fixed)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10 * task.processes  # KiB on Linux
    found = Measured(
        watch.units,
        _started(seconds, start),
        _started(cpu, start_cpu),
        rate(watch.moments)[2],
        _peak_memory() + (watch.loaders_mib or children),
        _gpu_memory(),
        watch.batch_bytes / 2**20,
        watch.open_files,
    )
    return found, time.time()


def _started(cost: Time, seconds: float) -> Time:
    """Return a cost with seconds added to those of the process."""
    return cost.model_copy(update={"start": cost.start + seconds})


def _timed(task: Task) -> tuple[Watch, Time, Time]:
    """Compute a run; return what was noted, and its time by the clock and by the CPU's."""
    watch = Watch()
    clock, cpu = time.perf_counter(), cpu_seconds()
    with _watching(watch):
        call_stage(task)
    clock, cpu = time.perf_counter() - clock, cpu_seconds() - cpu
    unit, unit_cpu, _, units = rate(watch.moments)
    return (
        watch,
        Time(start=0, fixed=max(0.0, clock - units * unit), unit=unit),
        Time(start=0, fixed=max(0.0, cpu - units * unit_cpu), unit=unit_cpu),
    )


def rate(moments: list[Moment]) -> tuple[float, float, float, int]:
    """Return seconds and CPU seconds a unit, the share of time spent in waiting, and the number of units.

    The first `WARM_UP` of the units are left out if the bar has moved again after them.
    """
    if len(moments) < 2 or not moments[-1].units:
        return 0.0, 0.0, 0.0, 0
    last = moments[-1]
    settled = next(moment for moment in moments[1:] if moment.units >= WARM_UP * last.units)
    first = settled if settled.units < last.units else moments[0]
    units, seconds = last.units - first.units, last.clock - first.clock
    waiting = min(1.0, (last.waited - first.waited) / seconds) if seconds > 0 else 0.0
    return seconds / units, (last.cpu - first.cpu) / units, waiting, last.units


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def _watching(watch: Watch) -> Iterator[None]:
    """Have progress bars and loaders of this process tell `watch` of each step."""
    from tqdm import tqdm

    opened, moved, iterated = tqdm.__init__, tqdm.update, tqdm.__iter__
    iterating: set[tqdm] = set()  # bars that move themselves, and call `update` on the way

    def opening(bar: tqdm, *arguments: Any, **settings: Any) -> None:
        opened(bar, *arguments, **settings)
        watch.tick(bar, 0)

    def moving(bar: tqdm, units: float | None = 1) -> bool | None:
        result = moved(bar, units)
        if bar not in iterating:
            watch.tick(bar, int(units or 0))
        return result

    def iterate(bar: tqdm) -> Iterator[Any]:
        iterating.add(bar)
        for item in iterated(bar):
            yield item
            watch.tick(bar, 1)

    tqdm.__init__, tqdm.update, tqdm.__iter__ = opening, moving, iterate
    undo = _watch_loader(watch) if "torch" in sys.modules else lambda: None
    try:
        yield
    finally:
        tqdm.__init__, tqdm.update, tqdm.__iter__ = opened, moved, iterated
        undo()


def _watch_loader(watch: Watch) -> Callable[[], None]:
    """Time every batch that torch's loader is asked for; returns a function that undoes it."""
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    from clip2scene.training.loading import batch_bytes

    advance = _BaseDataLoaderIter.__next__

    def timed(batches: _BaseDataLoaderIter) -> Any:
        start = time.perf_counter()
        try:
            batch = advance(batches)
        finally:
            watch.waited += time.perf_counter() - start
        watch.batch_bytes = max(watch.batch_bytes, batch_bytes(batch))
        watch.open_files = max(watch.open_files, _open_files())
        watch.batches += 1
        if watch.batches.bit_count() == 1:  # 1, 2, 4, 8, ...: it takes milliseconds
            loaders = [worker.pid for worker in getattr(batches, "_workers", ())]
            watch.loaders_mib = max(watch.loaders_mib, sum(map(_own_memory, loaders)))
        return batch

    def undo() -> None:
        _BaseDataLoaderIter.__next__ = advance

    _BaseDataLoaderIter.__next__ = timed
    return undo


def _open_files(folder: Path = Path("/proc/self/fd")) -> int:
    return len(os.listdir(folder)) if folder.is_dir() else 0  # noqa: PTH208 - without a path a file


def _peak_memory(status: Path = Path("/proc/self/status")) -> float:
    """Return the peak resident memory of this process, MiB.

    The system's usual number, ``ru_maxrss``, is that of the process which started this one if that is larger.
    """
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    peak = int(found[0]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**10  # KiB on Linux


def _own_memory(pid: int) -> float:
    """Return the memory of a process that it shares with no other, MiB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended, or this is not Linux
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 2**10  # kB


def _gpu_memory() -> float:
    """Return the peak of what torch held on the GPU, MiB."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    return torch.cuda.max_memory_reserved() / 2**20
