"""Points onto images: which pixel sees which point."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from clip2scene.datasets.frame import Camera, Frame
from clip2scene.pairing.images import read_depth

MINIMUM_DEPTH = 1.0
"""Metres in front of a vehicle's camera: nearer returns may be the vehicle."""

DEPTH_TOLERANCE = 0.05
"""Metres by which a point's depth may differ from what an RGB-D camera measured where it falls
(CLIP2Scene @ f37dae7, pretrain/dataloader_scannet.py, computeLinking)."""


@dataclass(frozen=True)
class Pairs:
    """Point-pixel pairs of a frame, [M] int64 each.

    Attributes:
        point: The point.
        image: The image, 0..L-1 in the order of the frame's cameras.
        row, column: The pixel.
    """

    point: np.ndarray
    image: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def __len__(self) -> int:
        return len(self.point)

    def __getitem__(self, chosen: np.ndarray | slice) -> Self:
        """Some of the pairs, by a mask [M], by indices or by a slice."""
        return type(self)(self.point[chosen], self.image[chosen], self.row[chosen], self.column[chosen])

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """The pairs of all parts; there may be none."""
        names = ("point", "image", "row", "column")
        empty = np.empty(0, np.int64)
        return cls(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in names))


def pair(frame: Frame) -> Pairs:
    """Every point of a frame, earlier sweeps included, with the pixel it falls on; image after image."""
    points, parts = np.asfortranarray(frame.points, np.float64), []  # coordinate by coordinate
    for number, camera in enumerate(frame.cameras):
        point, row, column = project(points, camera)
        parts.append(Pairs(point, np.full(len(point), number), row, column))
    return Pairs.join(parts)


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points that fall into an image, off its outermost pixels, and the pixels they fall on.

    As SLidR @ 14729d0 and CLIP2Scene @ f37dae7 (map_pointcloud_to_image); there in five steps on a copy of
    the cloud for each camera, here through one matrix.

    The points of a lidar are what it saw; those of a whole room are not, and of these a camera must have
    measured the depth. The released code takes the depth image's intrinsics for the colour image too.

    Args:
        points: [N, 3] metres, in the sensor frame that `camera.lidar_to_camera` starts from.
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
    """Points [N, 3] that a matrix [3, 4] brings into an image: indices, rows, columns, depths [M]."""
    height, width = size
    (to_x, to_y, to_depth), (x0, y0, depth0) = matrix[:, :3], matrix[:, 3]
    cloud = points.T
    depth = to_depth @ cloud + depth0
    x = to_x @ cloud + x0  # scaled by the depth, like y
    point = np.flatnonzero((depth > nearest) & (x > 0) & (x < (width - 1) * depth))
    depth, x, y = depth[point], x[point], to_y @ cloud[:, point] + y0
    seen = (y > 0) & (y < (height - 1) * depth)
    depth, x, y = depth[seen], x[seen], y[seen]
    return point[seen], np.rint(y / depth).astype(np.int64), np.rint(x / depth).astype(np.int64), depth
