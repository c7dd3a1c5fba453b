"""Random augmentation of clouds and images, and what becomes of the point-pixel pairs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip2scene.config import Crop
from clip2scene.pairing.images import Box, read_image

TRIES = 100
"""Random crops to try for one that keeps enough pairs, before the whole image is taken."""


def rotate_and_flip(points: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Rotate points [N, 3] about z by a random angle, then mirror x and y with probability 1/2 each.

    SLidR @ 14729d0, utils/transforms.py, Rotation_z and FlipAxis.
    """
    angle = draws.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = np.where(draws.random(2) < 0.5, -1, 1)
    matrix = np.array([[x * cosine, -x * sine, 0], [y * sine, y * cosine, 0], [0, 0, 1]], np.float32)
    return points @ matrix.T


def outside_cuboid(points: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Mask [N] of the points outside a random cuboid around one of them, up to a fifth of the cloud's extent.

    SLidR @ 14729d0, utils/transforms.py, DropCuboids.
    """
    extent = np.ptp(points, axis=0) * draws.uniform(0, 0.2)
    centre = points[draws.integers(len(points))]
    return (np.abs(points - centre) >= extent / 2).any(1)


def enough(kept: int, total: int, crop: Crop) -> bool:
    """Whether an image keeps enough of its pairs; an image without any has nothing to lose."""
    return kept >= crop.minimum_pairs or kept >= crop.minimum_share * total


@dataclass(frozen=True)
class View:
    """A part of an image, resized and perhaps mirrored: one mapping for its pixels, superpixels and pairs.

    Attributes:
        box: The part.
        size: Height and width after resizing, pixels.
        mirrored: Left and right change places.
    """

    box: Box
    size: tuple[int, int]
    mirrored: bool

    def holds(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Mask [M] of the image's pixels that the view shows."""
        top, left, height, width = self.box
        return (row >= top) & (row < top + height) & (column >= left) & (column < left + width)

    def locate(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where pixels that it shows lie in the view [M]: the new pixel that holds the old one's centre."""
        top, left, height, width = self.box
        row = (2 * (row - top) + 1) * self.size[0] // (2 * height)
        column = (2 * (column - left) + 1) * self.size[1] // (2 * width)
        return row, self.size[1] - 1 - column if self.mirrored else column

    def image(self, path: Path) -> np.ndarray:
        """The view [H, W, 3] uint8 of an image file; see `read_image`."""
        return self._mirror(read_image(path, self.size, self.box))

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The view of a map as large as the image, each new pixel taking the old one under its centre."""
        top, left, height, width = self.box
        rows = top + (2 * np.arange(self.size[0]) + 1) * height // (2 * self.size[0])
        columns = left + (2 * np.arange(self.size[1]) + 1) * width // (2 * self.size[1])
        return self._mirror(values[np.ix_(rows, columns)])

    def _mirror(self, values: np.ndarray) -> np.ndarray:
        return values[:, ::-1] if self.mirrored else values


def random_view(
    row: np.ndarray, column: np.ndarray, size: tuple[int, int], crop: Crop, draws: np.random.Generator
) -> View:
    """A random part of an image that keeps enough of its pairs (else the whole image), or its mirror image.

    SLidR @ 14729d0, utils/transforms.py, ResizedCrop (which never ends where an image has no pairs) and
    FlipHorizontal.

    Args:
        row: [M] rows of the image's pairs.
        column: [M] their columns.
        size: Height and width of the image, pixels.
        crop: Shares of the area, ratios of the sides, size of the view, and what is enough.
        draws: Source of the random numbers.
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
