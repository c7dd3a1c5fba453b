"""Samples for training and evaluation: keyframes, augmented, quantised and paired with their images."""

from collections.abc import Collection
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import torch

from clip2scene.config import Pretraining
from clip2scene.datasets.frame import Dataset, Frame
from clip2scene.datasets.index import Index, load_frame
from clip2scene.errors import InputError
from clip2scene.pairing import augmentation
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.plausibility import best_cameras, leave_out_blind, warn_if_unpaired
from clip2scene.pairing.projection import PixelPairs, pair
from clip2scene.pairing.superpixels import SuperpixelFile
from clip2scene.pairing.views import images_of_clouds, two_views, where
from clip2scene.pairing.voxelise import quantise, unique
from clip2scene.seeding import generator

FARTHEST_VOXEL = 1 << 30
"""Voxel coordinates are below this; the engine computes with int32."""


class LabelledSamples(torch.utils.data.Dataset[Batch]):
    """Labelled keyframes of an index for fine-tuning and evaluation: one cloud each, without images.

    Attributes:
        epoch: Current epoch, which seeds the augmentation; set it before each epoch.
    """

    def __init__(
        self, dataset: Dataset, index: Index, voxel_size: float, cylindrical: bool, augment: bool, seed: int
    ) -> None:
        """Store the settings, see `PretrainingSamples`; `augment` enables random rotation and flips."""
        self.dataset, self.index, self.voxel_size, self.cylindrical = dataset, index, voxel_size, cylindrical
        self.augment, self.seed, self.epoch = augment, seed, 0

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Batch:
        """Return the `i`-th keyframe as a Batch of one.

        Raises:
            InputError: the keyframe has no labels, or one of its files is damaged.
        """
        frame = load_frame(self.dataset, self.index.root, self.index.frames.iloc[i])
        if frame.labels is None:
            raise InputError(
                f"frame {frame.id} of {self.index.root}: has no labels (nuScenes: install lidarseg; "
                "SemanticKITTI: sequences 00 to 10 have them)"
            )
        points = frame.points
        if self.augment:
            points = augmentation.rotate_and_flip(
                points, generator(self.seed, "augmentation", self.epoch, frame.id)
            )
        return _sample(frame, points, self.voxel_size, self.cylindrical, self.index.root)


class PretrainingSamples(torch.utils.data.Dataset[Batch]):
    """Keyframes of an index for pre-training; labels are never read.

    A sample holds:

    * the keyframe and, if needed, earlier sweeps, each as a separate cloud, all under the same rotation
      (`Pretraining.merge_sweeps` and `Pretraining.augmentation` change this);
    * the keyframe's images, each cropped and flipped (a random subset if there are many);
    * a pair for every point of every sweep that projects into an image. Calibration registers the sweeps
      with the images (paper 3.3).

    With ``views`` a sample instead holds two clouds, 0 and 1, for a method that contrasts them: the keyframe
    and one earlier sweep, or the keyframe twice where none is recorded. Each has a rotation, flips and, if
    configured, a dropped cuboid of its own; `Batch.grid_cell` says where they meet.

    Attributes:
        epoch: Current epoch, which seeds the augmentation; set it before each epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        index: Index,
        config: Pretraining,
        needs: Collection[str],
        voxel_size: float,
        cylindrical: bool,
        seed: int,
        superpixels: Path | None = None,
    ) -> None:
        """Store the settings and check that the needed inputs exist.

        Args:
            dataset: Reader of the data set's files.
            index: Keyframes, one sample each.
            config: Numbers of sweeps and images, and image crops.
            needs: Contents of a sample: any of ``images``, ``sweeps``, ``superpixels`` and ``views``.
            voxel_size: Edge of a voxel, and of a cell of the regular grid over the sweeps, metres.
            cylindrical: True for cylindrical voxels, False for Cartesian ones.
            seed: Seed of all augmentation.
            superpixels: File written by `write_superpixels` or `pack_superpixels`, if needed.

        Raises:
            InputError: images are needed and a keyframe has none, or superpixels are needed and no file is
                given.
        """
        self.needs = frozenset(needs)
        self.voxel_size, self.cylindrical, self.seed, self.epoch = voxel_size, cylindrical, seed, 0
        if "images" in self.needs:
            _check_images(index)
            index = leave_out_blind(index)
        self.dataset, self.index, self.config = dataset, index, config
        if "images" in self.needs:
            warn_if_unpaired(dataset, index)
        self.superpixels = None
        if "superpixels" in self.needs:
            if superpixels is None:
                raise InputError("superpixels: needed by the method, and no file is given")
            self.superpixels = SuperpixelFile(superpixels)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Batch:
        """Return the `i`-th keyframe as a Batch of one.

        Raises:
            InputError: one of its files is missing or damaged, or none of its points projects into an image.
        """
        row = self.index.frames.iloc[i]
        draws = generator(self.seed, "augmentation", self.epoch, row.id)
        sweeps = self._choose_sweeps(len(row.sweep_points), draws)
        frame = load_frame(self.dataset, self.index.root, row, sweeps, labels=False)
        cameras = frame.cameras
        if len(frame.cameras) > self.config.images:
            chosen = draws.choice(len(frame.cameras), self.config.images, replace=False)
            frame = replace(frame, cameras=tuple(frame.cameras[number] for number in chosen))
        if "views" in self.needs:
            frame = two_views(frame, self.config.drop_cuboids, draws)
        points, cloud = self._augment(frame, draws)
        if "images" not in self.needs:
            return self._sample(frame, points, cloud)
        pairs = pair(frame)
        if len(pairs) == 0:
            frame = replace(frame, cameras=best_cameras(frame, cameras, self.config.images))
            pairs = pair(frame)
        if len(pairs) == 0:
            measured = ", or none has the measured depth" if cameras[0].depth else ""
            raise InputError(
                f"frame {frame.id} of {self.index.root}: none of its points falls into any image{measured}"
            )
        if self.config.drop_cuboids:
            frame, points, pairs = self._drop_cuboid(frame, points, pairs, draws)
            cloud = self._clouds(frame)
        sample = self._sample(frame, points, cloud)
        if self._own_augmentation:
            frame, pairs = images_of_clouds(frame, pairs, cloud)
        return self._add_images(sample, frame, pairs, draws)

    @property
    def _own_augmentation(self) -> bool:
        return self.config.augmentation == "cloud" or "views" in self.needs

    def _clouds(self, frame: Frame) -> np.ndarray:
        """Return the cloud [N] int64 of each point: its sweep, or 0 for all if sweeps are merged."""
        return np.zeros_like(frame.sweep) if self.config.merge_sweeps else frame.sweep

    def _augment(self, frame: Frame, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the augmented points [N, 3] float32, metres, and the cloud [N] int64 of each."""
        cloud = self._clouds(frame)
        if self._own_augmentation:
            return augmentation.move_clouds(frame.points, cloud, draws), cloud
        return augmentation.rotate_and_flip(frame.points, draws), cloud

    def _sample(self, frame: Frame, points: np.ndarray, cloud: np.ndarray) -> Batch:
        return _sample(frame, points, self.voxel_size, self.cylindrical, self.index.root, cloud)

    def _choose_sweeps(self, recorded: int, draws: np.random.Generator) -> list[int]:
        """Choose K - 1 of the recorded earlier sweeps, at random (as released) or the latest.

        At the start of a scene fewer are recorded, and all of them are used. The released code reads
        OpenPCDet's list instead, which repeats the earliest sweep to fill up to nine.
        """
        if "sweeps" not in self.needs:
            return []
        wanted = 1 if "views" in self.needs else self.config.sweeps - 1
        count = min(wanted, recorded)
        if self.config.consecutive_sweeps:
            return list(range(count))
        return draws.choice(recorded, count, replace=False).tolist()

    def _drop_cuboid(
        self, frame: Frame, points: np.ndarray, pairs: PixelPairs, draws: np.random.Generator
    ) -> tuple[Frame, np.ndarray, PixelPairs]:
        """Drop the points in a random cuboid, unless an image would lose too many of its pairs."""
        kept = augmentation.outside_cuboid(points, draws)
        left = pairs[kept[pairs.point]]
        before, after = (np.bincount(part.image, minlength=len(frame.cameras)) for part in (pairs, left))
        if not all(map(augmentation.enough, after, before, repeat(self.config.crop))):
            return frame, points, pairs
        return where(frame, kept), points[kept], replace(left, point=(np.cumsum(kept) - 1)[left.point])

    def _add_images(
        self, sample: Batch, frame: Frame, pairs: PixelPairs, draws: np.random.Generator
    ) -> Batch:
        """Add a random view of every image, the pairs inside these views, and superpixels if needed."""
        images = np.empty((len(frame.cameras), 3, *self.config.crop.size), np.uint8)
        starts = np.searchsorted(pairs.image, np.arange(len(images) + 1))  # pairs are ordered by image
        kept, superpixels, count = [], [], 0
        for number, camera in enumerate(frame.cameras):
            mine = pairs[starts[number] : starts[number + 1]]
            view = augmentation.random_view(mine.row, mine.column, camera.size, self.config.crop, draws)
            images[number] = view.image(camera.image, camera.size).transpose(2, 0, 1)
            mine = mine[view.holds(mine.row, mine.column)]
            kept.append(PixelPairs(mine.point, mine.image, *view.locate(mine.row, mine.column)))
            if self.superpixels is not None:
                name = camera.image.relative_to(self.index.root).as_posix()
                ids = self.superpixels.map(name, camera.size)
                superpixels.append(view.nearest(ids).astype(np.int32) + count)
                count += int(ids.max()) + 1
        merged = PixelPairs.join(kept)
        return replace(
            sample,
            images=torch.from_numpy(images),
            pair_point=torch.from_numpy(merged.point),
            pair_image=torch.from_numpy(merged.image),
            pair_row=torch.from_numpy(merged.row),
            pair_column=torch.from_numpy(merged.column),
            superpixels=torch.from_numpy(np.stack(superpixels)) if superpixels else None,
        )


def _check_images(index: Index) -> None:
    """Raise InputError if a keyframe has no images."""
    bare = index.frames.loc[~index.has_images, "id"]
    if len(bare):
        found = f"{len(bare)} of {len(index)} frames have no image, the first is {bare.iloc[0]}"
        raise InputError(f"{index.root}: {found}; expected one for each (SemanticKITTI: image_2)")


def _sample(
    frame: Frame,
    points: np.ndarray,
    voxel_size: float,
    cylindrical: bool,
    root: Path,
    cloud: np.ndarray | None = None,
) -> Batch:
    """Build a Batch of one without images.

    Args:
        frame: The frame; its points before augmentation define the cells of the regular grid.
        points: [N, 3] float32, metres: the frame's points after augmentation, which define the voxels.
        voxel_size: Edge of a voxel and of a grid cell, metres.
        cylindrical: True for cylindrical voxels.
        root: Data root, for messages.
        cloud: [N] int64, cloud of each point; its sweep if None.

    Raises:
        InputError: the points lie in one voxel, or so far away that voxels leave int32.
    """
    voxels, where = quantise(points, voxel_size, cylindrical), f"frame {frame.id} of {root}"
    low, high = [int(axis.min()) for axis in voxels.T], [int(axis.max()) for axis in voxels.T]
    if (farthest := max(*high, *(-value for value in low))) >= FARTHEST_VOXEL:
        found = f"a voxel {farthest} voxels of {voxel_size:g} m away"
        raise InputError(f"{where}: {found}; expected fewer than {FARTHEST_VOXEL}")
    cloud = frame.sweep if cloud is None else cloud
    if low == high and not cloud.any():
        found = f"its {len(points)} points lie in one voxel of {voxel_size:g} m"
        raise InputError(f"{where}: {found}; expected at least two voxels")
    coordinates = np.column_stack([cloud, voxels])  # [N, 4]
    representative, inverse = unique(coordinates)
    _, cell = unique(quantise(frame.points, voxel_size))
    none = torch.empty(0, dtype=torch.int64)
    return Batch(
        ids=[frame.id],
        coordinates=torch.from_numpy(coordinates[representative].astype(np.int32)),
        features=torch.from_numpy(frame.features[representative]),
        representative=torch.from_numpy(representative),
        inverse=torch.from_numpy(inverse),
        points=torch.from_numpy(points),
        sample=torch.zeros(len(points), dtype=torch.int64),
        sweep=torch.from_numpy(frame.sweep),
        labels=None if frame.labels is None else torch.from_numpy(frame.labels),
        grid_cell=torch.from_numpy(cell),
        images=None,
        pair_point=none,
        pair_image=none,
        pair_row=none,
        pair_column=none,
        superpixels=None,
    )
