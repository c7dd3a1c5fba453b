"""SLidR (Sautier et al., CVPR 2022): superpixel-driven image-to-lidar distillation.

valeoai/SLidR @ 14729d0, config/slidr_minkunet.yaml, and pretrain/lightning_trainer.py
``loss_superpixels_average``.
"""

import torch
from torch import Tensor

from baselines.distillation import ImageDistillation, info_nce
from clip2scene.method.base import Progress
from clip2scene.pairing.batch import Batch
from clip2scene.sparse.linear import LinearMap


class SLidR(ImageDistillation):
    """Each superpixel that points fall into is told, by their mean feature, from the others."""

    stride = 4

    def contrast(self, voxels: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """InfoNCE over superpixels."""
        points = voxels.index_select(0, batch.inverse[batch.pair_point])  # [M, D]
        superpixel = batch.superpixels[batch.pair_image, batch.pair_row, batch.pair_column].long()  # [M]
        pixels = self.pixels(batch.images).float()  # [L, D, H, W]
        return info_nce(*pool(points, superpixel, pixels, batch.superpixels))


def pool(points: Tensor, superpixel: Tensor, pixels: Tensor, superpixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean features of superpixels, over their points and over their pixels.

    Args:
        points: [M, D] features of the points of all pairs.
        superpixel: [M] into which superpixel each falls.
        pixels: [L, D, H, W] features of the pixels.
        superpixels: [L, H, W] superpixel of each pixel, numbered from 0 through the batch.

    Returns:
        Features of the S superpixels that hold points: [S, D] of their points, [S, D] of their pixels.
    """
    size = int(superpixels.max()) + 1
    ids = superpixels.flatten().long()  # [L * H * W]
    of_points = LinearMap.sums(superpixel, size)(points)
    of_pixels = LinearMap.sums(ids, size)(pixels.movedim(1, -1).flatten(0, 2))

    count, area = torch.bincount(superpixel, minlength=size), torch.bincount(ids, minlength=size)
    held = count.nonzero().squeeze(1)  # [S]
    return (
        of_points.index_select(0, held) / count[held, None],
        of_pixels.index_select(0, held) / area[held, None],
    )
