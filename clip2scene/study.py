"""A study: a configuration, its table of experiments, and every run that these ask for.

Parsed at every job, so it imports neither torch nor mlflow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiment_table import load_experiments
from clip2scene.experiments import Experiment
from clip2scene.files import atomic, sha256
from clip2scene.provenance import code_of, digest
from clip2scene.record import Identity
from clip2scene.reporting.registry import shows
from clip2scene.run_files import finished, read_description
from clip2scene.runs import Product, Run, Source
from clip2scene.stages.base import Stage, get_stage, protocols

PLACES = {
    "results": True, "experiments": True, "claims": True, "tracking": True, "device": True, "workers": True,
    "share_process": True, "checkpoint_minutes": True, "validation": True,
    "datasets": {"__all__": {"root"}}, "checkpoints": {"__all__": {"file"}},
}  # fmt: skip
"""Parts of the configuration that say where and how fast things are computed, not what."""


class Study:
    """Every run that a configuration and its table of experiments ask for.

    Attributes:
        config: The configuration.
        experiments: The rows of its table of experiments.
        runs: Every run by key, a run after those it reads from.

    Raises:
        InputError: a row of the table of experiments is wrong.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.experiments = load_experiments(config)
        self._keys: dict[Run, Run] = {}
        self._configs: dict[str, Config] = {}
        self._surveys: dict[Run, str] = {}
        self._finished: set[str] = set()  # a run that a process has found finished stays so for that process
        self.runs = self._closure(self.experiments)

    def configuration(self, variant: str = "") -> Config:
        """Return the configuration under a variant, with the roots of synthetic data sets resolved.

        A synthetic data set lies in a folder of its root that is named after its fingerprint, so that
        another one, of other parameters or another writer, never takes its place.
        """
        if variant not in self._configs:
            config = self.config.varied(variant)
            datasets = dict(config.datasets)
            for name, section in config.datasets.items():
                if section.synthetic:
                    made = Run("synthetic", target=name, seed=config.seed, variant=variant)
                    folder = _identity(get_stage("synthetic"), config, made, {}).fingerprint[:12]
                    datasets[name] = section.model_copy(update={"root": section.root / folder})
            self._configs[variant] = config.model_copy(update={"datasets": datasets})
        return self._configs[variant]

    def reads(self, run: Run) -> dict[str, Source]:
        """Return what a run reads, by role."""
        return get_stage(run.kind).reads(self.configuration(run.variant), run)

    def keyed(self, run: Run) -> Run:
        """Return the run with its key.

        The key is the hash of what the run computes, of the settings that bear on it and of the keys of the
        runs it reads from; it names no place, and nothing that concerns speed alone. Variants that do not
        bear on a run leave its key as it is, so that they share the run.
        """
        if run not in self._keys:
            stage, config = get_stage(run.kind), self.configuration(run.variant)
            fields = {name: value for name, value in run.fields().items() if name not in stage.implied}
            parents = {
                role: parent.key
                for role, parent in self.parents(run).items()
                if get_stage(parent.kind).portable
            }
            key = digest(fields, stage.settings(config, run), parents)
            self._keys[run] = replace(run, key=key)
        return self._keys[run]

    def parents(self, run: Run) -> dict[str, Run]:
        """Return the runs that a run reads from, with their keys, by role."""
        sources = self.reads(replace(run, key="")).items()
        return {role: self.keyed(source.run) for role, source in sources if isinstance(source, Product)}

    def cell(self, experiment: Experiment) -> list[Run]:
        """Return the runs whose predictions fill the experiment's cell, with their keys."""
        protocol = protocols()[experiment.protocol]
        runs = protocol.cell(self.configuration(experiment.variant), experiment)
        return [self.keyed(run) for run in runs]

    def runs_of(self, table: str) -> dict[str, Run]:
        """Return every run that a result table rests on, by key, a run after those it reads from."""
        return self._closure(e for e in self.experiments if shows(table, e))

    def with_parents(self, runs: Iterable[Run]) -> list[Run]:
        """Return runs and all that they read from, directly or not, a run after those it reads from."""
        found: dict[str, Run] = {}
        for run in runs:
            self._add(run, found)
        return list(found.values())

    def _closure(self, experiments: Iterable[Experiment]) -> dict[str, Run]:
        found: dict[str, Run] = {}
        for experiment in experiments:
            for run in self.cell(experiment):
                self._add(run, found)
        return found

    def _add(self, run: Run, found: dict[str, Run]) -> None:
        if run.key not in found:
            for parent in self.parents(run).values():
                self._add(parent, found)
            found[run.key] = run

    def identity(self, run: Run, look: bool = True) -> Identity:
        """Return all that decides what a run computes, as it is now.

        Args:
            run: The run.
            look: Look at the disk, for a stage that does; else take what was found when the run was computed.

        Raises:
            InputError: what it reads is not there, or would be computed again itself.
        """
        config, stage = self.configuration(run.variant), get_stage(run.kind)
        identity = _identity(stage, config, run, dict(self._digests(run)))
        if look:
            return replace(identity, survey=self.survey(run))
        there = read_description(layout.run_folder(self.config, run)) or {}
        return replace(identity, survey=there.get("survey", ""))

    def survey(self, run: Run) -> str:
        """Return a digest of what a run finds on the disk, which may be many files: a study looks once."""
        if run not in self._surveys:
            stage, config = get_stage(run.kind), self.configuration(run.variant)
            self._surveys[run] = stage.survey(config, run)
        return self._surveys[run]

    def partial_identity(self, run: Run) -> Identity:
        """Return what decides a run, except for what it reads and finds; those are as recorded."""
        there = read_description(layout.run_folder(self.config, run)) or {}
        config = self.configuration(run.variant)
        identity = _identity(get_stage(run.kind), config, run, there.get("reads", {}))
        return replace(identity, survey=there.get("survey", ""))

    def settings(self, run: Run) -> dict[str, Any]:
        """Return the settings that bear on a run."""
        return get_stage(run.kind).settings(self.configuration(run.variant), run)

    def _digests(self, run: Run) -> Iterator[tuple[str, str]]:
        """Yield the digest of everything that a run reads."""
        for role, source in self.reads(run).items():
            if isinstance(source, Path):
                if not source.is_file():
                    raise InputError(f"{source}: no such file; {run.kind} {run.title} reads it ({role})")
                yield role, sha256(source)
                continue
            parent = self.keyed(source.run)
            if not self.finished(parent, look=False):
                raise InputError(
                    f"run {run.key} ({run.kind}: {run.title}) reads the {role} of run {parent.key} "
                    f"({parent.kind}: {parent.title}), which is not there as it would be computed now; see "
                    f"`clip2scene why {parent.key}`, and compute it first"
                )
            folder = layout.run_folder(self.config, parent)
            products = read_description(folder)["products"]
            for name in source.decisive:
                if name not in products:
                    raise InputError(
                        f"run {parent.key} ({parent.kind}: {parent.title}): has no {name}, which "
                        f"{run.kind} {run.title} reads; it has {', '.join(products)}"
                    )
                yield f"{role}: {name}", products[name]

    def inputs(self, run: Run) -> dict[str, Path]:
        """Return the path of every file that a run reads, by role."""
        return {role: self._path(source) for role, source in self.reads(run).items()}

    def _path(self, source: Source) -> Path:
        if isinstance(source, Path):
            return source
        if isinstance(source.file, Path):
            return source.file  # outside the results folder
        return layout.run_folder(self.config, self.keyed(source.run)) / source.file

    def index(self, dataset: str) -> Path:
        """Return the index of a data set."""
        return layout.run_folder(self.config, self.keyed(Run("index", target=dataset))) / "index.parquet"

    def finished(self, run: Run, look: bool = True) -> bool:
        """Say whether a run is there as it would be computed now; see `identity` on `look`."""
        if not look and run.key in self._finished:
            return True
        outside = get_stage(run.kind).outside(self.configuration(run.variant), run)
        folder = layout.run_folder(self.config, run)
        if not finished(folder) or (outside and not outside.is_file()):
            return False
        try:
            current = finished(folder, self.identity(run, look).fingerprint)
        except InputError:
            return False  # what it was computed from is gone or has changed
        if current:
            self._finished.add(run.key)
        return current

    def code(self, run: Run) -> dict[str, str]:
        """Return the hash of each module that computes a run."""
        return dict(code_of(*_modules(get_stage(run.kind), self.configuration(run.variant), run)))

    @cached_property
    def name(self) -> str:
        """Hash of the configuration, places left out, and of the table of experiments."""
        rows = [experiment.model_dump(mode="json") for experiment in self.experiments]
        return digest(self.config.model_dump(mode="json", exclude=PLACES), rows)

    @cached_property
    def file(self) -> Path:
        """The configuration and the table of experiments as every job of this study reads them.

        They are copies, so that a job started late reads what the first one read, whatever is edited
        meanwhile and whatever else runs in this checkout.
        """
        folder = layout.study_folder(self.config, self.name)
        rows = folder / "experiments.tsv"
        values = self.config.model_dump(mode="json") | {"experiments": str(rows)}
        path = folder / f"{digest(values)}.yaml"
        if not path.exists():
            with atomic(rows) as temporary:
                temporary.write_bytes(self.config.experiments.read_bytes())
            with atomic(path) as temporary:
                temporary.write_text(yaml.safe_dump(values, sort_keys=False))
        return path


def _modules(stage: Stage, config: Config, run: Run) -> tuple[str, ...]:
    return (stage.function.partition(":")[0], *stage.code(config, run))


def _identity(stage: Stage, config: Config, run: Run, reads: dict[str, str]) -> Identity:
    fields = {name: value for name, value in run.fields().items() if name not in stage.implied}
    settings = stage.settings(config, run)
    code = code_of(*_modules(stage, config, run))
    return Identity(run.kind, fields, settings, code, reads)
