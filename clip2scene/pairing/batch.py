"""What the networks and the methods see: a Sample, and samples joined into a Batch."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass
class Batch:
    """Samples joined: a Frame each, after augmentation, quantised and paired with its images.

    B samples hold S sweeps in all (up to K a sample, each a cloud of its own to the network), V voxels, N
    points, L images and M point-pixel pairs. A Sample is a Batch of one. Index tensors are int64 unless said
    otherwise.

    Attributes:
        ids: B frame identifiers.
        coordinates: [V, 4] int32: cloud (0..S-1), then voxel x, y, z.
        features: [V, C] float32: input features, those of each voxel's first point.
        representative: [V] the first point of each voxel.
        inverse: [N] point -> voxel.
        points: [N, 3] float32: points after augmentation, metres.
        sample: [N] point -> sample (0..B-1).
        sweep: [N] 0 = keyframe, k = k-th earlier sweep.
        labels: [N] 0 = ignored; None where the data set gives none.
        cell: [N] point -> cell of the regular grid over the stitched sweeps (paper 3.3), numbered from 0
            through the batch; cells are cut before augmentation, so that sweeps stay in register.
        images: [L, 3, H, W] uint8, cropped and resized; None for what needs no images.
        pair_point: [M] point of each pair.
        pair_image: [M] image of each pair (0..L-1).
        pair_row, pair_column: [M] its pixel.
        superpixels: [L, H, W] int32: superpixel ids, numbered from 0 through the batch; None if not asked
            for.
    """

    ids: list[str]
    coordinates: Tensor
    features: Tensor
    representative: Tensor
    inverse: Tensor
    points: Tensor
    sample: Tensor
    sweep: Tensor
    labels: Tensor | None
    cell: Tensor
    images: Tensor | None
    pair_point: Tensor
    pair_image: Tensor
    pair_row: Tensor
    pair_column: Tensor
    superpixels: Tensor | None

    @property
    def n_cells(self) -> int:
        """Number of grid cells, counting from 0 to the largest in use."""
        return int(self.cell.max()) + 1

    def to(self, device: torch.device | str) -> Self:
        """The same batch with every tensor on `device`."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)
