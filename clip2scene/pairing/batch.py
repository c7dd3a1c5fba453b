"""Input of the networks and methods: samples joined into a Batch."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass
class Batch:
    """Augmented and quantised frames with their images and point-pixel pairs.

    A batch of B samples holds S sweeps (up to K per sample; each is a separate cloud to the network), V
    voxels, N points, L images and M point-pixel pairs. A sample is a Batch with B = 1. Index tensors are
    int64 unless stated otherwise.

    Attributes:
        ids: B frame identifiers.
        coordinates: [V, 4] int32: cloud (0..S-1), then voxel x, y, z.
        features: [V, C] float32: input features of each voxel, taken from its first point.
        representative: [V] index of each voxel's first point.
        inverse: [N] voxel of each point.
        points: [N, 3] float32: points after augmentation, metres.
        sample: [N] sample of each point (0..B-1).
        sweep: [N] sweep of each point: 0 = keyframe, k = k-th earlier sweep.
        labels: [N] class of each point, 0 = ignored; None if the data set has no labels.
        grid_cell: [N] cell of each point in the regular grid over the stitched sweeps (paper 3.3), numbered
            from 0 through the batch. Cells are computed before augmentation, where the sweeps are registered.
        images: [L, 3, H, W] uint8, RGB, cropped and resized; None for tasks without images.
        pair_point: [M] point of each pair.
        pair_image: [M] image of each pair (0..L-1).
        pair_row, pair_column: [M] pixel of each pair in its image.
        superpixels: [L, H, W] int32: superpixel ids, numbered from 0 through the batch; None if not
            requested.
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
    grid_cell: Tensor
    images: Tensor | None
    pair_point: Tensor
    pair_image: Tensor
    pair_row: Tensor
    pair_column: Tensor
    superpixels: Tensor | None

    @property
    def n_grid_cells(self) -> int:
        """Number of grid cells: the largest cell index in use plus one."""
        return int(self.grid_cell.max()) + 1

    def to(self, device: torch.device | str) -> Self:
        """Return the same batch with every tensor on `device`; from pinned memory, without waiting for it."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the same batch in pinned memory; torch's data loaders call it."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same batch with `change` applied to every tensor."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: change(v) for k, v in values.items() if isinstance(v, Tensor)})
