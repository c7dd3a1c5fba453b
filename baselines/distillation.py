"""Contrastive distillation of an image encoder into a 3D network, shared by PPKT and SLidR."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.method.base import Method, Progress, Resources
from clip2scene.models.image_encoder import PixelFeatures, load_image_encoder
from clip2scene.pairing.batch import Batch

CHANNELS = 64  # of the joint space; model_n_out in config/*.yaml of valeoai/SLidR @ 14729d0
TEMPERATURE = 0.07  # NCE_temperature there


class ImageDistillation(Method):
    """A 3D backbone and a frozen image encoder, both mapped into a joint space of L2-normalised features.

    A linear map follows the backbone, a trained decoder the encoder. Subclasses define the encoder's stride
    and the contrastive loss.

    Attributes:
        stride: Output stride of the image encoder, pixels.
        linear: Linear map from backbone features to the joint space.
        pixels: Image encoder and decoder, from images to the joint space.
    """

    stride: ClassVar[int]

    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        super().__init__(config, recipe, backbone, resources)
        self.backbone = backbone
        self.linear = nn.Linear(backbone.out_channels, CHANNELS)
        if resources.encoder:
            self.pixels = PixelFeatures(load_image_encoder(resources.encoder, self.stride), CHANNELS)

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the contrastive loss between the points and the pixels of the batch's pairs."""
        if len(batch.pair_point) == 0:
            raise InputError(f"frames {', '.join(batch.ids)}: no point falls into any image")
        features = self.backbone(batch.coordinates, batch.features)
        voxels = F.normalize(self.linear(features).float(), dim=1)
        return {"contrast": self.contrast(voxels, batch, progress)}

    @abstractmethod
    def contrast(self, voxels: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """Return the scalar loss between voxel features [V, D] float32 and the batch's images."""
