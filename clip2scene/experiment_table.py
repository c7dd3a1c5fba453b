"""The table of experiments, read and checked against the configuration and all registered names."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clip2scene.config import Config
from clip2scene.config_types import describe
from clip2scene.datasets.registry import get_dataset
from clip2scene.datasets.rules import id_file
from clip2scene.errors import InputError, unknown
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.method.spec import method_spec
from clip2scene.models.architectures import architecture
from clip2scene.reporting.registry import shows, table_names
from clip2scene.stages.base import protocols
from clip2scene.text_tables import read_tsv

_CELL = (
    "protocol", "method", "recipe", "backbone", "pretrain", "target", "percent", "rule", "variant",
)  # fmt: skip
"""Fields that say which cell of a table a row fills."""


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
    required = [name for name, field in Experiment.model_fields.items() if field.is_required()]
    experiments: list[Experiment] = []
    lines: dict[tuple[Any, ...], int] = {}
    for line, row in read_tsv(path, required, Experiment.model_fields):
        where = f"{path}: line {line}"
        experiments.append(experiment := _parse(row, where))
        try:
            _check(config, experiment)
            _check_alone(experiment, line, lines)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    if not experiments:
        raise InputError(f"{path}: holds no experiment; expected a row a cell")
    return [experiment for experiment in experiments if table is None or shows(table, experiment)]


def _parse(row: dict[str, str], where: str) -> Experiment:
    values: dict[str, Any] = {name: value for name, value in row.items() if value != ""}
    for name in {"pretrain_seeds", "seeds", "tables"} & values.keys():
        values[name] = values[name].split()
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        column = f"{item['loc'][0]}: " if item["loc"] else ""
        words = "is empty; expected a name" if item["type"] == "missing" else describe(item)
        raise InputError(f"{where}: {column}{words}") from None


def _check_alone(experiment: Experiment, line: int, lines: dict[tuple[Any, ...], int]) -> None:
    """Refuse a row that fills the same cell of a table as an earlier one, whose line is in `lines`."""
    for table in experiment.tables:
        cell = (table, *(getattr(experiment, name) for name in _CELL))
        if cell in lines:
            raise InputError(
                f"fills the same cell of table {table} as line {lines[cell]}; expected one row with all its "
                "seeds"
            )
        lines[cell] = line


def _check(config: Config, e: Experiment) -> None:
    """Check a row against the configuration and the registered names."""
    _known(e.variant, ["", *config.presets], "variant")
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
        if start := config.checkpoints.get(e.recipe):
            _known(start.recipe, ["", *recipes], f"checkpoints.{e.recipe}.recipe")
    if (bool(e.pretrain) and e.recipe not in config.checkpoints) != bool(e.pretrain_seeds):
        raise InputError("pretrain_seeds are given where a network is pre-trained, and only there")
    protocol.check(config, e)
    _check_file(id_file(e.rule))


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


def _check_file(ids: Path | None) -> None:
    """Refuse a list of keyframe ids that is not there."""
    if ids is not None and not ids.is_file():
        found = "is a folder" if ids.is_dir() else "no such file"
        raise InputError(f"rule: {ids}: {found}; expected a text file with a keyframe id a line")


def _known(value: str, valid: Iterable[str], where: str) -> None:
    if value not in valid:
        raise unknown(where, value, valid)
