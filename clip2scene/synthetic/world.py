"""World model: a ground map, and things made of a few primitives; some of the things move."""

from dataclasses import dataclass, fields, replace

import numpy as np

from clip2scene.synthetic.categories import SCENERY

BOX, CYLINDER, ELLIPSOID, CONE = range(4)
"""Kinds of primitive.

In its own frame, scaled by its half extents, each primitive fills the cube [-1, 1]^3. The axis of cylinders
and cones is z; the apex of a cone is at z = 1.
"""


@dataclass(frozen=True)
class Part:
    """One primitive of a thing, in the thing's frame (x forward, y left, z up, origin on the ground).

    Attributes:
        kind: BOX, CYLINDER, ELLIPSOID or CONE.
        centre: x, y, z, metres.
        half: Half extents along the primitive's own axes, metres.
        material: Key of `materials.MATERIALS`.
        colour: Red, green, blue in [0, 1].
        rotation: [3, 3] float64, the primitive's axes as columns.
    """

    kind: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    material: str
    colour: tuple[float, float, float]
    rotation: np.ndarray


@dataclass(frozen=True)
class Shape:
    """Appearance of a thing: its parts and its bounding box.

    Attributes:
        parts: Primitives of the thing.
        size: Length (x), width (y) and height (z) of the box that stands on the origin, metres.
        colour: Name of the main colour, for captions; empty if captions name none.
    """

    parts: tuple[Part, ...]
    size: tuple[float, float, float]
    colour: str = ""


@dataclass(frozen=True)
class Thing:
    """Shape placed on the street.

    Attributes:
        kind: One of the 16 classes, or a finer kind of `categories.SCENERY`.
        shape: Shape of the thing.
        along: Position along the street at time 0, metres.
        lateral: Offset to the left of the street's centre line, metres.
        yaw: Heading relative to the street, radians.
        speed: Speed along the street, metres per second; negative against its direction.
    """

    kind: str
    shape: Shape
    along: float
    lateral: float
    yaw: float = 0.0
    speed: float = 0.0

    @property
    def name(self) -> str:
        """Class of the thing, one of the 16."""
        return SCENERY.get(self.kind, self.kind)

    @property
    def ridden(self) -> bool:
        """True for a bicycle or a motorcycle with a rider, which is recognised by its height."""
        return self.kind in ("bicycle", "motorcycle") and self.shape.size[2] > 1.5


@dataclass(frozen=True)
class Street:
    """Centre line of a street, y = amplitude * sin(x / wavelength + phase), metres and radians."""

    amplitude: float
    wavelength: float
    phase: float

    def place(self, along: np.ndarray, lateral: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return world x, y (metres) and heading (radians) at distances along and left of the centre line.

        All arrays have the same shape, float64; distances are in metres.
        """
        heading = self.heading(along)
        return along, self.centre(along) + lateral / np.cos(heading), heading

    def centre(self, x: np.ndarray) -> np.ndarray:
        """Return the world y of the centre line at world x, metres, any shape."""
        return self.amplitude * np.sin(x / self.wavelength + self.phase)

    def heading(self, x: np.ndarray) -> np.ndarray:
        """Return the direction of the centre line at world x (metres, any shape), radians."""
        return np.arctan(self.amplitude / self.wavelength * np.cos(x / self.wavelength + self.phase))

    def lateral(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the offset of world points to the left of the centre line, metres; inverse of `place`."""
        return (y - self.centre(x)) * np.cos(self.heading(x))


@dataclass(frozen=True)
class Ground:
    """Ground map; cell (row, column) starts at the point corner + resolution * (column, row).

    Attributes:
        corner: x, y of the first cell, metres.
        resolution: Edge of a cell, metres.
        category: [Y, X] uint8, lidarseg id.
        height: [Y, X] float32, metres.
        marking: [Y, X] uint8, 1 where the road is painted.
        parking: [Y, X] uint8, 1 where the road is a parking strip.
    """

    corner: tuple[float, float]
    resolution: float
    category: np.ndarray
    height: np.ndarray
    marking: np.ndarray
    parking: np.ndarray

    def cell(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the flat index of the cell under each point, int32; x and y are in metres, of any shape.

        Points off the map get the nearest border cell.
        """
        rows, columns = self.category.shape
        column = np.clip((x - self.corner[0]) / self.resolution, 0, columns - 1).astype(np.int32)
        row = np.clip((y - self.corner[1]) / self.resolution, 0, rows - 1).astype(np.int32)
        return row * columns + column


@dataclass(frozen=True)
class Primitives:
    """P primitives, all in one frame.

    Attributes:
        kind: [P] int8.
        centre: [P, 3] float32, metres.
        axes: [P, 3, 3] float32, the axes of each primitive as columns.
        half: [P, 3] float32, half extents along these axes, metres.
        material: [P] int16, position in `materials.MATERIALS`.
        colour: [P, 3] float32 in [0, 1].
        owner: [P] int32, the thing it belongs to.
        category: [P] uint8, label id (streets: lidarseg, rooms: NYU40).
    """

    kind: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    material: np.ndarray
    colour: np.ndarray
    owner: np.ndarray
    category: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def moved(self, rotation: np.ndarray, translation: np.ndarray) -> "Primitives":
        """Return the primitives after a rotation [3, 3] or [P, 3, 3] and a translation [3] or [P, 3].

        The translation is in metres.
        """
        centre = (rotation @ self.centre[:, :, None])[:, :, 0] + translation
        return replace(self, centre=centre.astype(np.float32), axes=(rotation @ self.axes).astype(np.float32))

    def take(self, chosen: np.ndarray) -> "Primitives":
        """Return the primitives selected by a boolean mask [P] or by indices."""
        return Primitives(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


@dataclass(frozen=True)
class World:
    """Street with its things and its weather, at any time.

    Attributes:
        street: Centre line of the street.
        ground: Ground map.
        things: Everything that stands or moves on the ground.
        parts: Primitives of all things, each in its thing's frame.
        ego_lateral: Offset of the ego vehicle's lane from the centre line, metres.
        ego_speed: Speed of the ego vehicle, metres per second; at time 0 it is at 0 along the street.
        sun: [3] float32, unit vector towards the sun.
        tint: [32, 3] float32, factor on the ground colour of each category in this scene.
        rain: Strength of rain in [0, 1].
    """

    street: Street
    ground: Ground
    things: tuple[Thing, ...]
    parts: Primitives
    ego_lateral: float
    ego_speed: float
    sun: np.ndarray
    tint: np.ndarray
    rain: float

    def poses(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Return positions [T, 3] (metres, on the ground) and headings [T] (radians) of all things, float64.

        `time` is in seconds.
        """
        along, lateral, yaw, speed = (
            np.array([(thing.along, thing.lateral, thing.yaw, thing.speed) for thing in self.things])
            .reshape(-1, 4)
            .T
        )
        x, y, heading = self.street.place(along + speed * time, lateral)
        height = self.ground.height.ravel()[self.ground.cell(x, y)]
        return np.stack([x, y, height], axis=1), heading + yaw

    def primitives(self, time: float) -> Primitives:
        """Return all primitives in the world frame at a time in seconds."""
        position, heading = self.poses(time)
        owner = self.parts.owner
        return self.parts.moved(rotation_z(heading)[owner], position[owner])

    def ego(self, time: float) -> np.ndarray:
        """Return the pose [4, 4] float64 of the ego vehicle, ego to world, metres, at a time in seconds.

        The ego frame has x forward, y left, and its origin on the ground.
        """
        x, y, heading = self.street.place(np.float64(self.ego_speed * time), np.float64(self.ego_lateral))
        pose = np.eye(4)
        pose[:3, :3] = rotation_z(heading)
        pose[:2, 3] = x, y
        return pose


def rotation_z(angle: np.ndarray | float) -> np.ndarray:
    """Return rotations [..., 3, 3] float64 about z by angles [...] in radians."""
    angle = np.asarray(angle, dtype=np.float64)
    cosine, sine, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    flat = np.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], axis=-1)
    return flat.reshape(*angle.shape, 3, 3)


def inverse(transform: np.ndarray) -> np.ndarray:
    """Return the inverse [4, 4] float64 of a rigid transform [4, 4]."""
    result = np.eye(4)
    result[:3, :3] = transform[:3, :3].T
    result[:3, 3] = -transform[:3, :3].T @ transform[:3, 3]
    return result


def points_in_box(points: np.ndarray, transform: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    """Return which points lie in a box.

    Args:
        points: [N, 3], metres, in any frame.
        transform: [4, 4], metres, from the box's frame (origin at its centre) to the points' frame.
        size: Extents along the box's x, y and z axes, metres.

    Returns:
        [N] bool.
    """
    half = np.asarray(size) / 2
    near = np.flatnonzero(np.abs(points[:, 0] - transform[0, 3]) <= np.linalg.norm(half))  # most are far away
    local = (points[near] - transform[:3, 3]) @ transform[:3, :3]
    inside = np.zeros(len(points), dtype=bool)
    inside[near] = (np.abs(local) <= half).all(axis=1)
    return inside
