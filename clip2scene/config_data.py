"""Sections of the configuration on data sets; `clip2scene.config` imports and re-exports them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from clip2scene.config_types import Count, Fraction, Name, Place, Positive, Section, Side, distinct
from clip2scene.errors import unknown
from clip2scene.registry import entry

__all__ = ["DatasetConfig", "Fraction", "Positive", "Rooms", "Section", "Synthetic", "merged"]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` merged over it, mapping by mapping; any other value replaces the old."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value
    return result


_DATASETS = "clip2scene.datasets"
_STREET_SPLITS = ("train", "val", "parametrize", "verifying")
"""Splits of synthetic streets, in either format."""


class Synthetic(Section):
    """A synthetic data set: streets seen by a spinning lidar and cameras, written in its `format`."""

    format: Literal["nuscenes", "semantickitti"] = "nuscenes"
    """That of the data set, from which it is taken."""
    train_scenes: Count = 10
    """Scenes of the train split; SemanticKITTI's sequences 00 to 07, 09 and 10 at most."""
    val_scenes: Count = 4
    """Scenes of the val split; SemanticKITTI's is sequence 08."""
    keyframes: Count = 8
    """Keyframes a scene, at 2 Hz; SemanticKITTI's at 10 Hz, where every scan is one."""
    beams: int = Field(default=32, ge=1, le=1024)
    """Beams of the lidar; SemanticKITTI's has 64."""
    azimuth_steps: int = Field(default=200, ge=1, le=100_000)
    """Firings of each beam in a rotation; 1085 gives nuScenes' 34,720 rays."""
    drop_out: float = Field(default=0.05, ge=0, lt=1)
    """Share of returns lost at random."""
    range_noise: float = Field(default=0.02, ge=0, le=10)
    """Standard deviation of the measured range, metres."""
    image_size: tuple[Side, Side] = (180, 320)
    """Height and width of the camera images, pixels."""
    traffic: float = Field(default=1.0, ge=0, le=10)
    """Density of vehicles and people, relative to the default street."""
    without: Annotated[tuple[str, ...], AfterValidator(distinct)] = ()
    """nuScenes classes that no street holds, e.g. ``[car]``."""
    rain: Fraction = 0.0
    """Strength of rain: returns lost and weakened, wet ground, dim images."""

    @field_validator("without")
    @classmethod
    def _can_be_left_out(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what is no class, and the road, on which everything stands."""
        if names:
            valid = sorted({*entry(_DATASETS, "data set", "nuscenes").load().classes} - {"driveable_surface"})
            if wrong := [name for name in names if name not in valid]:
                expected = f"expected names among {', '.join(valid)}"
                raise ValueError(f"{wrong[0]!r} cannot be left out; {expected}")
        return names

    @model_validator(mode="after")
    def _as_many_as_sequences(self) -> "Synthetic":
        """Refuse more scenes than SemanticKITTI has sequences; of a default, the writer says so."""
        most = {"train_scenes": 10, "val_scenes": 1} if self.format == "semantickitti" else {}
        for key, count in most.items():
            if count < (found := getattr(self, key)) != type(self).model_fields[key].default:
                expected = f"expected at most {count}, as SemanticKITTI's split has"
                raise ValueError(f"{key}: found {found}; {expected}")
        return self

    @property
    def captioned(self) -> bool:
        """Say whether there are crops with captions, from which a teacher can be trained."""
        return self.format == "nuscenes"


class Rooms(Section):
    """A synthetic data set: furnished rooms scanned by a posed RGB-D camera."""

    format: Literal["scannet"] = "scannet"
    """That of the data set, from which it is taken."""
    train_rooms: Count = 8
    """Rooms of the train split; bedroom, living room, kitchen and bathroom take turns."""
    val_rooms: Count = 4
    """Rooms of the val split."""
    images: Count = 8
    """Images a room; three times as many frames are scanned for its mesh."""
    image_size: tuple[Side, Side] = (120, 160)
    """Height and width of the colour images, pixels."""
    depth_size: tuple[Side, Side] = (96, 128)
    """Height and width of the depth images, pixels."""
    depth_noise: float = Field(default=0.005, ge=0, le=10)
    """Standard deviation of the measured depth, metres."""
    vertex_spacing: float = Field(default=0.05, ge=0.005, le=1)
    """Distance of the mesh's vertices, about, metres; ScanNet's is 0.02."""

    @property
    def captioned(self) -> bool:
        """Say whether there are crops with captions, from which a teacher can be trained."""
        return True


class DatasetConfig(Section):
    """A data set: its place, its format, and the splits that are used."""

    format: str = "nuscenes"
    """Registered data set whose on-disk format this is."""
    root: Place
    """Folder of the data set as downloaded; made by the workflow where `synthetic` is given."""
    version: Name = "v1.0-trainval"
    """Version of the data set (nuScenes: the folder of its tables; ScanNet: that of its images)."""
    pretrain_split: Name = "parametrize"
    """Split for pre-training: parametrize is SLidR's 600 scenes (train less 100)."""
    train_split: Name = "train"
    """Split for fine-tuning."""
    val_split: Name = "val"
    """Split for evaluation."""
    sweeps: int = Field(default=9, ge=0, le=1000)
    """Up to how many earlier sweeps the index records for each keyframe."""
    voxel_size: float = Field(default=0.1, ge=0.001, le=100)
    """Edge of a voxel, metres."""
    synthetic: Synthetic | Rooms | None = Field(default=None, discriminator="format")
    """Make the data set with these parameters; leave out for data that were downloaded."""
    pretrain: dict[str, Any] = Field(default={})
    """Keys of the section `pretrain` that this data set has otherwise, whatever the method."""
    finetune: dict[str, Any] = Field(default={})
    """Keys of the section `finetune` that this data set has otherwise."""

    @field_validator("format")
    @classmethod
    def _registered(cls, name: str) -> str:
        """Refuse a format that no data set is registered for; the nearest is offered."""
        entry(_DATASETS, "data set", name)
        return name

    @field_validator("pretrain", "finetune")
    @classmethod
    def _overrides_hold_sections(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Refuse a `by_method` or `by_backbone` that is not a mapping of mappings."""
        key, words = {"pretrain": ("by_method", "methods"), "finetune": ("by_backbone", "3D networks")}[
            info.field_name
        ]
        given = values.get(key, {})
        if not (isinstance(given, dict) and all(isinstance(own, dict) for own in given.values())):
            raise ValueError(f"{key}: expected {words}, each with keys of the section `{info.field_name}`")
        return values

    @model_validator(mode="before")
    @classmethod
    def _format_of_synthetic(cls, values: Any) -> Any:
        """Give the `synthetic` section the data set's format, which decides its parameters."""
        if isinstance(values, dict) and isinstance(made := values.get("synthetic"), dict | Section):
            own = values.get("format", cls.model_fields["format"].default)
            if isinstance(made, dict) and (found := made.get("format", own)) != own:
                raise ValueError(f"synthetic.format: found {found!r}; expected {own!r}, as the data set's is")
            values = {**values, "synthetic": {**dict(made), "format": own}}
        return values

    @model_validator(mode="after")
    def _split_for_evaluation_is_apart(self) -> "DatasetConfig":
        """Refuse an evaluation on what was trained on."""
        for key in ("pretrain_split", "train_split"):
            if getattr(self, key) == self.val_split:
                raise ValueError(f"{key} and val_split are both {self.val_split!r}; expected two splits")
        return self

    def check_splits(self) -> None:
        """Refuse a split that the data set cannot have, as far as that is known before it is indexed.

        A default passes: whoever pre-trains on other data need not name a split for it.
        """
        known = entry(_DATASETS, "data set", self.format).load()().split_names(self.root, self.version)
        if isinstance(self.synthetic, Synthetic):
            known = _STREET_SPLITS
        for key in ("pretrain_split", "train_split", "val_split"):
            name, default = getattr(self, key), type(self).model_fields[key].default
            if known and name not in (*known, default):
                raise unknown(key, name, known)
