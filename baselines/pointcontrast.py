"""PointContrast (Xie et al., ECCV 2020): matched points of two views have the same features.

facebookresearch/PointContrast @ 47e8682, pretrain/pointcontrast: ``PointNCELossTrainer`` in
lib/ddp_trainer.py, with the settings of scripts/ddp_launch.sh (PointInfoNCE, tau = 0.4, 4096 matches,
features of 32 channels).

The official views are depth images of one ScanNet scene that overlap by 30 % and more. For lidar, no code was
published: CLIP2Scene and SLidR say no more than that they pre-trained PointContrast on nuScenes, and the
authors of ALSO "with the same parameters as" SLidR (valeoai/ALSO#2). The two views here are the keyframe and
an earlier sweep. A scan without earlier sweeps, such as a whole ScanNet room, is seen twice, with other
augmentations and, if configured, another cuboid left out.

Two choices differ. Points match if they share a cell of the regular grid over the registered sweeps; the
official code matches points within 1.5 voxels. Views are rotated about z and mirrored as for every method
here; the official code rotates them about random axes, which no street ever is.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.contrast import info_nce
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.method.base import Method, Progress, Resources
from clip2scene.pairing.batch import Batch
from clip2scene.seeding import derive

CHANNELS = 32  # net.model_n_out in config/defaults.yaml


class PointContrast(Method):
    """PointContrast: InfoNCE between matched voxels of two views. It needs no images.

    Attributes:
        linear: Linear map from backbone features to the contrasted ones (the official network's ``final``).
        matches: Number of matches a step.
        temperature: tau.
    """

    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        super().__init__(config, recipe, backbone, resources)
        self.backbone = backbone
        self.linear = nn.Linear(backbone.out_channels, CHANNELS)
        settings = config.method("pointcontrast")
        self.matches, self.temperature = settings.matches, settings.temperature

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return PointInfoNCE over random matches; over all if there are fewer than `matches`."""
        first, second = correspondences(batch)
        if len(first) == 0:
            raise InputError(f"frames {', '.join(batch.ids)}: their two views have no cell in common")
        generator = torch.Generator().manual_seed(derive(progress.seed, "matches", progress.step))
        query, key = (drawn.to(first.device) for drawn in draw(first, second, self.matches, generator))
        features = self.linear(self.backbone(batch.coordinates, batch.features))
        voxels = F.normalize(features.float(), dim=1)
        queries, keys = voxels.index_select(0, query), voxels.index_select(0, key)
        return {"contrast": info_nce(queries, keys, self.temperature)}


def correspondences(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return every pair of voxels, one of each view, that have points in the same cell of the grid.

    Args:
        batch: Samples with the views 0 and 1 (`Batch.sweep`).

    Returns:
        Voxels of view 0 and of view 1, [P] int64 each: every pair once, ordered by the first and then by the
        second.
    """
    size = len(batch.coordinates)
    # a voxel of either view, once for each cell that it has points in, ordered by cell
    views = [
        torch.unique(batch.grid_cell[batch.sweep == view] * size + batch.inverse[batch.sweep == view])
        for view in (0, 1)
    ]
    (cell, voxel), (other_cell, other_voxel) = ((view // size, view % size) for view in views)
    start = torch.searchsorted(other_cell, cell)
    count = torch.searchsorted(other_cell, cell, right=True) - start
    row = torch.repeat_interleave(count)  # [P'], for each match the row of its first voxel
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    pairs = torch.unique(voxel[row] * size + other_voxel[start[row] + within])
    return pairs // size, pairs % size


def draw(first: Tensor, second: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw voxels of view 0 without replacement, and for each one of its matches.

    Args:
        first: [P] int64, ascending: voxels of view 0.
        second: [P] int64, the voxel of view 1 that each is matched with.
        most: Largest number of voxels to draw.
        generator: Random number generator on the CPU.

    Returns:
        The drawn voxels of view 0 and their matches, at most `most` each.
    """
    voxel, count = torch.unique_consecutive(first.cpu(), return_counts=True)
    chosen = torch.randperm(len(voxel), generator=generator)[:most]
    start = (count.cumsum(0) - count)[chosen]
    match = (torch.rand(len(chosen), generator=generator, dtype=torch.float64) * count[chosen]).long()
    return voxel[chosen], second.cpu()[start + match]
