"""The interface of a pre-training method: CLIP2Scene, the baselines, and the next one."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.pairing.batch import Batch


@dataclass(frozen=True)
class Progress:
    """Where training stands: for schedules, such as the start of self-training.

    Attributes:
        epoch: Epochs done, from 0.
        epochs: Epochs in all.
        step: Steps done in all epochs, from 0.
        seed: Seed of the run; what a step draws at random comes from ``derive(seed, purpose, step)``, so that
            a resumed run draws the same.
    """

    epoch: int
    epochs: int
    step: int
    seed: int


@dataclass(frozen=True)
class Resources:
    """Files that stages before pre-training made; a method reads those it needs.

    For evaluation (`Method.classify`) only `text` is given, so a method builds without the files that nothing
    but `Method.training_step` reads.

    Attributes:
        teacher: The CLIP checkpoint (`clip2scene.models.maskclip`).
        text: Text embeddings [C, D] of the pre-training prompt set.
        encoder: The self-supervised image encoder (`clip2scene.models.image_encoder`).
    """

    teacher: Path | None = None
    text: Path | None = None
    encoder: Path | None = None


class Method(nn.Module, ABC):
    """A pre-training method: modules, and the losses of one training step.

    A method in another package subclasses this and registers a `clip2scene.method.spec.MethodSpec` under
    the entry point group ``clip2scene.methods``. The training loop knows nothing of a method but what
    stands here.

    Attributes:
        backbone: The 3D network; ``backbone(coordinates [V, 4], features [V, C]) -> [V, out_channels]``,
            where ``backbone.out_channels`` tells the last.
    """

    backbone: nn.Module

    @abstractmethod
    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        """Build every module the method trains or reads; `backbone` is the network it pre-trains."""
        super().__init__()

    @abstractmethod
    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The losses of one step, by name: scalars, added up and minimised by the loop.

        Raises:
            InputError: the batch lacks what the loss is made of, e.g. no point falls into any image.
        """

    def inherited(self) -> dict[str, Tensor]:
        """What fine-tuning starts from: by default the backbone's state_dict."""
        return self.backbone.state_dict()

    def classify(self, features: Tensor, text: Tensor) -> Tensor:
        """Class scores [V, C] of backbone features [V, F] against text embeddings [C, D].

        Only methods that align points with text can; the others raise.

        Raises:
            InputError: the method cannot be evaluated without annotations.
        """
        raise InputError(
            f"method {type(self).__name__}: has no text alignment, so no evaluation without labels"
        )
