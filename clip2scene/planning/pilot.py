"""`clip2scene pilot`: every kind of run for a few steps at its real size, and what the whole study costs.

Runs with the same settings and the same code take the same time a unit, whatever their seed and their share
of the labels. So one of each kind is computed, by its stage's own function, in a process and a folder of its
own. A run then costs ``start + fixed + units * seconds a unit``, where the units come from the code that
counts them.

A study computes several runs at a time, which share memory and caches. So copies of a run are computed
beside the one that is measured.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.index import Index, read_index, write_index
from clip2scene.datasets.rules import skip_of
from clip2scene.files import locked
from clip2scene.planning import stand_ins
from clip2scene.planning.costs import Costs, Kind, RunCost
from clip2scene.planning.measure import Measured, measure
from clip2scene.planning.needs import needs
from clip2scene.planning.shorten import (
    short_config,
    short_index,
    split_of,
    steps,
    unit,
    units,
    validated,
    write_short_subset,
)
from clip2scene.provenance import digest
from clip2scene.record import Identity, RunRecord
from clip2scene.runs import Product, Run, Source
from clip2scene.stages.base import get_stage
from clip2scene.study import Study
from clip2scene.task import Task
from clip2scene.workflow import Workflow

_PLACE = ".pilot-"
"""Start of the name of a pilot's folder. No person gives it: results of another study may lie beside it."""
GROWING = ("confusion.npz", "superpixels.arrow")
"""Files of a run that grow with its keyframes; all others have one size, whatever the length of the run."""


def run_pilot(
    config: Config, count: int, processes: int, tell: Callable[[str], None], jobs: int | None = None
) -> Costs:
    """Compute one run of every kind for a few units; return what every run of the study costs.

    Everything is written into a hidden folder of the results, which is removed at the end; no run is touched.

    Args:
        config: The configuration.
        count: Units of each: steps of training, keyframes of a prediction.
        processes: Worker processes of the stages that take every core.
        tell: Receives a line for each stand-in and each kind.
        jobs: Runs that the study will compute at a time. None: one on a GPU, else what the cores allow.

    Raises:
        InputError: a run cannot be computed; or there is not enough memory for it.
    """
    with locked(layout.lock(config, "pilot"), f"pilot of {config.results}"):
        for left in config.results.glob(f"{_PLACE}*"):  # of a pilot that was killed
            shutil.rmtree(left)
        with TemporaryDirectory(prefix=_PLACE, dir=config.results) as folder:
            return _Pilot(config, Path(folder), count, processes, tell, jobs).costs()


@dataclass(frozen=True)
class _Done:
    """A kind that was measured: its folder, what was measured, and the sizes of its files, bytes."""

    run: Run
    folder: Path
    measured: Measured
    fixed_bytes: int
    growing_bytes: int


class _Pilot:
    """A pilot under way: the study as it is, and the same with whatever stands in and folders of its own."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        count: int,
        processes: int,
        tell: Callable[[str], None],
        jobs: int | None,
    ) -> None:
        self.workflow = Workflow(config)
        self.folder, self.count, self.processes, self.tell = folder, count, processes, tell
        cores = 1 if self.workflow.gpu else os.cpu_count() or 1
        self.jobs = jobs or max(1, cores // config.threads)
        self.stand_ins: list[str] = []
        used = {name for run in self.workflow.runs.values() for name in (run.target, *run.pretrain.split())}
        config, self.made_up = stand_ins.replaced(
            self._apart(config), used, folder, processes, self._stands_in
        )
        self.study = Study(config)
        self.done: dict[str, _Done] = {}
        self._kinds: dict[Run, str] = {}
        self._indexes: dict[Path, Index] = {}

    def costs(self) -> Costs:
        """Measure every kind and add up every run."""
        runs = self.workflow.runs
        kind_of = {key: self.kind(run) for key, run in runs.items()}
        units_of = {}
        for key, run in runs.items():
            if kind_of[key] not in self.done:  # by its first run, which comes after those that it reads from
                self.tell(f"{run.kind}: {run.title}")
                self.done[kind_of[key]] = self._measure(kind_of[key], replace(run, key=""))
            units_of[key] = self._units(run)
        kinds = {name: self._kind(done) for name, done in self.done.items()}
        predicting = self._predicting(kind_of)
        starts = {job[0].key for job in self.workflow.jobs.values()}  # with each of them, a process
        costs = {}
        for key, run in runs.items():
            kind, config = kinds[kind_of[key]], self.workflow.configuration(run.variant)
            seen = validated(config, run, units_of[key])
            judge = kinds.get(predicting.get((split_of(config, run)[0], run.backbone), "")) if seen else None
            seconds, cpu_seconds = (
                getattr(kind, clock).total(units_of[key], start=key in starts)
                + (seen * getattr(judge, clock).unit if judge else 0)
                for clock in ("seconds", "cpu_seconds")
            )
            costs[key] = RunCost(
                kind=kind_of[key],
                units=units_of[key],
                validated=seen,
                seconds=seconds,
                cpu_seconds=cpu_seconds,
                bytes=round(kind.bytes + units_of[key] * kind.unit_bytes),
            )
        return Costs(
            machine=machine(),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            processes=self.workflow.config.processes,
            stand_ins=self.stand_ins,
            kinds=kinds,
            runs=costs,
            needs=needs(self.workflow.config, kinds, costs),
        )

    def kind(self, run: Run) -> str:
        """Return the key of a run's kind: its stage, settings and code."""
        if run not in self._kinds:
            stage, config = get_stage(run.kind), self.workflow.configuration(run.variant)
            self._kinds[run] = digest(run.kind, stage.settings(config, run), sorted(stage.code(config, run)))
        return self._kinds[run]

    def _apart(self, config: Config) -> Config:
        """Return the configuration with folders of the pilot's own."""
        datasets = {
            name: section.model_copy(update={"root": self.folder / "data" / name})
            if section.synthetic
            else section
            for name, section in config.datasets.items()
        }
        return config.model_copy(update={"results": self.folder, "datasets": datasets})

    def _stands_in(self, line: str) -> None:
        self.stand_ins.append(line)
        self.tell(line)

    def _measure(self, kind: str, run: Run) -> _Done:
        stage, full = get_stage(run.kind), self.study.configuration(run.variant)
        config, frames = short_config(full, run, self.count)
        if stage.parts:  # trainings read what it makes of their keyframes
            frames = max([frames, *self._keyframes_of_readers(kind)])
        folder = self.folder / "runs" / kind
        short: Index | None = None
        inputs: dict[str, Path] = {}
        for role, source in self.study.reads(run).items():
            inputs[role] = self._path(source)
            if role == "index" and unit(full, run):
                short = short_index(self._index(run), split_of(full, run)[1], frames)
                inputs[role] = folder.with_name(f"{kind}-index.parquet")
                write_index(inputs[role], short)
        if "subset" in inputs and short is not None:
            inputs["subset"] = folder.with_name(f"{kind}-subset.json")
            write_short_subset(inputs["subset"], config, run, short)
        identity = Identity(run.kind, run.fields(), stage.settings(config, run), {})
        cores, copies = (self.processes, 0) if stage.cores else (1, self.jobs - 1)
        places = [folder, *(folder.with_name(f"{kind}-copy-{number}") for number in range(copies))]
        records = [RunRecord(place, run.kind, run.seed, identity) for place in places]
        task, *beside = (Task(config, replace(run, key=kind), record, inputs, cores) for record in records)
        measured = measure(task, config.share_process and stage.shares_process, beside)
        sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        growing = sum(size for name, size in sizes.items() if name in GROWING)
        return _Done(run, folder, measured, sum(sizes.values()) - growing, growing)

    def _keyframes_of_readers(self, kind: str) -> Iterator[int]:
        """Yield the keyframes of each shortened training that reads from a run of a kind."""
        for run in self.workflow.runs.values():
            if any(self.kind(parent) == kind for parent in self.workflow.parents(run).values()):
                yield short_config(self.workflow.configuration(run.variant), run, self.count)[1]

    def _path(self, source: Source) -> Path:
        """Return the file that a run reads, of the run that was measured in the place of its own parent."""
        if isinstance(source, Path):
            return source
        if isinstance(source.file, Path):
            return source.file
        return self.done[self.kind(source.run)].folder / source.file

    def _index(self, run: Run) -> Index:
        """Return every keyframe of the data set that a run computes with."""
        config = self.study.configuration(run.variant)
        name = split_of(config, run)[0]
        path = self._path(Product(Run("index", target=name, variant=run.variant), "index.parquet"))
        if path not in self._indexes:
            self._indexes[path] = read_index(path, config.datasets[name].root)
        return self._indexes[path]

    def _units(self, run: Run) -> int:
        """Return the units of a run as it will be computed."""
        config = self.workflow.configuration(run.variant)
        kind = unit(config, run)
        if not kind or run.kind in ("teacher", "encoder"):
            return units(config, run, None)
        name, split = split_of(config, run)
        if name not in self.made_up:
            return units(config, run, self._index(run))
        frames = stand_ins.published(name, config.datasets[name], split)
        if kind == "image":
            there = self._index(run).split(split).frames["camera_names"].map(len)
            return round(frames * there.mean())
        if run.percent:
            frames = -(-frames // skip_of(run.percent, run.rule)) if run.rule else frames
        return steps(config, run, frames) if kind == "step" else frames

    def _kind(self, done: _Done) -> Kind:
        measured = done.measured
        name = unit(self.study.configuration(done.run.variant), done.run)
        seconds, cpu_seconds = measured.seconds, measured.cpu_seconds
        if not name:  # it is one unit, whatever its progress bar counts
            seconds, cpu_seconds = (each.whole(measured.units) for each in (seconds, cpu_seconds))
        return Kind(
            stage=done.run.kind,
            title=done.run.title,
            unit=name,
            measured=measured.units,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            waiting=measured.waiting,
            memory_mib=measured.memory_mib,
            gpu_memory_mib=measured.gpu_memory_mib,
            batch_mib=measured.batch_mib,
            open_files=measured.open_files,
            bytes=done.fixed_bytes,
            unit_bytes=done.growing_bytes / max(1, measured.units),
        )

    def _predicting(self, kind_of: dict[str, str]) -> dict[tuple[str, str], str]:
        """Return the kind of run that predicts a data set with a 3D network: what a validation costs."""
        runs = self.workflow.runs.values()
        predicting = [run for run in runs if run.backbone and unit(self.study.config, run) == "frame"]
        return {(run.target, run.backbone): kind_of[run.key] for run in predicting}


def machine() -> str:
    """Return the machine in words."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {gpu}"
