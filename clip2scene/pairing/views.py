"""Frames seen more than once: the two views that PointContrast contrasts, and images of each cloud's own."""

from dataclasses import replace

import numpy as np

from clip2scene.datasets.frame import Frame
from clip2scene.pairing.augmentation import outside_cuboid
from clip2scene.pairing.projection import PixelPairs


def two_views(frame: Frame, drop_cuboids: bool, draws: np.random.Generator) -> Frame:
    """Return a frame as two views, its sweeps 0 and 1; a keyframe without an earlier sweep is both.

    Args:
        frame: An unlabelled frame of one or two sweeps.
        drop_cuboids: Drop the points in a random cuboid from each view, another one from each.
        draws: Random number generator.
    """
    views = [frame] if frame.sweep.any() else [frame, replace(frame, sweep=np.ones_like(frame.sweep))]
    parts = [where(view, view.sweep == number) for view in views for number in np.unique(view.sweep)]
    if drop_cuboids:
        parts = [where(part, outside_cuboid(part.points, draws)) for part in parts]
    names = ("points", "features", "sweep")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(frame, **joined)


def where(frame: Frame, kept: np.ndarray) -> Frame:
    """Return an unlabelled frame with the points of a mask [N] bool alone."""
    return replace(frame, points=frame.points[kept], features=frame.features[kept], sweep=frame.sweep[kept])


def images_of_clouds(frame: Frame, pairs: PixelPairs, cloud: np.ndarray) -> tuple[Frame, PixelPairs]:
    """Return the frame with its cameras once a cloud, and the pairs of each cloud in cameras of its own.

    Args:
        frame: A frame with L cameras.
        pairs: M pairs of its points and images.
        cloud: [N] int64, 0..S-1, cloud of each point.

    Returns:
        A frame of S * L cameras, those of cloud 0 first, and the M pairs, ordered by image.
    """
    clouds = int(cloud.max()) + 1
    image = pairs.image + len(frame.cameras) * cloud[pairs.point]
    order = np.argsort(image, kind="stable")
    return replace(frame, cameras=frame.cameras * clouds), replace(pairs, image=image)[order]
