"""A study as the Snakefile sees it: jobs, their receipts, and digests that make Snakemake run them again.

Parsed at every job, so it imports neither torch nor mlflow.
"""

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from clip2scene import layout
from clip2scene.config import parse_config
from clip2scene.config_data import merged
from clip2scene.config_yaml import load_yaml
from clip2scene.errors import InputError
from clip2scene.files import lock, read_object, write_json
from clip2scene.machine import gpu_nodes
from clip2scene.provenance import code_hash, digest
from clip2scene.reporting.base import get_table
from clip2scene.reporting.registry import all_names, summary_names, table_entry
from clip2scene.runs import Run
from clip2scene.stages.base import Stage, get_stage
from clip2scene.study import Study

LONGEST_NAME = 150
"""Longest start of a job's name: with its hash and an ending it has to be a file name."""


class Workflow(Study):
    """A study as Snakemake sees it: jobs of one run each, or of several that share a process."""

    @classmethod
    def read(cls, files: Iterable[str | Path], overrides: Mapping[str, Any]) -> "Workflow":
        """Read a study; end Snakemake with one line where its configuration or table of experiments is wrong.

        Snakemake's own reader takes a key that is given twice, and ends in a traceback.

        Args:
            files: Configurations, each merged over those before it.
            overrides: Values from Snakemake's option ``--config``.
        """
        names = [os.path.relpath(file) for file in files]
        try:
            values: dict[str, Any] = {}
            for name in names:
                values = merged(values, load_yaml(name))
            source = " and ".join([*names, *(["--config"] if overrides else [])])
            config = parse_config(merged(values, overrides), source)
            if config.results.exists() and not config.results.is_dir():
                raise InputError(f"{source}: results: {config.results} is a file; expected a folder")
            return cls(config)
        except InputError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(2)

    def hold(self) -> None:
        """Wait until no other workflow works on this results folder, then keep others waiting.

        Two workflows with one results folder so end as if one had come after the other.
        """
        path = layout.lock(self.config, "workflow")
        self._held = lock(path, f"workflow on {self.config.results}")

    @cached_property
    def tables(self) -> list[str]:
        """Tables that the table of experiments has rows for: those that its rows name, and summaries."""
        return [name for name in all_names() if name in self._named or name in summary_names()]

    @cached_property
    def _named(self) -> list[str]:
        """Tables that rows name, in the order in which they come."""
        return list(dict.fromkeys(table for experiment in self.experiments for table in experiment.tables))

    @cached_property
    def jobs(self) -> dict[str, list[Run]]:
        """Jobs by name: the runs that share a process, each after those it reads from.

        Runs of one method share a job where their stages allow it: so a network is pre-trained, tuned and
        judged from every seed in one process.
        """
        groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in self.runs.values():
            groups[self._group(run)].append(run)
        return {self._name(runs): runs for runs in groups.values()}

    def _group(self, run: Run) -> tuple[str, ...]:
        if not (self.config.share_process and get_stage(run.kind).shares_process):
            return ("alone", run.key)
        # A table's jobs compute what it or an earlier table rests on, and nothing more. No two jobs wait for
        # each other: a run is in all tables of those that read from it, so that its first comes no later.
        table = next(name for name in self._named if run.key in self._of_table[name])
        return ("shared", run.method, run.recipe, run.variant, run.backbone, run.pretrain, table)

    @cached_property
    def _of_table(self) -> dict[str, dict[str, Run]]:
        return {table: self.runs_of(table) for table in self.tables}

    def _name(self, runs: list[Run]) -> str:
        first = runs[0]
        data = dict.fromkeys([*first.pretrain.split(), *(run.target for run in runs)])  # each once
        hashed = digest([run.key for run in runs]) if len(runs) > 1 else first.key
        parts = (first.kind, first.method, first.recipe, first.variant, *data)
        words = "-".join(part for part in parts if part)
        return f"{words[:LONGEST_NAME]}-{hashed}"

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Stages that have a job, by name, in the order in which they come."""
        kinds = dict.fromkeys(runs[0].kind for runs in self.jobs.values())
        return {kind: get_stage(kind) for kind in kinds}

    def names(self, stage: str) -> str:
        """Return the pattern of the names of a stage's jobs, for a wildcard."""
        names = (name for name, runs in self.jobs.items() if runs[0].kind == stage)
        return "|".join(map(re.escape, names))

    def keys(self, job: str) -> list[str]:
        """Return the keys of a job's runs."""
        return [run.key for run in self.jobs[job]]

    def inputs_of(self, job: str) -> list[Path]:
        """Return the receipts that a job waits for, and the files from outside that it reads."""
        mine, found = set(self.keys(job)), []
        for run in self.jobs[job]:
            parents = [parent for parent in self.parents(run).values() if parent.key not in mine]
            found += [layout.receipt(self.config, self._job_of[parent.key]) for parent in parents]
            found += [source for source in self.reads(run).values() if isinstance(source, Path)]
        return list(dict.fromkeys(found))

    @cached_property
    def _job_of(self) -> dict[str, str]:
        return {run.key: name for name, runs in self.jobs.items() for run in runs}

    def stamp(self, job: str) -> str:
        """Return a digest of code and of what lies on the disk: Snakemake runs a job again if it changes.

        The job then compares fingerprints, and ends in a second if nothing that counts has changed.
        """
        values = [[self.code(run), self.survey(run)] for run in self.jobs[job]]
        return digest(values)

    def what(self, job: str) -> str:
        """Return a job in words, for the terminal."""
        first, *others = self.jobs[job]
        more = f" and {len(others)} more runs" if others else ""
        return f"{get_stage(first.kind).message}: {first.title}{more}"

    @property
    def gpu(self) -> int:
        """Number of GPUs that a training job asks Snakemake for."""
        return int(self.config.device == "cuda" or (self.config.device == "auto" and bool(gpu_nodes())))

    def receipts(self, table: str) -> list[Path]:
        """Return the receipts of every job that a table rests on."""
        jobs = dict.fromkeys(self._job_of[key] for key in self._of_table[table])
        return [layout.receipt(self.config, job) for job in jobs]

    def collected(self, table: str) -> Path:
        """Return the receipt between runs and a table, named after the table and the study."""
        return layout.receipt(self.config, f"{table}-{self.name}")

    def retire(self) -> None:
        """Delete receipts of runs that would be computed again now, and of what rests on them.

        The runs themselves stay. Snakemake's own records say so too, but a copied results folder comes
        without them.
        """
        for job, runs in self.jobs.items():
            receipt = layout.receipt(self.config, job)
            if receipt.exists() and not all(map(self.finished, runs)):
                receipt.unlink()
        for table in self.tables:
            if not all(receipt.exists() for receipt in self.receipts(table)):
                self.collected(table).unlink(missing_ok=True)

    def want(self) -> None:
        """Note for each table that is not this study's as it would be now that this study's is wanted.

        Without its records Snakemake goes by existence and times alone: it takes another study's table for
        this one's, and makes no receipt that is missing before it. The note is newer than such a table, so
        that the table is written again.
        """
        for table in self.tables:
            shown, note = layout.shown(self.config, table), layout.wanted(self.config, table)
            current = shown.exists() and read_object(shown).get("study") == self.name
            if not (current and note.exists() and all(path.exists() for path in self.receipts(table))):
                write_json(note, {"study": self.name})

    def reported(self, dag: Any) -> list[str]:
        """Return the tables that a report waits for: those that the workflow makes anyway, and the main one.

        Args:
            dag: Snakemake's ``workflow.dag_settings``, with the targets that were asked for.
        """
        if dag.target_jobs:
            return []  # a job of its own on a cluster: what it waits for is there
        asked = {Path(target) for target in dag.targets or ["all"]}
        if Path("all") in asked or "main" not in self.tables:
            return list(self.tables)
        files = {name: {self.config.results / file for file in get_table(name).files} for name in self.tables}
        return [name for name in self.tables if name == "main" or asked & files[name]]

    def beside(self, tables: Iterable[str]) -> str:
        """Return a digest of the tables that are there, but for some: the report shows them as they are."""
        others = (layout.shown(self.config, name) for name in self.tables if name not in {*tables})
        return digest([read_object(path) for path in others if path.exists()])

    def table_stamp(self, table: str) -> str:
        """Return a digest of the code that writes a table."""
        return code_hash(table_entry(table).module)
