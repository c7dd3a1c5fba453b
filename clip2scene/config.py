"""The configuration: every key with its type, unit, default and meaning. Unknown keys are errors.

`config/schema.json` is written from here (``clip2scene schema``), so that editors complete and check keys.
The defaults are the embedded experiment; `config/paper.yaml` holds the paper's.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from clip2scene.config_data import DatasetConfig, Fraction, Positive, Rooms, Section, Synthetic
from clip2scene.errors import InputError

__all__ = ["Config", "DatasetConfig", "Rooms", "Section", "Synthetic", "load_config", "parse_config"]


class TeacherTraining(Section):
    """Contrastive training of the embedded teacher on crops and captions of synthetic images."""

    steps: Positive = 500
    """Optimiser steps."""
    batch_size: Positive = 32
    """Crops a step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW, cosine schedule."""


class Teacher(Section):
    """The CLIP model whose dense features (MaskCLIP) are distilled."""

    architecture: str = "embedded"
    """open_clip architecture, e.g. ViT-B-16; ``embedded`` is the small one that the workflow trains."""
    pretrained: str = "train"
    """``train`` (train it here on the synthetic images), an open_clip tag (``openai``), or a local file."""
    datasets: tuple[str, ...] = Field(default=("nuscenes",), min_length=1)
    """Synthetic data sets whose captions train it, where `pretrained` is ``train``."""
    image_scale: float = Field(default=2.0, gt=0)
    """Images are enlarged by this factor before the image tower."""
    training: TeacherTraining = TeacherTraining()
    """Used where `pretrained` is ``train``."""


class EncoderTraining(Section):
    """Self-supervised training of the embedded image encoder."""

    steps: Positive = 50
    """Optimiser steps."""
    batch_size: Positive = 16
    """Images a step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate of AdamW, cosine schedule."""


class ImageEncoder(Section):
    """The self-supervised image encoder that PPKT and SLidR distil."""

    architecture: str = "embedded"
    """timm ResNet, e.g. resnet50; ``embedded`` is a resnet10t with a quarter of its channels."""
    pretrained: str = "train"
    """``train`` (train it here without labels), a timm tag, or a local file such as MoCo v2's."""
    datasets: tuple[str, ...] = Field(default=("nuscenes",), min_length=1)
    """Data sets whose pre-training images it is trained on, where `pretrained` is ``train``."""
    training: EncoderTraining = EncoderTraining()
    """Used where `pretrained` is ``train``."""


class Backbone(Section):
    """A 3D network."""

    width: float = Field(default=0.125, gt=0)
    """Factor on every channel count; 1 is the published network."""
    coordinates: Literal["cartesian", "cylindrical"] = "cartesian"
    """Voxels in x, y, z or, as SLidR quantises nuScenes, in radius, azimuth (1 degree a voxel) and z."""


class Optimiser(Section):
    """SGD with a cosine schedule over the whole run."""

    learning_rate: float = Field(default=0.1, gt=0)
    """Initial learning rate."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    dampening: Fraction = 0.1
    """Dampening of SGD."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay."""


class Crop(Section):
    """Random crop of the camera images before the image encoder (SLidR's ResizedCrop)."""

    size: tuple[Positive, Positive] = (96, 176)
    """Height and width after resizing, pixels; the paper's are 224 and 416."""
    scale: tuple[Fraction, Fraction] = (0.3, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: tuple[float, float] = (14 / 9, 17 / 9)
    """Smallest and largest ratio of width to height."""
    minimum_pairs: Positive = 1024
    """A crop is taken if it keeps this many point-pixel pairs, or `minimum_share` of them."""
    minimum_share: Fraction = 0.75
    """See `minimum_pairs`."""


class Superpixels(Section):
    """SLIC superpixels, as SLidR computes them."""

    segments: Positive = 150
    """Number of superpixels an image, about."""
    compactness: float = 6.0
    """Weight of distance against colour."""
    sigma: float = 3.0
    """Width of the Gaussian blur before, pixels."""


class Pretraining(Section):
    """Pre-training of the 3D network, the same for every method unless `by_method` says otherwise."""

    epochs: Positive = 3
    """Passes over the pre-training split."""
    batch_size: Positive = 1
    """Samples a step."""
    sweeps: Positive = 3
    """Sweeps a sample (K), the keyframe included, for methods that use several."""
    consecutive_sweeps: bool = False
    """Take the K - 1 sweeps just before the keyframe rather than a random choice of those recorded."""
    optimiser: Optimiser = Optimiser()
    """SGD."""
    images: Positive = 8
    """Images a sample, drawn at random where a frame has more, as a whole ScanNet scan does."""
    crop: Crop = Crop()
    """Image augmentation."""
    pairs: Positive = 1024
    """Point-pixel pairs a step that PPKT contrasts; the paper's are 4096."""
    drop_cuboids: bool = False
    """Drop the points in a random cuboid (DropCuboids), as SLidR and PPKT do and CLIP2Scene does not."""
    superpixels: Superpixels = Superpixels()
    """For the methods that need them."""
    by_method: dict[str, dict[str, Any]] = Field(default={})
    """Keys of this section that one method has otherwise, e.g. ``{ppkt: {epochs: 50}}``."""

    def of(self, method: str) -> "Pretraining":
        """The section as `method` sees it."""
        return type(self)(**{**self.model_dump(exclude={"by_method"}), **self.by_method.get(method, {})})


class Finetuning(Section):
    """Fine-tuning and linear probing on a fraction of the labels: cross-entropy + Lovász, SGD, cosine."""

    epochs: Positive = 2
    """Passes over the labelled subset."""
    minimum_steps: int = Field(default=24, ge=0)
    """Small subsets are repeated until the run has this many optimiser steps."""
    batch_size: Positive = 2
    """Frames a step."""
    optimiser: Optimiser = Optimiser(learning_rate=0.05)
    """SGD for the backbone."""
    head_learning_rate: float = Field(default=0.2, gt=0)
    """Learning rate of the classifier where the backbone was pre-trained (SLidR's lr_head: 2)."""
    random_learning_rate: float = Field(default=0.05, gt=0)
    """Learning rate of backbone and classifier where nothing was pre-trained (SLidR issue 11)."""
    probe_learning_rate: float = Field(default=0.05, gt=0)
    """Learning rate of the classifier on a frozen backbone (SLidR's README: lr 0.05, lr_head null)."""


class Tracking(Section):
    """MLflow, the mirror of the run files."""

    uri: str = "sqlite:///results/mlflow.db"
    """Tracking store."""
    experiment: str = "clip2scene"
    """Experiment that runs are sent to."""


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
    checkpoints: dict[str, Path] = Field(default={})
    """Networks pre-trained elsewhere, by name: written by ``clip2scene import-checkpoint`` or by another
    machine's pre-training. A row of the table of experiments with such a name as recipe starts from it."""
    finetune: Finetuning = Finetuning()
    """Fine-tuning."""
    tracking: Tracking = Tracking()
    """MLflow."""

    def on(self, dataset: str) -> "Config":
        """The configuration as a run on `dataset` sees it: its own keys prevail, over `by_method` too."""
        own, general = self.datasets[dataset].pretrain, self.pretrain.by_method
        by_method = {
            method: {key: value for key, value in keys.items() if key not in own}
            for method, keys in general.items()
        }
        by_method |= own.get("by_method", {})
        pretrain = Pretraining(**{**self.pretrain.model_dump(), **own, "by_method": by_method})
        finetune = Finetuning(**{**self.finetune.model_dump(), **self.datasets[dataset].finetune})
        return self.model_copy(update={"pretrain": pretrain, "finetune": finetune})


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
    try:
        config = Config.model_validate(values)
        for section in (config, *map(config.on, config.datasets)):
            for method in section.pretrain.by_method:
                section.pretrain.of(method)
    except ValidationError as error:
        raise InputError("; ".join(_explain(item, source) for item in error.errors())) from None
    return config


def _explain(item: dict[str, Any], source: str) -> str:
    key = ".".join(map(str, item["loc"]))
    if item["type"] != "extra_forbidden":
        return f"{source}: {key}: {item['msg']}, found {item['input']!r}"
    names = sorted({name.rpartition(".")[2] for name in _keys(Config)})
    near = difflib.get_close_matches(str(item["loc"][-1]), names, n=1)
    return f"{source}: {key}: unknown key" + (f", did you mean {near[0]}?" if near else "")


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section and of those below it, dotted."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, f"{prefix}{name}.")
