"""Sections of the configuration on training; `clip2scene.config` imports and re-exports them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from clip2scene.config_data import merged
from clip2scene.config_types import Count, Fraction, Line, Name, Positive, Rate, Section, Side, distinct

DatasetNames = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(distinct)]
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    """Refuse a smallest and a largest value that are given the other way round."""
    if limits[0] > limits[1]:
        raise ValueError(f"found {list(limits)}; expected the smallest first, then the largest")
    return limits


def _scheduled(steps: int) -> int:
    """Refuse ten steps, at which torch's OneCycleLR divides by zero: a rise of a tenth takes no step."""
    if steps == 10:
        raise ValueError(
            "found 10; expected fewer or more, as the learning rate's schedule has none for 10 steps"
        )
    return steps


Steps = Annotated[Positive, AfterValidator(_scheduled)]


class TeacherTraining(Section):
    """Contrastive training of the embedded teacher on crops and captions of synthetic images."""

    steps: Steps = 500
    """Optimiser steps."""
    batch_size: Count = 32
    """Crops a step."""
    learning_rate: Rate = 2e-3
    """Peak learning rate of AdamW, cosine schedule."""


class Teacher(Section):
    """The CLIP model whose dense features (MaskCLIP) are distilled."""

    architecture: Line = "embedded"
    """open_clip architecture, e.g. ViT-B-16; ``embedded`` is the small one that the workflow trains."""
    pretrained: Line = "train"
    """``train`` (train it here on the synthetic images), an open_clip tag (``openai``), or a local file."""
    datasets: DatasetNames = ("nuscenes",)
    """Synthetic data sets whose captions train it, where `pretrained` is ``train``."""
    image_scale: float = Field(default=2.0, ge=0.1, le=16)
    """Images are enlarged by this factor before the image tower."""
    judged_at: Literal["image", "crop"] = "image"
    """Size of the images on which the teacher itself is judged: image, as they are; crop, whole images at the
    size of CLIP2Scene's crops (`pretrain.crop.size`), from which its student learns."""
    training: TeacherTraining = TeacherTraining()
    """Used where `pretrained` is ``train``."""


class EncoderTraining(Section):
    """Self-supervised training of the embedded image encoder."""

    steps: Steps = 50
    """Optimiser steps."""
    batch_size: Count = 16
    """Images a step."""
    learning_rate: Rate = 2e-3
    """Peak learning rate of AdamW, cosine schedule."""


class ImageEncoder(Section):
    """The self-supervised image encoder that PPKT and SLidR distil."""

    architecture: Line = "embedded"
    """timm ResNet, e.g. resnet50; ``embedded`` is a resnet10t with a quarter of its channels."""
    pretrained: Line = "train"
    """``train`` (train it here without labels), a timm tag, or a local file such as MoCo v2's."""
    datasets: DatasetNames = ("nuscenes",)
    """Data sets whose pre-training images it is trained on, where `pretrained` is ``train``."""
    training: EncoderTraining = EncoderTraining()
    """Used where `pretrained` is ``train``."""


class Backbone(Section):
    """A 3D network."""

    width: float = Field(default=0.125, gt=0, le=16)
    """Factor on every channel count; 1 is the published network."""
    coordinates: Literal["cartesian", "cylindrical"] = "cartesian"
    """Voxels in x, y, z or, as SLidR quantises nuScenes, in radius, azimuth (1 degree a voxel) and z."""


class Optimiser(Section):
    """SGD with a cosine schedule over the whole run."""

    learning_rate: Rate = 0.1
    """Initial learning rate."""
    schedule: Literal["step", "epoch"] = "step"
    """The cosine moves at every step or, as in the codes of SLidR and CLIP2Scene, once an epoch."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    dampening: Fraction = 0.1
    """Dampening of SGD."""
    weight_decay: float = Field(default=1e-4, ge=0, le=10)
    """Weight decay."""


class Crop(Section):
    """Random crop of the camera images before the image encoder (SLidR's ResizedCrop)."""

    size: tuple[Side, Side] = (96, 176)
    """Height and width after resizing, pixels; the paper's are 224 and 416."""
    scale: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.3, 1.0)
    """Smallest and largest share of the image's area."""
    ratio: Annotated[tuple[Ratio, Ratio], AfterValidator(_rising)] = (14 / 9, 17 / 9)
    """Smallest and largest ratio of width to height."""
    minimum_pairs: Positive = 1024
    """A crop is taken if it keeps this many point-pixel pairs, or `minimum_share` of them."""
    minimum_share: Fraction = 0.75
    """See `minimum_pairs`."""


class Pretraining(Section):
    """Pre-training of the 3D network, the same for every method unless `by_method` says otherwise."""

    epochs: Positive = 3
    """Passes over the pre-training split."""
    batch_size: Count = 1
    """Samples a step."""
    sweeps: int = Field(default=3, ge=1, le=1000)
    """Sweeps a sample (K), the keyframe included, for methods that use several."""
    consecutive_sweeps: bool = False
    """Take the K - 1 sweeps just before the keyframe rather than a random choice of those recorded."""
    merge_sweeps: bool = False
    """The sweeps of a sample are one cloud to the network, rather than one each (Table 3's "merged")."""
    augmentation: Literal["sample", "cloud"] = "sample"
    """Unit that has a rotation, flips and crops of images of its own: a sample; or each of its clouds, as in
    CLIP2Scene's code, so that there are as many crops of every image."""
    prompts: Literal["", "nuscenes", "semantickitti", "scannet", "cityscapes", "all"] = ""
    """Classes that CLIP tells apart, if not the data set's own (Table 3). all: those of nuScenes,
    SemanticKITTI and Cityscapes. Evaluation without labels always has the data set's own."""
    optimiser: Optimiser = Optimiser()
    """SGD."""
    images: Count = 8
    """Images a sample, drawn at random where a frame has more, as a whole ScanNet scan does."""
    crop: Crop = Crop()
    """Image augmentation."""
    drop_cuboids: bool = False
    """Drop the points in a random cuboid (DropCuboids), as SLidR and PPKT do and CLIP2Scene does not; from
    each of PointContrast's views another one."""
    by_method: dict[str, dict[str, Any]] = Field(default={})
    """Keys of this section that differ for one method, merged deeply, e.g. ``{ppkt: {epochs: 50}}``."""


class Finetuning(Section):
    """Fine-tuning and linear probing on a fraction of the labels: cross-entropy + Lovász, SGD, cosine."""

    epochs: Positive = 2
    """Passes over the labelled subset."""
    minimum_steps: int = Field(default=24, ge=0, le=10_000_000)
    """Small subsets are repeated until the run has this many optimiser steps."""
    batch_size: Count = 2
    """Frames a step."""
    optimiser: Optimiser = Optimiser(learning_rate=0.05)
    """SGD for the backbone."""
    head_learning_rate: Rate = 0.2
    """Learning rate of the classifier where the backbone was pre-trained (SLidR's lr_head: 2)."""
    random_learning_rate: Rate = 0.05
    """Learning rate of backbone and classifier where nothing was pre-trained (SLidR issue 11)."""
    probe_learning_rate: Rate = 0.05
    """Learning rate of the classifier on a frozen backbone (SLidR's README: lr 0.05, lr_head null)."""
    by_backbone: dict[str, dict[str, Any]] = Field(default={})
    """Keys of this section that differ for one 3D network, merged deeply, as papers bring a network and a
    protocol together, e.g. ``{res16unet34c: {epochs: 100}}``."""

    @field_validator("optimiser", mode="before")
    @classmethod
    def _keeps_its_own_defaults(cls, values: Any) -> Any:
        """Merge what is given over this section's defaults, which are not those of pre-training."""
        default = cls.model_fields["optimiser"].default
        return merged(default.model_dump(), values) if isinstance(values, dict) else values


class Validation(Section):
    """Validation while a network is trained, on labelled keyframes that it does not learn from.

    They are taken evenly from the split ``verifying`` where a data set has one apart from its val_split, else
    from its train_split. A method that does not align points with text has no mIoU before fine-tuning.
    """

    every: int = Field(default=0, ge=0, le=10_000_000)
    """Steps between two validations; 0: none."""
    frames: Count = 50
    """Keyframes of a validation."""


class Superpixels(Section):
    """Parameters of SLIC superpixels, as SLidR computes them.

    A method that needs superpixels has such a section, named ``superpixels``, in its settings.
    """

    segments: int = Field(default=150, ge=1, le=65_535)
    """Approximate number of superpixels an image; they are stored in 16 bits."""
    compactness: float = Field(default=6.0, gt=0, le=1e6)
    """Weight of distance against colour."""
    sigma: float = Field(default=3.0, ge=0, le=100)
    """Width of the Gaussian blur before segmentation, pixels."""
