"""Building blocks of shapes: colours, and primitives placed by footprint and bottom.

Dimensions are full extents in metres. A shape's frame has x forward, y left, z up, and its origin on the
ground.
"""

from collections.abc import Sequence

import numpy as np

from clip2scene.synthetic.materials import NAMES
from clip2scene.synthetic.world import CYLINDER, Part, Primitives, Shape

Colour = tuple[float, float, float]
Rng = np.random.Generator

PAINT: dict[str, Colour] = {
    "white": (0.90, 0.90, 0.90),
    "black": (0.07, 0.07, 0.08),
    "silver": (0.62, 0.64, 0.66),
    "grey": (0.35, 0.36, 0.38),
    "red": (0.68, 0.08, 0.09),
    "blue": (0.12, 0.25, 0.58),
    "green": (0.12, 0.38, 0.24),
    "beige": (0.72, 0.64, 0.50),
    "orange": (0.86, 0.42, 0.08),
    "yellow": (0.88, 0.74, 0.14),
}
"""Colours (red, green, blue in [0, 1]) by the names that captions use."""

DARK: Colour = (0.05, 0.05, 0.055)
STEEL: Colour = (0.45, 0.46, 0.47)
_UPRIGHT = np.eye(3)
AXLE = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # puts a cylinder's axis along y
LYING = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # puts it along x


def part(
    kind: int,
    place: tuple[float, float, float],
    size: tuple[float, float, float],
    material: str,
    colour: Colour,
    rotation: np.ndarray = _UPRIGHT,
) -> Part:
    """Return a primitive placed by its footprint and its bottom.

    Args:
        kind: BOX, CYLINDER, ELLIPSOID or CONE.
        place: x and y of the centre and z of the lowest point, metres.
        size: Full extents along the primitive's own axes, metres.
        material: Key of `materials.MATERIALS`.
        colour: Red, green, blue in [0, 1].
        rotation: [3, 3] float64, the primitive's axes as columns.
    """
    half = tuple(extent / 2 for extent in size)
    rise = float(np.abs(rotation[2]) @ np.array(half))
    return Part(kind, (place[0], place[1], place[2] + rise), half, material, colour, rotation)


def tilt(angle: float) -> np.ndarray:
    """Return the rotation [3, 3] float64 about y that raises the nose by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def wheels(xs: tuple[float, ...], track: float, diameter: float, width: float) -> list[Part]:
    """Return a pair of wheels at each of the positions `xs` along a vehicle; all lengths in metres."""
    size = (diameter, diameter, width)
    return [part(CYLINDER, (x, y, 0), size, "wheel", DARK, AXLE) for x in xs for y in (-track / 2, track / 2)]


def choose(rng: Rng, names: tuple[str, ...]) -> tuple[str, Colour]:
    """Pick one of the named colours; return its name and the colour, slightly varied."""
    name = names[rng.integers(len(names))]
    return name, vary(rng, PAINT[name])


def vary(rng: Rng, colour: Colour, amount: float = 0.05) -> Colour:
    """Return a colour with normal noise of standard deviation `amount` added to each channel."""
    return tuple(np.clip(np.array(colour) + rng.normal(0, amount, 3), 0.02, 1).tolist())


def stack(shapes: Sequence[Shape], categories: Sequence[int]) -> Primitives:
    """Stack the parts of all shapes into arrays, each part in its shape's frame.

    `categories` holds the label id of each shape.
    """
    parts = [(owner, part) for owner, shape in enumerate(shapes) for part in shape.parts]
    return Primitives(
        kind=np.array([part.kind for _, part in parts], dtype=np.int8),
        centre=np.array([part.centre for _, part in parts], dtype=np.float32).reshape(-1, 3),
        axes=np.array([part.rotation for _, part in parts], dtype=np.float32).reshape(-1, 3, 3),
        half=np.array([part.half for _, part in parts], dtype=np.float32).reshape(-1, 3),
        material=np.array([NAMES.index(part.material) for _, part in parts], dtype=np.int16),
        colour=np.array([part.colour for _, part in parts], dtype=np.float32).reshape(-1, 3),
        owner=np.array([owner for owner, _ in parts], dtype=np.int32),
        category=np.array([categories[owner] for owner, _ in parts], dtype=np.uint8),
    )
