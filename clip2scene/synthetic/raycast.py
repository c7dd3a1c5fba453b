"""One ray-caster for lidar and cameras: a depth buffer filled primitive by primitive.

The rays of a sensor stand in a grid [H, W]. A primitive is tested only against the window of rows and columns
that its bounding box spans, which is what makes it fast: most windows hold a few hundred rays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np

from clip2scene.synthetic.world import BOX, CONE, CYLINDER, ELLIPSOID, Ground, Primitives, World, inverse

NEAREST = 0.05
"""Hits nearer than this are inside the sensor, metres."""
_GROUND_STEPS = 3
_CHUNK = 32768


class Sensor(Protocol):
    """A grid of rays that start at the sensor's origin.

    Attributes:
        directions: [3, H, W] float32, unit vectors, sensor frame.
        reach: Longest range, metres.
    """

    directions: np.ndarray
    reach: float

    def windows(self, corners: np.ndarray) -> np.ndarray:
        """The rays that may hit boxes.

        Args:
            corners: [P, 8, 3] float32, metres, sensor frame; bits 2, 1, 0 of a corner's number are its
                sides on the box's x, y, z axes.

        Returns:
            [R, 5] int: box, first row, end row, first column, end column. A box has no window where the
            sensor cannot see it, and two where it lies across the seam of a spinning sensor.
        """
        ...


@dataclass(frozen=True)
class View:
    """What the rays of a sensor meet at one time.

    Attributes:
        pose: [4, 4] float64, sensor to world.
        depth: [H, W] float32, distance along the unit ray, metres; infinite where it meets nothing.
        index: [H, W] int32, the primitive that it meets, or -1.
        cell: [H, W] int32, the cell of the ground map that it meets, or -1.
        category: [H, W] uint8, lidarseg id, 0 where it meets nothing.
        primitives: The primitives in the sensor frame.
    """

    pose: np.ndarray
    depth: np.ndarray
    index: np.ndarray
    cell: np.ndarray
    category: np.ndarray
    primitives: Primitives


def observe(world: World, primitives: Primitives, sensor: Sensor, pose: np.ndarray) -> View:
    """Cast the sensor's rays into the world.

    Args:
        world: For its ground.
        primitives: The things' primitives at this time, world frame.
        sensor: The grid of rays.
        pose: [4, 4], sensor to world.
    """
    depth, cell = cast_ground(world.ground, sensor.directions, pose)
    depth[depth > sensor.reach] = np.inf
    view = meet(primitives, sensor, pose, depth)
    cell[(view.index >= 0) | ~np.isfinite(depth)] = -1
    category = np.where(cell >= 0, world.ground.category.ravel()[cell], view.category)
    return replace(view, cell=cell, category=category)


def meet(primitives: Primitives, sensor: Sensor, pose: np.ndarray, depth: np.ndarray) -> View:
    """Cast the sensor's rays onto primitives alone.

    Args:
        primitives: World frame.
        sensor: The grid of rays.
        pose: [4, 4], sensor to world.
        depth: [H, W] float32, how far the rays go without them, metres; lowered in place.
    """
    distance = np.linalg.norm(primitives.centre - pose[:3, 3], axis=1) - np.linalg.norm(
        primitives.half, axis=1
    )
    to_sensor = inverse(pose)
    near = primitives.take(distance < sensor.reach).moved(to_sensor[:3, :3], to_sensor[:3, 3])
    index = cast(near, sensor, depth)
    category = np.zeros(depth.shape, np.uint8)
    hit = index >= 0
    category[hit] = near.category[index[hit]]
    return View(pose, depth, index, np.full(depth.shape, -1, np.int32), category, near)


def cast_ground(ground: Ground, directions: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the ground [H, W] and the cell met [H, W], by fixed-point steps on its height.

    Heights vary by less than the sensor's own above the ground, so a few steps bring the rest below the range
    noise except where a ray grazes a kerb.
    """
    rotation, origin = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
    east, north, up = rotate(rotation, directions)
    heights = ground.height.ravel()
    with np.errstate(divide="ignore"):
        slope = np.where(up < -1e-4, -1 / up, np.float32(0))  # metres along the ray for a metre down
    height = np.float32(0)
    for _ in range(_GROUND_STEPS):
        depth = (origin[2] - height) * slope
        cell = ground.cell(origin[0] + east * depth, origin[1] + north * depth)
        height = heights[cell]
    depth[slope == 0] = np.inf
    return depth, cell


def rotate(rotation: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Rays [3, ...] under a rotation [3, 3]; sums in one order whatever the number of threads."""
    x, y, z = rotation.astype(np.float32)[..., *(None,) * (rays.ndim - 1)].swapaxes(0, 1)
    return x * rays[0] + y * rays[1] + z * rays[2]


def cast(primitives: Primitives, sensor: Sensor, depth: np.ndarray) -> np.ndarray:
    """Lower `depth` [H, W] in place to the nearest primitive; return which one it is [H, W], or -1.

    Args:
        primitives: In the sensor frame.
        sensor: The grid of rays.
        depth: [H, W] float32, metres, what is already known to be met (the ground).
    """
    nearest, index = depth.reshape(-1), np.full(depth.size, -1, dtype=np.int32)
    rays = sensor.directions.reshape(3, -1)
    to_unit = (
        primitives.axes.transpose(0, 2, 1) / primitives.half[:, :, None]
    )  # [P, 3, 3]: metres -> unit cube
    origins = -(to_unit @ primitives.centre[:, :, None])[:, :, 0]
    windows = sensor.windows(corners(primitives))
    for kind, intersect in _INTERSECT.items():
        for some in _chunks(windows[primitives.kind[windows[:, 0]] == kind]):
            part, ray = _pairs(some, depth.shape[1])
            frame = to_unit.reshape(-1, 9).T.take(part, axis=1)
            x, y, z = rays.take(ray, axis=1)
            local = frame[0::3] * x + frame[1::3] * y + frame[2::3] * z
            with np.errstate(divide="ignore", invalid="ignore"):
                found = intersect(origins.T.take(part, axis=1), local)
            nearer = np.flatnonzero((found < nearest[ray]) & (found > NEAREST))
            part, ray, found = part[nearer], ray[nearer], found[nearer]
            np.minimum.at(nearest, ray, found)
            first = found == nearest[ray]
            index[ray[first]] = part[first]
    return index.reshape(depth.shape)


def _chunks(windows: np.ndarray) -> Iterator[np.ndarray]:
    """Windows [R, 5] in pieces whose rays fit into the processor's cache together."""
    end = np.cumsum((windows[:, 2] - windows[:, 1]) * (windows[:, 4] - windows[:, 3]))
    piece = end // _CHUNK
    for number in np.unique(piece):
        yield windows[piece == number]


def _pairs(windows: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Every primitive and ray that meet in windows [R, 5]: two arrays, rays as flat positions in the grid."""
    part, top, bottom, left, right = windows.T
    width = right - left
    counts = (bottom - top) * width
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(step, np.repeat(width, counts))
    ray = row * columns + column + np.repeat(top * columns + left, counts)
    return np.repeat(part, counts), ray


def corners(primitives: Primitives) -> np.ndarray:
    """Corners [P, 8, 3] of the bounding boxes, in the order that `Sensor.windows` expects."""
    sides = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32)
    offsets = (primitives.half[:, None, :] * sides) @ primitives.axes.transpose(0, 2, 1)
    return primitives.centre[:, None, :] + offsets


def _interval(origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the slab [-1, 1]."""
    reciprocal = 1 / direction
    middle, width = -origin * reciprocal, np.abs(reciprocal)
    return middle - width, middle + width


def _roots(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Roots of a t² + 2 b t + c, the smaller first where a > 0; NaN where there are none."""
    root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def _first(entry: np.ndarray, leave: np.ndarray) -> np.ndarray:
    return np.where(entry < leave, entry, np.float32(np.inf))


def _box(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    entry, leave = _interval(o, d)
    return _first(entry.max(0), leave.min(0))


def _ellipsoid(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    return _first(*_roots((d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1))


def _cylinder(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    side = _roots(*((u * v).sum(0) for u, v in ((d[:2], d[:2]), (o[:2], d[:2]))), (o[:2] ** 2).sum(0) - 1)
    end = _interval(o[2], d[2])
    return _first(np.maximum(side[0], end[0]), np.minimum(side[1], end[1]))


def _cone(o: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The mantle x² + y² = ((1 - z) / 2)², |z| <= 1; the base stands on something and is left open."""
    radius, change = (1 - o[2]) / 2, -d[2] / 2  # at the origin, and along the ray
    a = d[0] ** 2 + d[1] ** 2 - change**2
    b = o[0] * d[0] + o[1] * d[1] - radius * change
    c = o[0] ** 2 + o[1] ** 2 - radius**2
    best = np.full(a.shape, np.inf, dtype=np.float32)
    for found in _roots(a, b, c):
        inside = (np.abs(o[2] + found * d[2]) <= 1) & (found > 0) & (found < best)
        best = np.where(inside, found, best)
    return best


_INTERSECT = {BOX: _box, CYLINDER: _cylinder, ELLIPSOID: _ellipsoid, CONE: _cone}


@dataclass(frozen=True)
class Surface:
    """M points on primitives, in the primitives' own frames.

    Attributes:
        local: [3, M] float32, metres from the primitive's centre along its axes.
        half: [3, M] float32, half extents of the primitive, metres.
        unit: [3, M] float32, `local` over `half`.
        normal: [3, M] float32, unit outward normal along its axes.
        cosine: [M] float32, of the angle between ray and normal.
        part: [M] int32, the primitive.
    """

    local: np.ndarray
    half: np.ndarray
    unit: np.ndarray
    normal: np.ndarray
    cosine: np.ndarray
    part: np.ndarray

    def __getitem__(self, some: slice) -> "Surface":
        return Surface(*(getattr(self, field.name)[..., some] for field in fields(self)))


def surface(view: View, directions: np.ndarray, rays: np.ndarray) -> Surface:
    """Where M rays of a view meet primitives.

    Args:
        view: From `observe`.
        directions: [3, H, W], the sensor's rays.
        rays: [M], flat positions in the grid; each must meet a primitive.
    """
    part, primitives = view.index.take(rays), view.primitives
    ray = directions.reshape(3, -1).take(rays, axis=1)
    offset = ray * view.depth.take(rays) - primitives.centre.T.take(part, axis=1)
    axes = (
        primitives.axes.transpose(1, 2, 0).reshape(9, -1).take(part, axis=1)
    )  # element (i, j) in row 3 i + j
    local = axes[:3] * offset[0] + axes[3:6] * offset[1] + axes[6:] * offset[2]
    towards = axes[:3] * ray[0] + axes[3:6] * ray[1] + axes[6:] * ray[2]
    half = primitives.half.T.take(part, axis=1)
    unit = local / half
    normal = _normals(unit, half, primitives.kind.take(part))
    return Surface(local, half, unit, normal, np.abs((towards * normal).sum(0)), part)


def _normals(unit: np.ndarray, half: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Unit normals [3, M] at points of the unit primitives."""
    normal = unit.copy()
    box = kind == BOX
    largest = np.abs(unit).argmax(0)
    axis = np.arange(3)[:, None] == largest
    normal[:, box] = (np.sign(unit) * axis)[:, box]
    mantle = (kind == CYLINDER) & (np.abs(unit[2]) < 0.999)
    normal[2, mantle] = 0
    cap = (kind == CYLINDER) & ~mantle
    normal[:2, cap] = 0
    cone = kind == CONE
    normal[2, cone] = (1 - unit[2, cone]) / 4
    normal /= half
    return normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-9)
