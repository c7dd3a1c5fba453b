"""Interface of a pre-training method, implemented by CLIP2Scene, the baselines and third-party methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.pairing.batch import Batch


@dataclass(frozen=True)
class Progress:
    """Progress of training, for schedules such as the start of self-training.

    Attributes:
        epoch: Number of completed epochs.
        epochs: Total number of epochs.
        step: Number of completed steps over all epochs.
        seed: Seed of the run. A step draws random numbers from ``derive(seed, purpose, step)``, so that a
            resumed run draws the same ones.
    """

    epoch: int
    epochs: int
    step: int
    seed: int


@dataclass(frozen=True)
class Resources:
    """Files written by the stages before pre-training; a method reads those it needs.

    For evaluation (`Method.classify`) only `text` is given, so a method must build without the files that
    only `Method.training_step` uses.

    Attributes:
        teacher: CLIP checkpoint (`clip2scene.models.maskclip`).
        text: File of the text embeddings [C, D] of the pre-training prompt set.
        encoder: Checkpoint of the self-supervised image encoder (`clip2scene.models.image_encoder`).
    """

    teacher: Path | None = None
    text: Path | None = None
    encoder: Path | None = None


class Method(nn.Module, ABC):
    """A pre-training method: its modules and the losses of one training step.

    A method in another package subclasses this and registers a `clip2scene.method.spec.MethodSpec` under
    the entry point group ``clip2scene.methods``. The training loop uses only this interface.

    Attributes:
        backbone: 3D network, called as ``backbone(coordinates, features)`` with coordinates [V, 4] int32 and
            features [V, C] float32. Returns [V, ``backbone.out_channels``].
    """

    backbone: nn.Module

    @abstractmethod
    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        """Build every module that the method trains or reads; `backbone` is the network to pre-train."""
        super().__init__()

    @abstractmethod
    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the scalar losses of one step by name; the training loop minimises their sum.

        Raises:
            InputError: the loss is undefined on this batch, e.g. no point projects into any image.
        """

    def inherited(self) -> dict[str, Tensor]:
        """Return the weights that fine-tuning starts from: by default the backbone's state_dict."""
        return self.backbone.state_dict()

    def classify(self, features: Tensor, text: Tensor) -> Tensor:
        """Score backbone features against class texts.

        Only methods that align points with text implement this.

        Args:
            features: [V, F] float, backbone features of voxels.
            text: [C, D] float32, text embeddings of the classes.

        Returns:
            [V, C] class scores.

        Raises:
            InputError: the method cannot be evaluated without annotations.
        """
        raise InputError(
            f"method {type(self).__name__}: has no text alignment, so no evaluation without labels"
        )
