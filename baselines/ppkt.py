"""PPKT (Liu et al., 2021): contrastive pixel-to-point knowledge transfer.

As SLidR reimplements it for lidar: valeoai/SLidR @ 14729d0, config/ppkt_nuscenes.yaml, and
pretrain/lightning_trainer.py ``loss``.
"""

import torch
from torch import Tensor

from baselines.distillation import ImageDistillation, info_nce
from clip2scene.method.base import Progress
from clip2scene.pairing.batch import Batch
from clip2scene.seeding import derive

MATCHES = 4096  # config/ppkt_nuscenes.yaml: num_matches


class PPKT(ImageDistillation):
    """Each of up to 4,096 random points is told its own pixel from those of the others."""

    stride = 32

    def contrast(self, voxels: Tensor, pixels: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """InfoNCE over random pairs, drawn without replacement; over all where there are fewer."""
        generator = torch.Generator().manual_seed(derive(progress.seed, "pairs", progress.step))
        drawn = torch.randperm(len(batch.pair_point), generator=generator)[:MATCHES].to(voxels.device)
        points = voxels.index_select(0, batch.inverse[batch.pair_point[drawn]])
        return info_nce(
            points, read(pixels, batch.pair_image[drawn], batch.pair_row[drawn], batch.pair_column[drawn])
        )


def read(pixels: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """``pixels[image, :, row, column]``, [M, D] of [L, D, H, W]; its gradient is summed in a fixed order."""
    _, channels, height, width = pixels.shape
    channel = torch.arange(channels, device=pixels.device)
    index = ((image[:, None] * channels + channel) * height + row[:, None]) * width + column[:, None]
    return pixels.flatten().index_select(0, index.flatten()).view(index.shape)
