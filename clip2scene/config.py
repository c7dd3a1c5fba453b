"""The configuration: every key with its type, unit, default and meaning. Unknown keys are errors.

`config/schema.json` is written from here (``clip2scene schema``), so that editors complete and check keys.
The defaults are the embedded experiment; `config/paper.yaml` holds the paper's.
"""

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from clip2scene.config_data import DatasetConfig, Positive, Rooms, Section, Synthetic, merged
from clip2scene.config_training import (
    Backbone,
    Crop,
    Finetuning,
    ImageEncoder,
    Optimiser,
    Pretraining,
    Superpixels,
    Teacher,
)
from clip2scene.errors import InputError
from clip2scene.method.spec import method_names, method_spec

__all__ = [
    "Backbone", "Config", "Crop", "DatasetConfig", "Finetuning", "ImageEncoder", "Optimiser", "Pretraining",
    "Rooms", "Section", "Superpixels", "Synthetic", "Teacher", "load_config", "parse_config",
]  # fmt: skip


T = TypeVar("T")


class Tracking(Section):
    """MLflow, the mirror of the run files."""

    uri: str = "sqlite:///results/mlflow.db"
    """Tracking store."""
    experiment: str = "clip2scene"
    """Experiment that runs are sent to."""


class Checkpoint(Section):
    """A pre-trained network from elsewhere: an imported one, or another machine's."""

    file: Path
    """Written by ``clip2scene import-checkpoint``, or a pre-training run's ``checkpoint.pt``."""
    recipe: str = ""
    """Recipe it was trained with; published numbers of this recipe stand beside its rows."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, values: Any) -> Any:
        """Accept a path in place of the section."""
        return {"file": values} if isinstance(values, str | Path) else values


class Config(Section):
    """The whole configuration."""

    experiments: Path = Path("config/experiments.tsv")
    """Table of experiments: one row a cell to fill."""
    results: Path = Path("results")
    """Folder for everything the workflow writes."""
    seed: int = Field(default=0, ge=0)
    """Seed of data generation, teacher and image encoder; runs have their own in the table of experiments."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a GPU."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Precision of training."""
    threads: Positive = 1
    """CPU threads of a job; another number adds floats in another order, so it changes the last digits."""
    workers: int = Field(default=0, ge=0)
    """Data loader processes of a job."""
    share_process: bool = True
    """Runs of one method share a process (start-up dominates small runs); false: a job each."""
    backend: Literal["native", "minkowski"] = "native"
    """Engine for sparse convolution; minkowski: MinkowskiEngine, where it is installed."""
    datasets: dict[str, DatasetConfig]
    """Data sets by name."""
    teacher: Teacher = Teacher()
    """CLIP."""
    image_encoder: ImageEncoder = ImageEncoder()
    """For PPKT and SLidR."""
    backbones: dict[str, Backbone] = Field(default={"spvcnn": Backbone()})
    """3D networks that the table of experiments names."""
    pretrain: Pretraining = Pretraining()
    """Pre-training."""
    methods: dict[str, dict[str, Any]] = Field(default={})
    """Settings that a method brings itself, by method, e.g. ``{ppkt: {pairs: 4096}}``."""
    checkpoints: dict[str, Checkpoint] = Field(default={})
    """Networks pre-trained elsewhere, by name. A row of the table of experiments with such a name as its
    recipe starts from the file."""
    finetune: Finetuning = Finetuning()
    """Fine-tuning."""
    variants: dict[str, dict[str, Any]] = Field(default={})
    """Presets by name, merged deeply over this configuration for the rows whose column `variant` names them,
    e.g. ``{one_sweep: {pretrain: {sweeps: 1}}}``."""
    tracking: Tracking = Tracking()
    """MLflow."""

    def pretraining(self, dataset: str, method: str) -> Pretraining:
        """Return `pretrain` as `method` sees it on `dataset`.

        From weakest to strongest: the section itself, its `by_method`, the data set's own `pretrain`, and
        the `by_method` in there.
        """
        values = self.pretrain.model_dump(exclude={"by_method"})
        own = dict(self.datasets[dataset].pretrain)
        own_by_method = own.pop("by_method", {})
        for layer in (self.pretrain.by_method.get(method, {}), own, own_by_method.get(method, {})):
            if "by_method" in layer:
                raise InputError("by_method: found within by_method; expected keys of `pretrain`")
            values = merged(values, layer)
        return Pretraining.model_validate(values)

    def finetuning(self, dataset: str) -> Finetuning:
        """Return `finetune` with the data set's own settings merged over it."""
        own = self.datasets[dataset].finetune
        return Finetuning.model_validate(merged(self.finetune.model_dump(), own))

    def method(self, name: str) -> Section | None:
        """Return the typed settings that the method `name` brings; None if it has none.

        Raises:
            InputError: it has none, and the configuration gives it some.
        """
        settings, values = method_spec(name).settings, self.methods.get(name, {})
        if settings is None and values:
            raise InputError(f"{next(iter(values))}: method {name} has no settings of its own")
        return settings and settings.model_validate(values)

    def varied(self, variant: str) -> "Config":
        """Return the configuration with a preset of `variants` merged over it; itself for the empty name.

        Raises:
            ValidationError: the preset holds a wrong key or value.
            InputError: it changes a key that holds for the whole study.
        """
        if not variant:
            return self
        changes = self.variants[variant]
        if fixed := sorted({*changes} & FIXED_BY_STUDY):
            raise InputError(f"{fixed[0]}: holds for the whole study, not for one row")
        return Config.model_validate(merged(self.model_dump(exclude={"variants"}), changes))

    def derived(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield every section that is put together on demand: its place in the file, and how it is built."""
        for dataset, section in self.datasets.items():
            yield f"datasets.{dataset}.finetune", partial(self.finetuning, dataset)
            yield f"datasets.{dataset}.pretrain", partial(self.pretraining, dataset, "")
            own = f"datasets.{dataset}.pretrain", section.pretrain.get("by_method", {})
            for place, by_method in (("pretrain", self.pretrain.by_method), own):
                for method in by_method:
                    yield f"{place}.by_method", partial(method_spec, method)
                    yield f"{place}.by_method.{method}", partial(self.pretraining, dataset, method)
        for method in self.methods:
            yield f"methods.{method}", partial(self.method, method)
        for name in self.variants:
            yield f"variants.{name}", partial(self.varied, name)


FIXED_BY_STUDY = frozenset({"experiments", "results", "tracking", "variants", "share_process", "checkpoints"})
"""Keys that a variant may not change."""


def load_config(path: str | Path) -> Config:
    """Read a YAML configuration.

    Raises:
        InputError: the file is missing, is not YAML, or a key is unknown (the nearest valid one is named),
            missing or of the wrong type; every such key is listed.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({error})") from None
    return parse_config(values, str(path))


def parse_config(values: Any, source: str) -> Config:
    """Check a configuration that was read from `source`; see `load_config`."""
    if not isinstance(values, dict):
        raise InputError(f"{source}: expected a mapping of configuration keys, found {type(values).__name__}")
    config = _build(source, "", partial(Config.model_validate, values))
    _check_derived(config, source, "")
    return config


def _check_derived(config: Config, source: str, prefix: str) -> None:
    """Build every section that is put together on demand, in the variants too."""
    for place, build in config.derived():
        built = _build(source, f"{prefix}{place}.", build)
        if isinstance(built, Config):
            _check_derived(built, source, f"{prefix}{place}.")


def _build(source: str, prefix: str, build: Callable[[], T]) -> T:
    """Return what `build` makes; its errors name the file and the key, `prefix` included."""
    try:
        return build()
    except ValidationError as error:
        raise InputError("; ".join(_explain(item, source, prefix) for item in error.errors())) from None
    except InputError as error:
        raise InputError(f"{source}: {prefix.removesuffix('.')}: {error}") from None


def _explain(item: dict[str, Any], source: str, prefix: str) -> str:
    loc = item["loc"]
    if loc[:1] == ("datasets",) and loc[2:3] == ("synthetic",):
        loc = loc[:3] + loc[4:]  # without the format, which pydantic adds
    key = prefix + ".".join(map(str, loc))
    if item["type"] != "extra_forbidden":
        return f"{source}: {key}: {item['msg']}, found {item['input']!r}"
    places = {name.rpartition(".")[2]: name for name in reversed(list(_all_keys()))}
    near = difflib.get_close_matches(str(loc[-1]), sorted(places), n=1)
    if near == [loc[-1]]:  # a key of another section
        near = [places[loc[-1]]]
    return f"{source}: {key}: unknown key" + (f", did you mean {near[0]}?" if near else "")


def _all_keys() -> Iterator[str]:
    """Yield every key of the configuration and of the methods' own settings, dotted."""
    yield from _keys(Config)
    for method in method_names():
        if settings := method_spec(method).settings:
            yield from _keys(settings, f"methods.{method}.")


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key of a section and of those below it, dotted."""
    for name, field in section.model_fields.items():
        yield prefix + name
        below = f"{prefix}{name}.<name>." if get_origin(field.annotation) is dict else f"{prefix}{name}."
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, below)
