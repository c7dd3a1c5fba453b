"""What PPKT and SLidR share: an image encoder's features, distilled into a 3D network by contrast."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.method.base import Method, Progress, Resources
from clip2scene.models.image_encoder import PixelFeatures, load_image_encoder
from clip2scene.pairing.batch import Batch

CHANNELS = 64  # of the common space (valeoai/SLidR @ 14729d0, config/*.yaml: model_n_out)
TEMPERATURE = 0.07  # config/*.yaml: NCE_temperature


class ImageDistillation(Method):
    """A 3D backbone with a linear map, and a frozen image encoder with a trained decoder, into one space.

    Features of both are L2-normalised. A subclass says at which stride the encoder is read, and the contrast.

    Attributes:
        stride: Pixels a feature of the image encoder, along each axis.
        linear: Backbone features to the common space.
        pixels: Images to the common space.
    """

    stride: ClassVar[int]

    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        super().__init__(config, recipe, backbone, resources)
        self.backbone = backbone
        self.linear = nn.Linear(backbone.out_channels, CHANNELS)
        if resources.encoder:
            self.pixels = PixelFeatures(load_image_encoder(resources.encoder, self.stride), CHANNELS)

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The contrast between the points and the pixels of the batch's pairs."""
        if len(batch.pair_point) == 0:
            raise InputError(f"frames {', '.join(batch.ids)}: no point falls into any image")
        features = self.backbone(batch.coordinates, batch.features)
        voxels = F.normalize(self.linear(features).float(), dim=1)
        return {"contrast": self.contrast(voxels, batch, progress)}

    @abstractmethod
    def contrast(self, voxels: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """The loss between features of voxels [V, D] and of the batch's images."""


def info_nce(points: Tensor, pixels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE: each point has its own pixel as positive and those of all other points as negatives.

    L = - 1/M sum_i log( exp(k_i . q_i / tau) / sum_j exp(k_i . q_j / tau) )

    (valeoai/SLidR @ 14729d0, pretrain/criterion.py ``NCELoss``.)

    Args:
        points: [M, D] features k.
        pixels: [M, D] features q.
        temperature: tau.

    Returns:
        A scalar.
    """
    return F.cross_entropy(points @ pixels.T / temperature, torch.arange(len(points), device=points.device))
