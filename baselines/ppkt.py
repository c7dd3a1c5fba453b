"""PPKT (Liu et al., 2021): contrastive pixel-to-point knowledge transfer.

Follows SLidR's reimplementation for lidar: valeoai/SLidR @ 14729d0, config/ppkt_nuscenes.yaml, and
pretrain/lightning_trainer.py ``loss``.
"""

import torch
from torch import Tensor, nn

from baselines.contrast import info_nce
from baselines.distillation import TEMPERATURE, ImageDistillation
from clip2scene.config import Config
from clip2scene.method.base import Progress, Resources
from clip2scene.pairing.batch import Batch
from clip2scene.seeding import derive


class PPKT(ImageDistillation):
    """PPKT: InfoNCE over random point-pixel pairs of a batch, whose number is the setting ``pairs``."""

    stride = 32

    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        super().__init__(config, recipe, backbone, resources)
        self.pairs = config.method("ppkt").pairs

    def contrast(self, voxels: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """Compute InfoNCE over random pairs, drawn without replacement; over all pairs if there are fewer."""
        generator = torch.Generator().manual_seed(derive(progress.seed, "pairs", progress.step))
        drawn = torch.randperm(len(batch.pair_point), generator=generator)[: self.pairs].to(voxels.device)
        points = voxels.index_select(0, batch.inverse[batch.pair_point[drawn]])
        pixel = (batch.pair_image[drawn], batch.pair_row[drawn], batch.pair_column[drawn])
        return info_nce(points, self.pixels.at(batch.images, *pixel).float(), TEMPERATURE)
