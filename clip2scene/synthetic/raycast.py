"""Ray caster for lidar and cameras: a depth buffer that is filled primitive by primitive.

The rays of a sensor form a grid [H, W]. A primitive is tested only against the window of rows and columns
that its bounding box spans. Most windows hold a few hundred rays, which makes the ray caster fast.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np

from clip2scene.synthetic.world import BOX, CONE, CYLINDER, ELLIPSOID, Ground, Primitives, World, inverse

NEAREST = 0.05
"""Minimum range, metres; nearer hits are inside the sensor."""
_GROUND_STEPS = 3
_CHUNK = 32768


class Sensor(Protocol):
    """Grid of rays that start at the sensor's origin.

    Attributes:
        directions: [3, H, W] float32, unit vectors, sensor frame.
        reach: Maximum range, metres.
    """

    directions: np.ndarray
    reach: float

    def windows(self, corners: np.ndarray) -> np.ndarray:
        """Return the windows of rays that may hit each box.

        Args:
            corners: [P, 8, 3] float32, metres, sensor frame; bits 2, 1 and 0 of a corner's number give its
                side on the box's x, y and z axes.

        Returns:
            [R, 5] int: box, first row, end row, first column, end column. A box has no window if the sensor
            cannot see it, and two if it lies across the seam of a spinning sensor.
        """
        ...


@dataclass(frozen=True)
class View:
    """Hits of a sensor's rays at one time.

    Attributes:
        pose: [4, 4] float64, metres, sensor to world.
        depth: [H, W] float32, distance along the unit ray, metres; infinite where nothing is hit.
        index: [H, W] int32, primitive that is hit, or -1.
        cell: [H, W] int32, flat index of the ground-map cell that is hit, or -1.
        category: [H, W] uint8, label id (streets: lidarseg, rooms: NYU40); 0 where nothing is hit.
        primitives: Primitives within reach, sensor frame.
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
        world: Supplies the ground.
        primitives: Primitives of all things at this time, world frame.
        sensor: Grid of rays.
        pose: [4, 4] float64, metres, sensor to world.
    """
    depth, cell = cast_ground(world.ground, sensor.directions, pose)
    depth[depth > sensor.reach] = np.inf
    view = meet(primitives, sensor, pose, depth)
    cell[(view.index >= 0) | ~np.isfinite(depth)] = -1
    category = np.where(cell >= 0, world.ground.category.ravel()[cell], view.category)
    return replace(view, cell=cell, category=category)


def meet(primitives: Primitives, sensor: Sensor, pose: np.ndarray, depth: np.ndarray) -> View:
    """Cast the sensor's rays onto primitives alone, without ground.

    Args:
        primitives: Primitives in the world frame.
        sensor: Grid of rays.
        pose: [4, 4] float64, metres, sensor to world.
        depth: [H, W] float32, metres, range of each ray before any primitive is hit; lowered in place.
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
    """Return the distance to the ground [H, W] float32, metres, and the cell hit [H, W] int32.

    The height of the ground is found by fixed-point iteration. It varies by less than the height of the
    sensor above the ground, so a few steps bring the error below the range noise, except where a ray grazes a
    kerb.
    """
    rotation, origin = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
    east, north, up = rotate(rotation, directions)
    heights = ground.height.ravel()
    with np.errstate(divide="ignore"):
        slope = np.where(up < -1e-4, -1 / up, np.float32(0))  # metres along the ray per metre down
    height = np.float32(0)
    for _ in range(_GROUND_STEPS):
        depth = (origin[2] - height) * slope
        cell = ground.cell(origin[0] + east * depth, origin[1] + north * depth)
        height = heights[cell]
    depth[slope == 0] = np.inf
    return depth, cell


def rotate(rotation: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Rotate rays [3, ...] float32 by a rotation [3, 3].

    The order of the sums does not depend on the number of threads, so neither do the results.
    """
    x, y, z = rotation.astype(np.float32)[..., *(None,) * (rays.ndim - 1)].swapaxes(0, 1)
    return x * rays[0] + y * rays[1] + z * rays[2]


def cast(primitives: Primitives, sensor: Sensor, depth: np.ndarray) -> np.ndarray:
    """Lower `depth` in place to the nearest primitive on each ray.

    Args:
        primitives: Primitives in the sensor frame.
        sensor: Grid of rays.
        depth: [H, W] float32, metres, distance of hits already known (the ground).

    Returns:
        [H, W] int32, the nearest primitive, or -1.
    """
    nearest, index = depth.reshape(-1), np.full(depth.size, -1, dtype=np.int32)
    rays = sensor.directions.reshape(3, -1)
    # [P, 3, 3], sensor frame in metres -> unit cube
    to_unit = primitives.axes.transpose(0, 2, 1) / primitives.half[:, :, None]
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
    """Split windows [R, 5] into pieces whose rays together fit into the processor's cache."""
    end = np.cumsum((windows[:, 2] - windows[:, 1]) * (windows[:, 4] - windows[:, 3]))
    piece = end // _CHUNK
    for number in np.unique(piece):
        yield windows[piece == number]


def _pairs(windows: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the K primitives and rays to test in windows [R, 5]; a ray is its flat index in the grid."""
    part, top, bottom, left, right = windows.T
    width = right - left
    counts = (bottom - top) * width
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(step, np.repeat(width, counts))
    ray = row * columns + column + np.repeat(top * columns + left, counts)
    return np.repeat(part, counts), ray


def corners(primitives: Primitives) -> np.ndarray:
    """Return the bounding boxes' corners [P, 8, 3] float32 in the order that `Sensor.windows` expects."""
    sides = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32)
    offsets = (primitives.half[:, None, :] * sides) @ primitives.axes.transpose(0, 2, 1)
    return primitives.centre[:, None, :] + offsets


def _interval(origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ray parameters at which rays enter and leave the slab [-1, 1]."""
    reciprocal = 1 / direction
    middle, width = -origin * reciprocal, np.abs(reciprocal)
    return middle - width, middle + width


def _roots(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the roots of a t² + 2 b t + c, the smaller first where a > 0; NaN where there are none."""
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
    """Intersect the mantle x² + y² = ((1 - z) / 2)², |z| <= 1; the base rests on something and stays open."""
    radius, change = (1 - o[2]) / 2, -d[2] / 2  # at the ray's origin, and its change along the ray
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
        unit: [3, M] float32, `local` divided by `half`.
        normal: [3, M] float32, unit outward normal along the primitive's axes.
        cosine: [M] float32, cosine of the angle between ray and normal.
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
    """Return the surface points that M rays of a view hit.

    Args:
        view: Result of `observe` or `meet`.
        directions: [3, H, W] float32, the sensor's rays.
        rays: [M] int, flat indices in the grid; each ray must hit a primitive.
    """
    part, primitives = view.index.take(rays), view.primitives
    ray = directions.reshape(3, -1).take(rays, axis=1)
    offset = ray * view.depth.take(rays) - primitives.centre.T.take(part, axis=1)
    # element (i, j) is in row 3 i + j
    axes = primitives.axes.transpose(1, 2, 0).reshape(9, -1).take(part, axis=1)
    local = axes[:3] * offset[0] + axes[3:6] * offset[1] + axes[6:] * offset[2]
    towards = axes[:3] * ray[0] + axes[3:6] * ray[1] + axes[6:] * ray[2]
    half = primitives.half.T.take(part, axis=1)
    unit = local / half
    normal = _normals(unit, half, primitives.kind.take(part))
    return Surface(local, half, unit, normal, np.abs((towards * normal).sum(0)), part)


def _normals(unit: np.ndarray, half: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return the unit normals [3, M] at points [3, M] of the unit primitives."""
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
