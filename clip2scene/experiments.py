"""The table of experiments, the runs it asks for, and their keys. Read at every job: imports no torch."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from clip2scene.config import Config, Section
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError, unknown
from clip2scene.method.spec import method_spec

Kind = Literal["teacher", "encoder", "pretrain", "annotation_free", "projection", "finetune", "linear_probe"]
Table = Literal["main", "cross_domain"]
TEACHER = "maskclip_projection"  # the method name of the teacher's own row


class Experiment(Section):
    """One row of the table of experiments: one cell of the result table, filled by one run a seed."""

    protocol: Literal["annotation_free", "finetune", "linear_probe"]
    """How the pre-trained network is judged."""
    method: str
    """Registered method, or maskclip_projection: the teacher's labels projected onto the points."""
    recipe: str = ""
    """Variant of the method, or a key of the configuration's `checkpoints`: start from that file."""
    backbone: str = ""
    """3D network, a key of the configuration's `backbones`."""
    pretrain: str = ""
    """Data set of pre-training."""
    target: str
    """Data set of evaluation."""
    percent: float = Field(default=0, ge=0, le=100)
    """Share of the target's training labels, percent."""
    rule: Literal["", "frame_skip", "scene_skip"] = ""
    """How that share is drawn; empty at 0 and 100 percent."""
    pretrain_seeds: tuple[int, ...] = ()
    """Seeds of pre-training; none where the row starts from a checkpoint."""
    seeds: tuple[int, ...] = ()
    """Seeds of fine-tuning; every pre-training seed is combined with every one of them."""
    tables: tuple[Table, ...] = ("main",)
    """The result tables that have this row."""

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        labelled = self.protocol != "annotation_free"
        if labelled != (self.percent > 0) or labelled != bool(self.seeds):
            raise ValueError("percent and seeds are for fine-tuning and linear probing, and needed there")
        if bool(self.rule) != (0 < self.percent < 100):
            raise ValueError("a rule is needed for a share between 0 and 100 percent, and only there")
        if self.method != TEACHER and bool(self.pretrain) != (
            method_spec(self.method).implementation is not None
        ):
            raise ValueError("pretrain names a data set where the method pre-trains, and only there")
        return self


@dataclass(frozen=True)
class Run:
    """One run: what it computes, and the key by which its folder and MLflow know it.

    Attributes:
        kind: Which stage.
        key: 12 hexadecimal digits: hash of the fields below and of the settings that bear on the result.
        method, recipe, backbone, pretrain, target, percent, rule: As in the experiment; empty if unused. A
            teacher or encoder may have learnt from several data sets, separated by spaces.
        seed: Seed of this stage.
        parent: Keys of the runs whose results this one starts from, separated by spaces; or "".
    """

    kind: Kind
    key: str = ""
    method: str = ""
    recipe: str = ""
    backbone: str = ""
    pretrain: str = ""
    target: str = ""
    percent: float = 0
    rule: str = ""
    seed: int = 0
    parent: str = ""

    @property
    def title(self) -> str:
        """The run in words, for people."""
        share = f"{self.percent:g} % {self.rule}".strip() if self.percent else ""
        words = (
            self.method,
            self.recipe,
            self.backbone,
            self.target or self.pretrain,
            share,
            f"seed {self.seed}",
        )
        return ", ".join(word for word in words if word)

    @property
    def needs(self) -> frozenset[str]:
        """What the run's method needs; see `clip2scene.method.spec.MethodSpec`."""
        return method_spec(self.method).needs if self.kind == "pretrain" else frozenset()

    def parameters(self, config: Config) -> dict[str, Any]:
        """All that identifies the run, flat: its fields (empty ones left out) and its settings, dotted."""
        fields = {name: value for name, value in asdict(self).items() if value != ""}
        return fields | _flat(settings(config, self))


def load_experiments(config: Config, table: Table | None = None) -> list[Experiment]:
    """Read and check the table of experiments that `config` names.

    Args:
        config: The configuration.
        table: Return only the rows of this result table.

    Raises:
        InputError: the file is missing, a column is not known, or a row names a
            data set, backbone, method or recipe that does not exist.
    """
    path = config.experiments
    try:
        rows = pd.read_csv(path, sep="\t", dtype=str, comment="#", keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (key experiments)") from None
    experiments = []
    for number, row in enumerate(rows.to_dict("records"), start=1):
        where = f"{path}: row {number}"
        experiments.append(experiment := _parse(row, where))
        _known(experiment.target, config.datasets, f"{where}: target")
        if experiment.pretrain:
            _known(experiment.pretrain, config.datasets, f"{where}: pretrain")
            _check_features(config, experiment, where)
        if experiment.method != TEACHER:
            _known(experiment.backbone, config.backbones, f"{where}: backbone")
            recipes = method_spec(experiment.method).recipes
            if clash := config.checkpoints.keys() & set(recipes):
                raise InputError(f"checkpoints: {clash.pop()}: a recipe of {experiment.method} has this name")
            offered = [*recipes, *config.checkpoints] if experiment.pretrain else recipes
            _known(experiment.recipe, offered, f"{where}: recipe")
        pretrains = bool(experiment.pretrain) and experiment.recipe not in config.checkpoints
        if pretrains != bool(experiment.pretrain_seeds):
            raise InputError(
                f"{where}: pretrain_seeds are given where a network is pre-trained, and only there"
            )
    if not experiments:
        raise InputError(f"{path}: holds no experiment")
    return [experiment for experiment in experiments if table is None or table in experiment.tables]


def _parse(row: dict[str, str], where: str) -> Experiment:
    values: dict[str, Any] = {name: value for name, value in row.items() if value != ""}
    for name in {"pretrain_seeds", "seeds", "tables"} & values.keys():
        values[name] = values[name].split()
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        item = max(
            error.errors(), key=lambda item: item["type"] == "extra_forbidden"
        )  # a typo explains the rest
        column = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            raise unknown(f"{where}: column", column, Experiment.model_fields) from None
        raise InputError(f"{where}: {column + ': ' if column else ''}{item['msg']}") from None


def _check_features(config: Config, experiment: Experiment, where: str) -> None:
    """Refuse a network for intensity on colours, and the reverse: its first layer would start at random."""
    source, target = (
        get_dataset(config.datasets[name].format) for name in (experiment.pretrain, experiment.target)
    )
    if source.feature_channels != target.feature_channels:
        raise InputError(
            f"{where}: points of {experiment.pretrain} have {source.feature_channels} features, those of "
            f"{experiment.target} have {target.feature_channels}; expected as many (the formats whose names "
            "end in _occupancy have one)"
        )


def _known(value: str, valid: Iterable[str], where: str) -> None:
    if value not in valid:
        raise unknown(where, value, valid)


def teacher_run(config: Config) -> Run:
    """The run that trains (or fetches) the CLIP teacher.

    Raises:
        InputError: it is to be trained on a data set that has no captions.
    """
    sources = config.teacher.datasets if config.teacher.pretrained == "train" else ()
    made = {name: section.synthetic for name, section in config.datasets.items() if section.synthetic}
    captioned = [name for name, parameters in made.items() if parameters.captioned]
    for name in sources:
        _known(name, captioned, "teacher.datasets: data set with captions")
    return _keyed(Run("teacher", pretrain=" ".join(sources), seed=config.seed), config)


def encoder_run(config: Config) -> Run:
    """The run that trains (or fetches) the self-supervised image encoder.

    Raises:
        InputError: it is to be trained on a data set that does not exist.
    """
    sources = config.image_encoder.datasets if config.image_encoder.pretrained == "train" else ()
    for name in sources:
        _known(name, config.datasets, "image_encoder.datasets: data set")
    return _keyed(Run("encoder", pretrain=" ".join(sources), seed=config.seed), config)


def runs_of(config: Config, experiment: Experiment) -> list[Run]:
    """The runs that fill the experiment's cell, one a pair of seeds."""
    return [run for run in _chain(config, experiment) if run.kind not in ("teacher", "encoder", "pretrain")]


def all_runs(config: Config, table: Table | None = None) -> dict[str, Run]:
    """Every run that the table of experiments asks for, by key, a run after those it starts from.

    Args:
        config: The configuration.
        table: Only those of this result table.
    """
    runs = (run for experiment in load_experiments(config, table) for run in _chain(config, experiment))
    return {run.key: run for run in runs}


def _chain(config: Config, e: Experiment) -> list[Run]:
    """An experiment's runs, each after the runs it starts from."""
    if e.method == TEACHER:
        teacher = teacher_run(config)
        run = Run("projection", method=e.method, target=e.target, parent=teacher.key)
        return [teacher, _keyed(run, config)]
    chain = [run for seed in e.pretrain_seeds for run in _pretraining(config, e, seed)]
    if e.protocol == "annotation_free" and e.recipe in config.checkpoints:
        chain = [teacher_run(config)]  # by whose text embeddings it is judged
    nothing = Run("pretrain")  # has no key
    for parent in [run for run in chain if run.kind == "pretrain"] or [*chain] or [nothing]:
        run = Run(
            e.protocol, method=e.method, recipe=e.recipe, backbone=e.backbone, pretrain=e.pretrain,
            target=e.target, percent=e.percent, rule=e.rule, seed=parent.seed, parent=parent.key,
        )  # fmt: skip
        seeds = e.seeds or (parent.seed,)  # annotation-free evaluation draws nothing at random
        chain += [_keyed(replace(run, seed=seed), config) for seed in seeds]
    return chain


def _pretraining(config: Config, e: Experiment, seed: int) -> list[Run]:
    """The pre-training run behind an experiment at one seed, after the teacher and encoder it learns from."""
    run = Run(
        "pretrain", method=e.method, recipe=e.recipe, backbone=e.backbone, pretrain=e.pretrain, seed=seed
    )
    learns_from = [teacher_run(config)] if run.needs & {"teacher", "text"} else []
    learns_from += [encoder_run(config)] if "encoder" in run.needs else []
    run = replace(run, parent=" ".join(source.key for source in learns_from))
    return [*learns_from, _keyed(run, config)]


def settings(config: Config, run: Run) -> dict[str, Any]:
    """The part of the configuration that bears on what a run computes; not where it runs, nor how fast."""
    values: dict[str, Any] = {
        "precision": config.precision,
        "threads": config.threads,
        "backend": config.backend,
    }
    if run.recipe in config.checkpoints:
        values["checkpoint"] = str(config.checkpoints[run.recipe])
    match run.kind:
        case "teacher":
            values["teacher"] = config.teacher.model_dump()
        case "encoder":
            values["image_encoder"] = config.image_encoder.model_dump()
        case "pretrain":
            values["pretraining"] = (
                config.on(run.pretrain).pretrain.of(run.method).model_dump(exclude={"by_method"})
            )
        case "finetune" | "linear_probe":
            values["finetuning"] = config.on(run.target).finetune.model_dump()
    if run.backbone:
        values["network"] = config.backbones[run.backbone].model_dump()
    sources, targets = run.pretrain.split(), run.target.split()
    for role, names in (("pretraining_data", sources), ("data", targets)):
        for name in names:
            part = role if len(names) == 1 else f"{role}.{name}"
            values[part] = config.datasets[name].model_dump(exclude={"root", "pretrain", "finetune"})
    if any(config.datasets[name].synthetic for name in (*sources, *targets)):
        values["data_seed"] = config.seed
    return values


def digest(*values: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of JSON values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _keyed(run: Run, config: Config) -> Run:
    return replace(run, key=digest(asdict(replace(run, key="")), settings(config, run)))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys dotted."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
