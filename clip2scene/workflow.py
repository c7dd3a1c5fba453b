"""What the Snakefile knows: the configuration, the runs it asks for, and which jobs make them.

Parsed at every job, so it imports neither torch nor mlflow.
"""

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import get_args

import yaml

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.registry import dataset_module
from clip2scene.experiments import Run, Table, all_runs, digest
from clip2scene.files import atomic
from clip2scene.method.spec import method_spec
from clip2scene.provenance import code_hash
from clip2scene.synthetic.generate import WRITERS

_STAGES = {
    "teacher": "clip2scene.training.teacher",
    "encoder": "clip2scene.training.encoder",
    "pretrain": "clip2scene.training.pretrain",
    "annotation_free": "clip2scene.evaluation.annotation_free",
    "projection": "clip2scene.evaluation.projection",
    "finetune": "clip2scene.training.finetune",
    "linear_probe": "clip2scene.training.finetune",
}
_UPSTREAM = ("teacher", "encoder", "pretrain")


class Workflow:
    """The experiment as Snakemake sees it.

    Attributes:
        config: The configuration.
        runs: Every run that the table of experiments asks for, by key, a run after those it starts from.
        tables: The same for each result table.

    Raises:
        InputError: a row of the table of experiments is wrong.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.runs = all_runs(config)
        self.tables = {table: all_runs(config, table) for table in get_args(Table)}

    @cached_property
    def name(self) -> str:
        """Hash of the whole configuration."""
        return digest(self.config.model_dump(mode="json"))

    @cached_property
    def file(self) -> Path:
        """The merged configuration as a file, named by its hash: what every job of this table reads."""
        path = self.config.results / "config" / f"{self.name}.yaml"
        if not path.exists():
            with atomic(path) as temporary:
                temporary.write_text(yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False))
        return path

    @cached_property
    def prepared(self) -> dict[str, str]:
        """Data sets by the name of the folder that holds what is derived from them."""
        return {layout.prepared(self.config, name).name: name for name in self.config.datasets}

    @cached_property
    def synthetic(self) -> dict[str, list[Path]]:
        """The data sets that the workflow makes, and the files that say that one is complete."""
        made = (name for name, section in self.config.datasets.items() if section.synthetic)
        return {name: layout.synthetic(self.config, name) for name in made}

    @property
    def gpu(self) -> int:
        """GPUs that a training job asks Snakemake for."""
        return int(
            self.config.device == "cuda" or (self.config.device == "auto" and Path("/dev/nvidia0").exists())
        )

    @cached_property
    def jobs(self) -> dict[str, list[Run]]:
        """Evaluation and fine-tuning jobs by name: the runs that share a process."""
        groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in self.runs.values():
            if run.kind not in _UPSTREAM:
                first_table = next(table for table, runs in self.tables.items() if run.key in runs)
                own = () if self.config.share_process else (run.key,)
                what = run.kind, run.method, run.recipe, run.backbone, run.pretrain
                groups[*what, first_table, *own].append(run)
        return {self._name(runs): runs for runs in groups.values()}

    def _name(self, runs: list[Run]) -> str:
        first = runs[0]
        data = dict.fromkeys([first.pretrain, *(run.target for run in runs)])  # each once
        parts = (first.kind, first.method, first.recipe, *data, digest([run.key for run in runs]))
        return "-".join(part for part in parts if part)

    def manifests(self, table: Table) -> list[Path]:
        """The files that say which downstream runs of a result table are finished."""
        asked = self.tables[table].keys()
        jobs = (name for name, runs in self.jobs.items() if not asked.isdisjoint(run.key for run in runs))
        return [self.config.results / "jobs" / f"{name}.json" for name in jobs]

    def writer_code(self, dataset: str) -> str:
        """Hash of the source that makes a synthetic data set."""
        return code_hash("clip2scene.synthetic.generate", WRITERS[self.config.datasets[dataset].format])

    def index_inputs(self, dataset: str) -> list[Path]:
        """What says that a data set that the workflow makes is complete; of others the job says so."""
        return self.synthetic.get(dataset, [])

    def upstream(self, table: Table) -> list[Path]:
        """The metrics of what the runs of a result table start from: teacher, encoders, pre-training."""
        runs = (run for run in self.tables[table].values() if run.kind in _UPSTREAM)
        return [layout.metrics(self.config, run) for run in runs]

    def inputs(self, key: str) -> list[Path]:
        """The files that a run reads."""
        run, config = self.runs[key], self.config
        match run.kind:
            case "teacher":
                return [layout.captions(config, name) for name in run.pretrain.split()]
            case "encoder":
                return [layout.index(config, name) for name in run.pretrain.split()]
            case "pretrain":
                resources = self.resources(run)
                return [layout.index(config, run.pretrain), *(resources[name] for name in sorted(resources))]
            case "annotation_free" | "projection":
                labels = layout.text(config, run.target)
            case "finetune" | "linear_probe":
                labels = layout.subset(config, run.target, run.rule, run.percent)
        network = layout.pretrained(config, run)
        return [layout.index(config, run.target), labels, *([network] if network else [])]

    def resources(self, run: Run) -> dict[str, Path]:
        """The files, beside the data, that a pre-training run's method needs, by the need's name."""
        files = {
            "superpixels": layout.superpixels(self.config, run.pretrain),
            "teacher": layout.teacher(self.config),
            "text": layout.text(self.config, run.pretrain),
            "encoder": layout.encoder(self.config),
        }
        return {name: path for name, path in files.items() if name in run.needs}

    def job_inputs(self, job: str) -> list[Path]:
        """The files that the runs of a job read."""
        return list(dict.fromkeys(path for run in self.jobs[job] for path in self.inputs(run.key)))

    def module(self, folder: str) -> str:
        """The module that reads the data set of a prepared folder."""
        return dataset_module(self.config.datasets[self.prepared[folder]].format)

    def keys(self, kind: str) -> str:
        """Pattern of the keys of the runs of a kind, for a wildcard."""
        return "|".join(run.key for run in self.runs.values() if run.kind == kind) or "none"

    def names(self, *kinds: str) -> str:
        """Pattern of the names of the jobs of these kinds, for a wildcard."""
        return "|".join(name for name, runs in self.jobs.items() if runs[0].kind in kinds) or "none"

    def code(self, key: str) -> str:
        """Hash of the source that a run uses: its stage's, its data set's and its method's."""
        run = self.runs[key]
        datasets = (run.target or run.pretrain).split()
        formats = [self.config.datasets[name].format for name in datasets]
        modules = [_STAGES[run.kind], *map(dataset_module, formats)]
        if run.pretrain and run.method and (implementation := method_spec(run.method).implementation):
            modules.append(implementation.partition(":")[0])
        return code_hash(*modules)
