"""SLidR (Sautier et al., CVPR 2022): superpixel-driven image-to-lidar distillation.

valeoai/SLidR @ 14729d0, config/slidr_minkunet.yaml, and pretrain/lightning_trainer.py
``loss_superpixels_average``.
"""

import torch
from torch import Tensor

from baselines.distillation import ImageDistillation, info_nce
from clip2scene.method.base import Progress
from clip2scene.pairing.batch import Batch


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
    of_points = points.new_zeros(size, points.shape[1]).index_add(0, superpixel, points)
    ids = superpixels.flatten(1).long()  # [L, H * W]
    # Along the pixels of an image, as they lie in memory: three times as fast as adding up rows of D.
    of_pixels = pixels.new_zeros(*pixels.shape[:2], size)
    of_pixels = of_pixels.scatter_add(2, ids[:, None].expand_as(pixels.flatten(2)), pixels.flatten(2))
    of_pixels = of_pixels.sum(dim=0).T  # [size, D]

    count, area = torch.bincount(superpixel, minlength=size), torch.bincount(ids.flatten(), minlength=size)
    held = count.nonzero().squeeze(1)  # [S]
    return (
        of_points.index_select(0, held) / count[held, None],
        of_pixels.index_select(0, held) / area[held, None],
    )
