"""What the Snakefile knows: the configuration, the runs it asks for, and which jobs make them.

Parsed at every job, so it imports neither torch nor mlflow.
"""

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from clip2scene import layout
from clip2scene.config import parse_config
from clip2scene.datasets.registry import dataset_module
from clip2scene.experiments import Run, all_runs, digest
from clip2scene.files import atomic
from clip2scene.method.spec import method_spec
from clip2scene.provenance import code_hash

_STAGES = {
    "annotation_free": "clip2scene.evaluation.annotation_free",
    "projection": "clip2scene.evaluation.projection",
    "finetune": "clip2scene.training.finetune",
    "linear_probe": "clip2scene.training.finetune",
}


class Workflow:
    """The experiment as Snakemake sees it.

    Args:
        values: Snakemake's merged configuration, unchecked.

    Raises:
        InputError: a key or a row of the table of experiments is wrong.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.config = parse_config(values, "configuration")
        self.runs = all_runs(self.config)

    @cached_property
    def file(self) -> Path:
        """The merged configuration as a file, named by its hash: what every job of this table reads."""
        values = self.config.model_dump(mode="json")
        path = self.config.results / "config" / f"{digest(values)}.yaml"
        if not path.exists():
            with atomic(path) as temporary:
                temporary.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    @cached_property
    def prepared(self) -> dict[str, str]:
        """Data sets by the name of the folder that holds what is derived from them."""
        return {layout.prepared(self.config, name).name: name for name in self.config.datasets}

    @cached_property
    def synthetic(self) -> dict[str, str]:
        """Data sets that the workflow makes, by their table file."""
        made = (name for name, section in self.config.datasets.items() if section.synthetic)
        return {str(layout.tables(self.config, name)): name for name in made}

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
            if run.kind in _STAGES:
                own = () if self.config.share_process else (run.key,)
                groups[run.kind, run.method, run.recipe, run.backbone, run.target, *own].append(run)
        return {self._name(runs): runs for runs in groups.values()}

    def _name(self, runs: list[Run]) -> str:
        first = runs[0]
        parts = (first.kind, first.method, first.recipe, first.target, digest([run.key for run in runs]))
        return "-".join(part for part in parts if part)

    def manifests(self) -> list[Path]:
        """The files that say which downstream runs are finished."""
        return [self.config.results / "jobs" / f"{name}.json" for name in self.jobs]

    def index_inputs(self, dataset: str) -> list[Path]:
        """The tables of a data set that the workflow makes; downloaded ones are checked by the job."""
        tables = layout.tables(self.config, dataset)
        return [tables] if str(tables) in self.synthetic else []

    @cached_property
    def upstream(self) -> list[Run]:
        """Runs that others start from: teacher, encoders, pre-training."""
        return [run for run in self.runs.values() if run.kind not in _STAGES]

    def teacher_inputs(self) -> list[Path]:
        """Crops and captions, where the teacher is trained here."""
        teacher = self.config.teacher
        return [layout.captions(self.config, teacher.dataset)] if teacher.pretrained == "train" else []

    def encoder_inputs(self, key: str) -> list[Path]:
        """The index that lists the images, where the encoder is trained here."""
        dataset = self.runs[key].pretrain
        return [layout.index(self.config, dataset)] if dataset else []

    def pretrain_inputs(self, key: str) -> list[Path]:
        """What a pre-training run reads."""
        run, config = self.runs[key], self.config
        files = {
            "superpixels": lambda: layout.superpixels(config, run.pretrain),
            "teacher": lambda: layout.teacher(config),
            "text": lambda: layout.text(config, run.pretrain),
            "encoder": lambda: layout.encoder(config, run.pretrain),
        }
        return [
            layout.index(config, run.pretrain),
            *(files[need]() for need in sorted(run.needs & files.keys())),
        ]

    def downstream_inputs(self, job: str) -> list[Path]:
        """What the runs of a job read."""
        config, files = self.config, {}
        for run in self.jobs[job]:
            needed = [layout.index(config, run.target)]
            needed += [layout.checkpoint(config, run.parent)] if run.parent else []
            if run.kind in ("annotation_free", "projection"):
                needed += [layout.text(config, run.target)]
            else:
                needed += [layout.subset(config, run.target, run.rule, run.percent)]
            files.update(dict.fromkeys(needed))
        return list(files)

    def keys(self, kind: str) -> str:
        """Pattern of the keys of the runs of a kind, for a wildcard."""
        return "|".join(run.key for run in self.runs.values() if run.kind == kind) or "none"

    def names(self, *kinds: str) -> str:
        """Pattern of the names of the jobs of these kinds, for a wildcard."""
        return "|".join(name for name, runs in self.jobs.items() if runs[0].kind in kinds) or "none"

    def identity(self, dataset: str) -> str:
        """Hash of what a data set is made with: another value makes it again."""
        return layout.prepared(self.config, dataset).name

    def code(self, stage: str, *datasets: str) -> str:
        """Hash of the source that a stage uses, the modules of the data sets it reads included."""
        return code_hash(stage, *(dataset_module(self.config.datasets[name].format) for name in datasets))

    def run_code(self, stage: str, key: str) -> str:
        """Hash of the source that a run uses: its stage's, its data set's and its method's."""
        run = self.runs[key]
        modules = [stage, dataset_module(self.config.datasets[run.target or run.pretrain].format)]
        if run.pretrain and (implementation := method_spec(run.method).implementation):
            modules.append(implementation.partition(":")[0])
        return code_hash(*modules)

    def job_code(self, job: str) -> str:
        """`run_code` of the runs of a job."""
        first = self.jobs[job][0]
        return self.run_code(_STAGES[first.kind], first.key)
