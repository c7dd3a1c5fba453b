"""The table of experiments: a row a cell of the result tables. Read at every job: imports no torch."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from clip2scene.config import Config, Section
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.rules import RULES, id_file, skip_of
from clip2scene.errors import InputError, unknown
from clip2scene.method.spec import method_spec
from clip2scene.models.architectures import architecture

TEACHER = "maskclip_projection"
"""Method name of the teacher's own row."""


class Experiment(Section):
    """One row of the table of experiments: one cell of a result table, filled by a run a seed."""

    protocol: str
    """Registered protocol: how the pre-trained network is judged."""
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
    rule: str = ""
    """How that share is drawn: frame_skip, scene_skip, or file:<path>, a list of keyframe ids; empty at 0
    and 100 percent."""
    pretrain_seeds: tuple[int, ...] = ()
    """Seeds of pre-training; none where the row starts from a checkpoint."""
    seeds: tuple[int, ...] = ()
    """Seeds of fine-tuning; every pre-training seed is combined with every one of them."""
    variant: str = ""
    """Preset of the configuration's `variants` that is merged over it for this row."""
    tables: tuple[str, ...] = ("main",)
    """The result tables that have this row."""

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        if bool(self.rule) != (0 < self.percent < 100):
            raise ValueError("a rule is needed for a share between 0 and 100 percent, and only there")
        if self.rule and self.rule not in RULES and id_file(self.rule) is None:
            expected = f"expected {', '.join(RULES)} or file:<path>"
            raise ValueError(f"rule {self.rule!r} is not known, {expected}")
        if self.rule in RULES:
            skip_of(self.percent, self.rule)
        if self.method != TEACHER and bool(self.pretrain) != (
            method_spec(self.method).implementation is not None
        ):
            raise ValueError("pretrain names a data set where the method pre-trains, and only there")
        return self


def load_experiments(config: Config, table: str | None = None) -> list[Experiment]:
    """Read and check the table of experiments that `config` names.

    Args:
        config: The configuration.
        table: Return only the rows of this result table.

    Raises:
        InputError: the file is missing, a column is not known, or a row names a protocol, data set, backbone,
            method, recipe or variant that does not exist, or asks for what its protocol cannot do.
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
        try:
            _check(config, experiment)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
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
        )  # a typing error explains the rest
        column = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            raise unknown(f"{where}: column", column, Experiment.model_fields) from None
        message = item["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {column + ': ' if column else ''}{message}") from None


def _check(config: Config, e: Experiment) -> None:
    """Check a row against the configuration and the registered names."""
    from clip2scene.reporting.registry import table_names  # these two import this module
    from clip2scene.stages.base import protocols

    _known(e.variant, ["", *config.variants], "variant")
    config = config.varied(e.variant)
    _known(e.protocol, protocols(), "protocol")
    for table in e.tables:
        _known(table, table_names(), "tables")
    protocol = protocols()[e.protocol]
    if protocol.labelled != (e.percent > 0) or protocol.labelled != bool(e.seeds):
        words = "are needed" if protocol.labelled else "have no meaning"
        raise InputError(f"percent and seeds {words} for the protocol {e.protocol}")
    _known(e.target, config.datasets, "target")
    if e.pretrain:
        _known(e.pretrain, config.datasets, "pretrain")
        _check_features(config, e)
    if e.method != TEACHER:
        _known(e.backbone, config.backbones, "backbone")
        architecture(e.backbone)
        recipes = method_spec(e.method).recipes
        if clash := config.checkpoints.keys() & set(recipes):
            raise InputError(f"checkpoints: {clash.pop()}: a recipe of {e.method} has this name")
        _known(e.recipe, [*recipes, *config.checkpoints] if e.pretrain else recipes, "recipe")
    if (bool(e.pretrain) and e.recipe not in config.checkpoints) != bool(e.pretrain_seeds):
        raise InputError("pretrain_seeds are given where a network is pre-trained, and only there")
    protocol.check(config, e)


def _check_features(config: Config, experiment: Experiment) -> None:
    """Refuse a network for intensity on colours, and the reverse: its first layer would start at random."""
    source, target = (
        get_dataset(config.datasets[name].format) for name in (experiment.pretrain, experiment.target)
    )
    if source.feature_channels != target.feature_channels:
        raise InputError(
            f"points of {experiment.pretrain} have {source.feature_channels} features, those of "
            f"{experiment.target} have {target.feature_channels}; expected as many (the formats whose names "
            "end in _occupancy have one)"
        )


def _known(value: str, valid: Iterable[str], where: str) -> None:
    if value not in valid:
        raise unknown(where, value, valid)
