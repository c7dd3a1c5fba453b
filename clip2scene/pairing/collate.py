"""Collation of samples into a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clip2scene.pairing.batch import Batch


def collate(samples: Sequence[Batch]) -> Batch:
    """Join samples into one batch; the indices of each sample are offset by the sizes of those before it.

    Raises:
        ValueError: some samples have labels, images or superpixels and others do not.
    """
    clouds = _starts([int(sample.coordinates[:, 0].max()) + 1 for sample in samples])
    voxels = _starts([len(sample.coordinates) for sample in samples])
    points = _starts([len(sample.points) for sample in samples])
    images = _starts([0 if sample.images is None else len(sample.images) for sample in samples])
    cells = _starts([sample.n_grid_cells for sample in samples])
    superpixels = _starts([0 if s.superpixels is None else int(s.superpixels.max()) + 1 for s in samples])
    numbers = _starts([int(sample.sample.max()) + 1 for sample in samples])
    return Batch(
        ids=[frame for sample in samples for frame in sample.ids],
        coordinates=_join(
            [s.coordinates for s in samples], [torch.tensor([n, 0, 0, 0]).int() for n in clouds]
        ),
        features=_join([sample.features for sample in samples]),
        representative=_join([sample.representative for sample in samples], points),
        inverse=_join([sample.inverse for sample in samples], voxels),
        points=_join([sample.points for sample in samples]),
        sample=_join([sample.sample for sample in samples], numbers),
        sweep=_join([sample.sweep for sample in samples]),
        labels=_join_optional([sample.labels for sample in samples]),
        grid_cell=_join([sample.grid_cell for sample in samples], cells),
        images=_join_optional([sample.images for sample in samples]),
        pair_point=_join([sample.pair_point for sample in samples], points),
        pair_image=_join([sample.pair_image for sample in samples], images),
        pair_row=_join([sample.pair_row for sample in samples]),
        pair_column=_join([sample.pair_column for sample in samples]),
        superpixels=_join_optional([sample.superpixels for sample in samples], superpixels),
    )


def _starts(lengths: Sequence[int]) -> list[int]:
    """Return the start of each part when parts of these lengths are concatenated."""
    return [sum(lengths[:i]) for i in range(len(lengths))]


def _join(parts: Sequence[Tensor], starts: Sequence[int | Tensor] | None = None) -> Tensor:
    """Concatenate parts, each with its start added."""
    return torch.cat(
        [part + start for part, start in zip(parts, starts, strict=True)] if starts else list(parts)
    )


def _join_optional(parts: Sequence[Tensor | None], starts: Sequence[int] | None = None) -> Tensor | None:
    """Concatenate parts as `_join` does; returns None if all parts are None."""
    present = [part for part in parts if part is not None]
    if len(present) not in (0, len(parts)):
        raise ValueError(
            "cannot join samples that have labels, images or superpixels with samples that have none"
        )
    return _join(present, starts) if present else None
