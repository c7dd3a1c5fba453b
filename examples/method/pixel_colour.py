"""Pixel colour: pre-train a 3D network to predict the colour of the pixel that each point falls on.

Colour as supervision comes from Zhang et al., Colorful Image Colorization (ECCV 2016); here a lidar point
predicts it from geometry and intensity. The method needs images, and neither labels, teacher nor encoder.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from clip2scene.config import Config, Section
from clip2scene.errors import InputError
from clip2scene.method.base import Method, Progress, Resources
from clip2scene.method.spec import MethodSpec
from clip2scene.pairing.batch import Batch
from clip2scene.seeding import derive


class Settings(Section):
    """Settings of the method, the section ``methods.pixel_colour`` of the configuration."""

    hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden channels of the head that predicts colours."""
    pairs: int = Field(default=4096, ge=1, le=1_000_000)
    """Largest number of point-pixel pairs per step in the loss."""


PIXEL_COLOUR = MethodSpec("pixel_colour:PixelColour", needs=frozenset({"images"}), settings=Settings)


class PixelColour(Method):
    """A 3D backbone and a head that predicts red, green and blue for each voxel."""

    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        super().__init__(config, recipe, backbone, resources)
        settings = config.method("pixel_colour")
        self.backbone, self.pairs = backbone, settings.pairs
        self.head = nn.Sequential(
            nn.Linear(backbone.out_channels, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, 3)
        )

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the smooth L1 loss between predicted and seen colours, 0 to 1, over random pairs.

        Raises:
            InputError: no point falls into any image.
        """
        if len(batch.pair_point) == 0:
            raise InputError(f"frames {', '.join(batch.ids)}: no point falls into any image")
        generator = torch.Generator().manual_seed(derive(progress.seed, "pairs", progress.step))
        drawn = torch.randperm(len(batch.pair_point), generator=generator)[: self.pairs]
        drawn = drawn.to(batch.pair_point.device)
        voxel = batch.inverse[batch.pair_point[drawn]]  # [M]
        image, row, column = batch.pair_image[drawn], batch.pair_row[drawn], batch.pair_column[drawn]
        seen = batch.images[image, :, row, column].float() / 255  # [M, 3]
        features = self.backbone(batch.coordinates, batch.features)  # [V, C]
        predicted = self.head(features.index_select(0, voxel)).float()
        return {"colour": F.smooth_l1_loss(predicted, seen, beta=0.1)}
