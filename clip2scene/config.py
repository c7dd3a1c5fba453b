"""The configuration: every key with its type, unit, default and meaning. Unknown keys are errors.

`config/schema.json` is written from here (``clip2scene schema``), so that editors complete and check keys.
The defaults are the embedded study; `config/paper.yaml` holds the paper's.
"""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from clip2scene.config_data import DatasetConfig, Rooms, Synthetic, merged
from clip2scene.config_training import (
    Backbone,
    Crop,
    Finetuning,
    ImageEncoder,
    Optimiser,
    Pretraining,
    Superpixels,
    Teacher,
    Validation,
)
from clip2scene.config_types import Line, Name, Place, Section, Seed, explain, shortened
from clip2scene.config_variants import PRESETS
from clip2scene.config_yaml import load_yaml
from clip2scene.errors import InputError, unknown
from clip2scene.method.spec import method_names, method_spec
from clip2scene.registry import entry

__all__ = [
    "Backbone", "Config", "Crop", "DatasetConfig", "Finetuning", "ImageEncoder", "Optimiser", "Pretraining",
    "Rooms", "Section", "Superpixels", "Synthetic", "Teacher", "Validation", "load_config", "parse_config",
]  # fmt: skip


T = TypeVar("T")


class Tracking(Section):
    """MLflow, the mirror of the run files."""

    uri: str = "sqlite:///results/mlflow.db"
    """Tracking store: a file, or the address of a server or database."""
    experiment: Line = Field(default="clip2scene", max_length=200)
    """Experiment that runs are sent to."""
    checkpoints: bool = False
    """Send weights too: a model in MLflow otherwise says where its checkpoint lies, and its hash."""

    @field_validator("uri")
    @classmethod
    def _names_a_store(cls, uri: str) -> str:
        """Refuse an address that MLflow would take for another kind of store, or for one in memory."""
        scheme, _, place = uri.partition(":")
        if scheme.partition("+")[0] == "sqlite" and not re.match(r"///(?!:memory:)[^/]|////[^/]", place):
            raise ValueError(
                f"found {uri!r}; expected three slashes and a file, as in sqlite:///results/mlflow.db "
                "(four before an absolute path)"
            )
        if not place and uri != "databricks":
            raise ValueError(
                f"found {uri!r}; expected an address such as sqlite:///results/mlflow.db or https://..."
            )
        return uri


class Checkpoint(Section):
    """A pre-trained network from elsewhere: an imported one, or another machine's."""

    file: Place
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

    experiments: Place = Path("config/experiments.tsv")
    """Table of experiments: one row a cell to fill."""
    claims: Place = Path("config/claims.tsv")
    """Table of claims: sentences that are tested on the cells, one a row."""
    results: Place = Path("results")
    """Folder for everything the workflow writes."""
    seed: Seed = 0
    """Seed of data generation, teacher and image encoder; runs have their own in the table of experiments."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a GPU."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Precision of training: bf16-mixed computes layers in bfloat16, and coordinates, losses and norms in
    float32."""
    tf32: bool = False
    """Let a GPU round the factors of float32 products to TensorFloat-32 (10 bits of mantissa)."""
    arithmetic: Literal["portable", "native"] = "portable"
    """On a CPU, portable: the same bytes on every x86-64 processor with AVX2, for any number of threads.
    native: matrix products and convolutions by MKL and oneDNN, which differ in the last digits."""
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of a job. With native arithmetic, another number changes the last digits."""
    processes: int = Field(default=1, ge=1, le=1024)
    """Processes that train a run together, each with a GPU where there are some; they share a batch."""
    workers: int = Field(default=0, ge=0, le=1024)
    """Data loader processes of a job."""
    checkpoint_minutes: float = Field(default=10, ge=0, le=10_000)
    """Minutes between two saved states of a training run, from which it continues after a kill."""
    validation: Validation = Validation()
    """Validation while a network is trained; it changes no weights."""
    share_process: bool = True
    """Runs of one method share a process (start-up dominates small runs); false: a job each."""
    backend: Literal["native", "minkowski"] = "native"
    """Engine for sparse convolution; minkowski: MinkowskiEngine, where it is installed."""
    datasets: dict[Name, DatasetConfig] = Field(min_length=1)
    """Data sets by name."""
    teacher: Teacher = Teacher()
    """CLIP."""
    image_encoder: ImageEncoder = ImageEncoder()
    """For PPKT and SLidR."""
    backbones: dict[Name, Backbone] = Field(default={"spvcnn": Backbone()})
    """3D networks that the table of experiments names."""
    pretrain: Pretraining = Pretraining()
    """Pre-training."""
    methods: dict[str, dict[str, Any]] = Field(default={})
    """Settings that a method brings itself, by method, e.g. ``{ppkt: {pairs: 4096}}``."""
    checkpoints: dict[Name, Checkpoint] = Field(default={})
    """Networks pre-trained elsewhere, by name. A row of the table of experiments with such a name as its
    recipe starts from the file."""
    finetune: Finetuning = Finetuning()
    """Fine-tuning."""
    variants: dict[Name, dict[str, Any]] = Field(default={})
    """Presets by name, merged deeply over this configuration for the rows whose column `variant` names them,
    e.g. ``{one_sweep: {pretrain: {sweeps: 1}}}``. Those of `clip2scene.config_variants` are always there."""
    tracking: Tracking = Tracking()
    """MLflow."""

    @field_validator("results")
    @classmethod
    def _snakemake_can_name_it(cls, results: Path) -> Path:
        """Refuse brackets that Snakemake takes for wildcards and variables of paths."""
        if {*"{}<>"} & {*str(results)}:
            raise ValueError(
                f"found {str(results)!r}; expected a folder without {{ }} < >, which are Snakemake's own"
            )
        return results

    @model_validator(mode="after")
    def _roots_are_apart(self) -> "Config":
        """Refuse one folder for two data sets, unless both are read from it as different data."""
        found: dict[str, list[tuple[str, DatasetConfig]]] = {}
        for name, section in self.datasets.items():
            for other, its in found.setdefault(os.path.realpath(section.root), []):
                if (
                    section.synthetic
                    or its.synthetic
                    or (section.format, section.version) == (its.format, its.version)
                ):
                    raise ValueError(
                        f"datasets.{other} and datasets.{name} have one root, {section.root}; expected a "
                        "folder for each (a variant holds other settings for the same data)"
                    )
            found[os.path.realpath(section.root)].append((name, section))
        return self

    def pretraining(self, dataset: str, method: str, recipe: str = "") -> Pretraining:
        """Return `pretrain` as `method` sees it on `dataset` under a recipe.

        From weakest to strongest: the section itself, what the recipe brings, the section's `by_method`, the
        data set's own `pretrain`, and the `by_method` in there.
        """
        values = self.pretrain.model_dump(exclude={"by_method"})
        brought = method_spec(method).training.get(recipe, {}) if recipe else {}
        own = dict(self.datasets[dataset].pretrain)
        own_by_method = own.pop("by_method", {})
        by_method = self.pretrain.by_method.get(method, {})
        for layer in (brought, by_method, own, own_by_method.get(method, {})):
            if "by_method" in layer:
                raise InputError("by_method: found within by_method; expected keys of `pretrain`")
            values = merged(values, layer)
        return Pretraining.model_validate(values)

    def finetuning(self, dataset: str, backbone: str = "") -> Finetuning:
        """Return `finetune` for a 3D network on `dataset`.

        From weakest to strongest: the section itself, its `by_backbone`, the data set's own `finetune`, and
        the `by_backbone` in there.
        """
        values = self.finetune.model_dump(exclude={"by_backbone"})
        own = dict(self.datasets[dataset].finetune)
        own_by_backbone = own.pop("by_backbone", {})
        for layer in (self.finetune.by_backbone.get(backbone, {}), own, own_by_backbone.get(backbone, {})):
            if "by_backbone" in layer:
                raise InputError("by_backbone: found within by_backbone; expected keys of `finetune`")
            values = merged(values, layer)
        return Finetuning.model_validate(values)

    def judged_size(self, dataset: str) -> tuple[int, int] | None:
        """Return the height and width in pixels at which the teacher itself is judged; None: as they are."""
        crop = self.pretraining(dataset, "clip2scene").crop
        return crop.size if self.teacher.judged_at == "crop" else None

    def method(self, name: str) -> Section | None:
        """Return the typed settings that the method `name` brings; None if it has none.

        Raises:
            InputError: it has none, and the configuration gives it some.
        """
        settings, values = method_spec(name).settings, self.methods.get(name, {})
        if settings is None and values:
            raise InputError(f"{next(iter(values))}: method {name} has no settings of its own")
        return settings and settings.model_validate(values)

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """Presets by name: this configuration's `variants`, and those that every configuration has."""
        return PRESETS | self.variants

    def varied(self, variant: str) -> "Config":
        """Return the configuration with a preset merged over it; itself for the empty name.

        Raises:
            ValidationError: the preset holds a wrong key or value.
            InputError: it changes a key that holds for the whole study.
        """
        if not variant:
            return self
        changes = self.presets[variant]
        if fixed := sorted({*changes} & FIXED_BY_STUDY):
            raise InputError(f"{fixed[0]}: holds for the whole study, not for one row")
        datasets = changes.get("datasets") or {}
        if not isinstance(datasets, dict):
            raise InputError(f"datasets: expected keys and their values, found {shortened(datasets)}")
        for name, section in datasets.items():
            if name not in self.datasets and "root" not in (section or {}):
                raise unknown("datasets", name, self.datasets)
        return Config.model_validate(merged(self.model_dump(exclude={"variants"}), changes))

    def _check_sources(self, model: Teacher | ImageEncoder, captioned: bool) -> None:
        """Refuse data sets to train on that are not there, or have no captions.

        The default is not checked here: whoever trains nothing need not have that data set.
        """
        if model.pretrained != "train" or model.datasets == type(model)().datasets:
            return
        for name in model.datasets:
            if name not in self.datasets:
                raise unknown("data set", name, self.datasets)
            made = self.datasets[name].synthetic
            if captioned and not (made and made.captioned):
                raise InputError(
                    f"{name} has no captions; expected synthetic data sets of the formats nuscenes or scannet"
                )

    def derived(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield every section that is put together on demand: its place in the file, and how it is built."""
        for dataset, section in self.datasets.items():
            yield f"datasets.{dataset}", section.check_splits
            yield f"datasets.{dataset}.finetune", partial(self.finetuning, dataset)
            tuned = f"datasets.{dataset}.finetune", section.finetune.get("by_backbone", {})
            for place, by_backbone in (("finetune", self.finetune.by_backbone), tuned):
                for backbone in by_backbone:
                    yield f"{place}.by_backbone", partial(_known_backbone, self, backbone)
                    yield f"{place}.by_backbone.{backbone}", partial(self.finetuning, dataset, backbone)
            yield f"datasets.{dataset}.pretrain", partial(self.pretraining, dataset, "")
            own = f"datasets.{dataset}.pretrain", section.pretrain.get("by_method", {})
            for place, by_method in (("pretrain", self.pretrain.by_method), own):
                for method in by_method:
                    yield f"{place}.by_method", partial(_pretrains, method)
                    yield f"{place}.by_method.{method}", partial(self.pretraining, dataset, method)
        yield "teacher.datasets", partial(self._check_sources, self.teacher, captioned=True)
        yield "image_encoder.datasets", partial(self._check_sources, self.image_encoder, captioned=False)
        for backbone in self.backbones:
            yield "backbones", partial(entry, "clip2scene.backbones", "backbone", backbone)
        for method in self.methods:
            yield f"methods.{method}", partial(self.method, method)
        for name in self.variants:
            yield f"variants.{name}", partial(self.varied, name)


FIXED_BY_STUDY = frozenset({
    "experiments", "claims", "results", "tracking", "variants", "share_process", "checkpoints",
})  # fmt: skip
"""Keys that a variant may not change."""


def _known_backbone(config: Config, backbone: str) -> None:
    """Refuse settings of fine-tuning for a 3D network that the configuration does not have."""
    if backbone not in config.backbones:
        raise unknown("backbone", backbone, config.backbones)


def _pretrains(method: str) -> None:
    """Refuse settings of pre-training for a method that has none, or that does not exist."""
    if method_spec(method).implementation is None:
        raise InputError(f"{method}: this method pre-trains nothing; expected one that does")


def load_config(path: str | Path) -> Config:
    """Read a YAML configuration.

    Raises:
        InputError: the file is missing, is not YAML, or a key is unknown (the nearest valid one is named),
            missing or of the wrong type; every such key is listed.
    """
    return parse_config(load_yaml(path), str(path))


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
        raise InputError(
            "; ".join(explain(item, source, prefix, _all_keys) for item in error.errors())
        ) from None
    except InputError as error:
        raise InputError(f"{source}: {prefix.removesuffix('.')}: {error}") from None


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
