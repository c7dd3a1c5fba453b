"""Compute runs: recognise what is there, keep what is superseded, and call the stage's function."""

import os
import pkgutil
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import leftovers, locked, write_json
from clip2scene.machine import keep_freed_memory, lease_gpu
from clip2scene.preflight import check_before_training
from clip2scene.record import RunRecord
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Run
from clip2scene.stages.base import get_stage
from clip2scene.study import Study
from clip2scene.task import Task


def compute(study: Study, run: Run, processes: int = 1, part: str = "") -> None:
    """Compute a run into its folder, unless it is there; a killed one continues where it was.

    Each stage imports its own libraries: fine-tuning starts without CLIP, the teacher without 3D networks.
    Of two processes that compute the same run, one waits and then takes what the other made.

    Args:
        study: The study.
        run: A run with its key, see `Study.keyed`.
        processes: Worker processes that the stage may use.
        part: ``K-of-N`` to compute only the K-th of N parts, for a stage that has parts.

    Raises:
        InputError: bad input, or a run that this one reads is not there. The run is then unfinished.
    """
    if study.finished(run):
        return
    first = int(os.environ.get("RANK", 0)) == 0  # of a distributed run, which answers for all
    if first and get_stage(run.kind).trains:
        check_before_training(study, run)
    task = _task(study, run, processes, part)
    if not first:
        call_stage(task)
        return
    lock, what = layout.lock(study.config, run), f"{run.kind} {run.key}"
    fingerprint = task.record.identity.fingerprint
    if part:
        with locked(lock, what):
            adopt(study.config, run, fingerprint)
            if not task.record.description.exists():
                task.record.begin(task.config, "cpu")
        with locked(lock.with_stem(f"{run.key}-{part}"), f"{what}, part {part}"):
            call_stage(task)
        return
    with locked(lock, what):
        adopt(study.config, run, fingerprint)
        if not study.finished(run):
            call_stage(task)


def adopt(config: Config, run: Run, fingerprint: str) -> None:
    """Make the run's folder that of `fingerprint`.

    Results of another fingerprint move to ``results/superseded``; earlier results of this one come back.
    Nothing is deleted.
    """
    folder = layout.run_folder(config, run)
    there = read_description(folder)
    if there and there["fingerprint"] == fingerprint:
        return
    if there:
        _move(folder, layout.superseded(config, run) / there["fingerprint"][:12])
    elif folder.exists():
        left = leftovers(folder)  # a process was killed while it wrote the first run.json
        if foreign := sorted({*folder.iterdir()} - {*left}):
            raise InputError(f"{folder}: holds {foreign[0].name} and no run.json; expected a run, or nothing")
        for path in left:
            path.unlink()
        folder.rmdir()
    earlier = layout.superseded(config, run) / fingerprint[:12]
    if earlier.exists():
        _move(earlier, folder)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _task(study: Study, run: Run, processes: int, part: str) -> Task:
    """Return a run with all that its stage's function needs."""
    folder = layout.run_folder(study.config, run)
    record = RunRecord(folder, run.kind, run.seed, study.identity(run))
    return Task(study.configuration(run.variant), run, record, study.inputs(run), processes, part)


def call_stage(task: Task) -> None:
    """Call the function of the run's stage."""
    stage = get_stage(task.run.kind)
    keep_freed_memory(of_every_size=stage.trains)
    if stage.gpu:
        lease_gpu(task.config)
    with _naming_memory(task.run):
        pkgutil.resolve_name(stage.function)(task)


@contextmanager
def _naming_memory(run: Run) -> Iterator[None]:
    """Name the run in one line if there is not enough memory for it.

    On a GPU, torch raises an error of its own; on a CPU, a RuntimeError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        gpu = type(error).__name__ == "OutOfMemoryError"
        phrases = ("DefaultCPUAllocator", "Storage size calculation overflowed")
        if not (gpu or isinstance(error, MemoryError) or any(phrase in str(error) for phrase in phrases)):
            raise
        tried = re.search(r"allocate ([\d.]+ \w+)", str(error))
        size = f" for {tried[1]} more" if tried else ""
        smaller = f"a smaller batch_size, or backbones.{run.backbone}.width" if run.backbone else "less"
        raise InputError(
            f"run {run.key} ({run.kind}: {run.title}): the {'GPU' if gpu else 'machine'} has no memory{size}"
            f"; expected {smaller}"
        ) from None


def write_receipt(study: Study, keys: tuple[str, ...], out: Path) -> None:
    """Write the receipt of runs that are there: key, fingerprint and the hash of every file.

    Snakemake deletes what a rule declares before it starts the job, so rules declare receipts and nothing
    that took time to compute.

    Raises:
        InputError: one of the runs is not finished.
    """
    if int(os.environ.get("RANK", 0)) > 0:
        return
    receipts: dict[str, Any] = {}
    for key in keys:
        folder = layout.run_folder(study.config, key)
        if not finished(folder):
            raise InputError(f"{folder}: the run is not finished")
        values = read_description(folder)
        receipts[key] = {name: values[name] for name in ("kind", "fingerprint", "files")}
    write_json(out, receipts)
