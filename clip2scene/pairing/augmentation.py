"""Random augmentation of point clouds and images, kept consistent with the point-pixel pairs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip2scene.config import Crop
from clip2scene.pairing.images import Box, read_image

TRIES = 100
"""Random crops tried before `random_view` falls back to the whole image."""


def rotate_and_flip(points: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Rotate points about z by a random angle, then mirror x and y with probability 1/2 each.

    SLidR @ 14729d0, utils/transforms.py, Rotation_z and FlipAxis.

    Args:
        points: [N, 3] float32, metres.
        draws: Random number generator.

    Returns:
        [N, 3] float32, metres.
    """
    angle = draws.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = np.where(draws.random(2) < 0.5, -1, 1)
    matrix = np.array([[x * cosine, -x * sine, 0], [y * sine, y * cosine, 0], [0, 0, 1]], np.float32)
    return points @ matrix.T


def move_clouds(points: np.ndarray, cloud: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Rotate and flip each cloud by itself, as `rotate_and_flip` does.

    Args:
        points: [N, 3] float32, metres.
        cloud: [N] int64, cloud of each point.
        draws: Random number generator.

    Returns:
        [N, 3] float32, metres.
    """
    moved = np.empty_like(points)
    for number in np.unique(cloud):
        mine = cloud == number
        moved[mine] = rotate_and_flip(points[mine], draws)
    return moved


def outside_cuboid(points: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return a mask of the points outside a random cuboid.

    The cuboid is centred on a random point, and its edges are up to a fifth of the cloud's extent.
    SLidR @ 14729d0, utils/transforms.py, DropCuboids.

    Args:
        points: [N, 3] float32, metres.
        draws: Random number generator.

    Returns:
        [N] bool.
    """
    extent = np.ptp(points, axis=0) * draws.uniform(0, 0.2)
    centre = points[draws.integers(len(points))]
    return (np.abs(points - centre) >= extent / 2).any(1)


def enough(kept: int, total: int, crop: Crop) -> bool:
    """Return True if an image keeps enough of its pairs; an image without pairs always does."""
    return kept >= crop.minimum_pairs or kept >= crop.minimum_share * total


@dataclass(frozen=True)
class View:
    """A crop of an image, resized and possibly mirrored: one mapping for pixels, superpixels and pairs.

    Attributes:
        box: The crop, in pixels of the image.
        size: Height and width after resizing, pixels.
        mirrored: True if left and right are swapped.
    """

    box: Box
    size: tuple[int, int]
    mirrored: bool

    def holds(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return a mask [M] of the image pixels (row and column: [M] int64) that lie inside the crop."""
        top, left, height, width = self.box
        return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)

    def locate(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map image pixels inside the crop to the view pixels that contain their centres.

        Args:
            row: [M] int64, rows in the image.
            column: [M] int64, columns in the image.

        Returns:
            Rows and columns in the view, [M] int64 each.
        """
        top, left, height, width = self.box
        row = (2 * (row - top) + 1) * self.size[0] // (2 * height)
        column = (2 * (column - left) + 1) * self.size[1] // (2 * width)
        return row, self.size[1] - 1 - column if self.mirrored else column

    def image(self, path: Path, expected: tuple[int, int] | None = None) -> np.ndarray:
        """Read the view [H, W, 3] uint8, RGB, of an image file of the size `expected`; see `read_image`."""
        return self._mirror(read_image(path, self.size, self.box, expected))

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Resample a map [image height, image width] to the view by nearest neighbour; returns [H, W]."""
        top, left, height, width = self.box
        rows = top + (2 * np.arange(self.size[0]) + 1) * height // (2 * self.size[0])
        columns = left + (2 * np.arange(self.size[1]) + 1) * width // (2 * self.size[1])
        return self._mirror(values[np.ix_(rows, columns)])

    def _mirror(self, values: np.ndarray) -> np.ndarray:
        return values[:, ::-1] if self.mirrored else values


def random_view(
    row: np.ndarray, column: np.ndarray, size: tuple[int, int], crop: Crop, draws: np.random.Generator
) -> View:
    """Draw a random crop of an image that keeps enough of its pairs, mirrored with probability 1/2.

    If none of `TRIES` crops keeps enough pairs, the view is the whole image. SLidR @ 14729d0,
    utils/transforms.py, ResizedCrop (which loops forever on an image without pairs) and FlipHorizontal.

    Args:
        row: [M] int64, rows of the image's pairs.
        column: [M] int64, columns of the image's pairs.
        size: Height and width of the image, pixels.
        crop: Ranges of the crop's area and aspect ratio, size of the view, and number of pairs to keep.
        draws: Random number generator.
    """
    mirrored = bool(draws.random() < 0.5)
    height, width = size
    for _ in range(TRIES):
        area = height * width * draws.uniform(*crop.scale)
        ratio = np.exp(draws.uniform(*np.log(crop.ratio)))
        h, w = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if not (0 < h <= height and 0 < w <= width):
            continue
        box = int(draws.integers(height - h + 1)), int(draws.integers(width - w + 1)), h, w
        view = View(box, crop.size, mirrored)
        if enough(np.count_nonzero(view.holds(row, column)), len(row), crop):
            return view
    return View((0, 0, height, width), crop.size, mirrored)
