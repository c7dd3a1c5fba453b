"""SLidR (Sautier et al., CVPR 2022): superpixel-driven image-to-lidar distillation.

valeoai/SLidR @ 14729d0, config/slidr_minkunet.yaml, and pretrain/lightning_trainer.py
``loss_superpixels_average``.
"""

import torch
from torch import Tensor

from baselines.contrast import info_nce
from baselines.distillation import TEMPERATURE, ImageDistillation
from clip2scene.method.base import Progress
from clip2scene.pairing.batch import Batch
from clip2scene.precision import in_float32
from clip2scene.sparse.linear import LinearMap


class SLidR(ImageDistillation):
    """SLidR: InfoNCE between the mean point feature and the mean pixel feature of each superpixel."""

    stride = 4

    def contrast(self, voxels: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """Compute InfoNCE over the superpixels that contain points."""
        points = voxels.index_select(0, batch.inverse[batch.pair_point])  # [M, D]
        superpixel = batch.superpixels[batch.pair_image, batch.pair_row, batch.pair_column].long()  # [M]
        pixels = self.pixels(batch.images).float()  # [L, D, H, W]
        return info_nce(*pool(points, superpixel, pixels, batch.superpixels), TEMPERATURE)


@in_float32
def pool(points: Tensor, superpixel: Tensor, pixels: Tensor, superpixels: Tensor) -> tuple[Tensor, Tensor]:
    """Average the features of each superpixel over its points and over its pixels.

    Args:
        points: [M, D] float32, point features of all pairs.
        superpixel: [M] int64, superpixel of each pair.
        pixels: [L, D, H, W] float32, pixel features.
        superpixels: [L, H, W] int32, superpixel of each pixel, numbered from 0 through the batch.

    Returns:
        Mean point features [S, D] and mean pixel features [S, D] of the S superpixels that contain points.
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
