"""Projection of points into images: the point-pixel pairs of a frame."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from clip2scene.datasets.frame import Camera, Frame
from clip2scene.pairing.images import read_depth

MINIMUM_DEPTH = 1.0
"""Minimum depth of a lidar point in a vehicle's camera, metres: closer returns may be the vehicle itself."""

DEPTH_TOLERANCE = 0.05
"""Largest difference between a point's depth and the depth that an RGB-D camera measured at its pixel, metres
(CLIP2Scene @ f37dae7, pretrain/dataloader_scannet.py, computeLinking)."""


@dataclass(frozen=True)
class PixelPairs:
    """Point-pixel pairs of a frame.

    Attributes:
        point: [M] int64, index of the point.
        image: [M] int64, index of the image, 0..L-1 in the order of the frame's cameras.
        row, column: [M] int64, the pixel.
    """

    point: np.ndarray
    image: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def __len__(self) -> int:
        return len(self.point)

    def __getitem__(self, chosen: np.ndarray | slice) -> Self:
        """Select pairs by a mask [M] bool, by indices [K] int64 or by a slice."""
        return type(self)(self.point[chosen], self.image[chosen], self.row[chosen], self.column[chosen])

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Concatenate the pairs of all parts; `parts` may be empty."""
        names = ("point", "image", "row", "column")
        empty = np.empty(0, np.int64)
        return cls(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in names))


def pair(frame: Frame) -> PixelPairs:
    """Project all points of a frame, earlier sweeps included, into its images.

    Returns:
        The pairs, ordered by image.

    Raises:
        InputError: a camera's depth image is missing or damaged.
    """
    points, parts = np.asfortranarray(frame.points, np.float64), []  # contiguous per coordinate
    for number, camera in enumerate(frame.cameras):
        point, row, column = project(points, camera)
        parts.append(PixelPairs(point, np.full(len(point), number), row, column))
    return PixelPairs.join(parts)


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project points into an image; returns the points that fall inside it and their pixels.

    A point is inside if 0 < column < width - 1 and 0 < row < height - 1 before rounding. This follows SLidR
    @ 14729d0 and CLIP2Scene @ f37dae7 (map_pointcloud_to_image), which transform a copy of the cloud in five
    steps per camera; here one matrix does it.

    A lidar point needs no occlusion test, since the lidar saw it. The points of a whole room do: an RGB-D
    camera pairs only with points whose depth agrees with its depth image (`DEPTH_TOLERANCE`). The released
    code uses the depth image's intrinsics for the colour image too.

    Args:
        points: [N, 3] float, metres, in the sensor frame that `camera.lidar_to_camera` maps from.
        camera: The camera.

    Returns:
        Point indices [M], rows [M] and columns [M], int64.

    Raises:
        InputError: the camera's depth image is missing or damaged.
    """
    nearest = MINIMUM_DEPTH if camera.depth is None else 0.0
    point, row, column, depth = _pixels(
        points, camera.intrinsics @ camera.lidar_to_camera[:3], camera.size, nearest
    )
    if camera.depth is None:
        return point, row, column
    matrix = camera.depth.intrinsics @ camera.lidar_to_camera[:3]
    inside, *pixel, _ = _pixels(points[point], matrix, camera.depth.size, nearest)
    measured = read_depth(camera.depth.image, camera.depth.size)[*pixel]
    seen = inside[(measured > 0) & (np.abs(measured - depth[inside]) <= DEPTH_TOLERANCE)]
    return point[seen], row[seen], column[seen]


def _pixels(
    points: np.ndarray, matrix: np.ndarray, size: tuple[int, int], nearest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Project points [N, 3] by a matrix [3, 4]; returns index, row, column and depth [M] of those inside."""
    height, width = size
    (to_x, to_y, to_depth), (x0, y0, depth0) = matrix[:, :3], matrix[:, 3]
    cloud = points.T
    depth = to_depth @ cloud + depth0
    x = to_x @ cloud + x0  # column times depth; y is row times depth
    point = np.flatnonzero((depth > nearest) & (x > 0) & (x < (width - 1) * depth))
    depth, x, y = depth[point], x[point], to_y @ cloud[:, point] + y0
    seen = (y > 0) & (y < (height - 1) * depth)
    depth, x, y = depth[seen], x[seen], y[seen]
    return point[seen], np.rint(y / depth).astype(np.int64), np.rint(x / depth).astype(np.int64), depth
