"""Spinning lidar: beams, range noise, intensity and drop-outs."""

from dataclasses import dataclass

import numpy as np

from clip2scene.config import Synthetic
from clip2scene.synthetic import materials
from clip2scene.synthetic.raycast import View, observe, rotate, surface
from clip2scene.synthetic.world import Primitives, World

_REACH = 70.0
_FAINT = 0.012  # returns weaker than this share of the emitted light may be lost
FALL_OFF = 45.0
"""Range at which half of the returned light is lost, metres."""


@dataclass(frozen=True)
class Lidar:
    """Rays of one rotation (a `raycast.Sensor`): one row per beam, lowest first, and one column per firing.

    All rays of a rotation start from one pose, because nuScenes' own clouds are corrected for the motion
    within a rotation. The vehicle that carries the lidar returns nothing.

    Attributes:
        directions: [3, B, A] float32, unit vectors, lidar frame.
        elevation: [B] float64, angle of each beam above the horizon, radians.
        reach: Maximum range, metres.
    """

    directions: np.ndarray
    elevation: np.ndarray
    reach: float = _REACH

    @classmethod
    def build(cls, degrees: np.ndarray, azimuth_steps: int) -> "Lidar":
        """Return a lidar.

        Args:
            degrees: [B] float64, angles of the beams above the horizon, degrees, lowest first.
            azimuth_steps: Number of firings per rotation.
        """
        elevation = np.radians(degrees)
        azimuth = 2 * np.pi * np.arange(azimuth_steps) / azimuth_steps - np.pi
        flat, up = np.cos(elevation)[:, None], np.sin(elevation)[:, None]
        rays = [
            flat * np.cos(azimuth),
            flat * np.sin(azimuth),
            np.broadcast_to(up, (len(degrees), azimuth_steps)),
        ]
        return cls(np.stack(rays).astype(np.float32), elevation)

    def windows(self, corners: np.ndarray) -> np.ndarray:
        """Return the windows [R, 5] of boxes [P, 8, 3]; see `raycast.Sensor.windows`."""
        _, _, steps = self.directions.shape
        middle = corners.mean(axis=1)
        azimuth = np.arctan2(middle[:, 1], middle[:, 0])
        turn = np.arctan2(corners[..., 1], corners[..., 0]) - azimuth[:, None]
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        distance = np.hypot(middle[:, 0], middle[:, 1])
        radius = np.hypot(*(corners - middle[:, None])[..., :2].transpose(2, 0, 1)).max(axis=1)
        around = distance <= radius
        left = np.where(around, -np.pi, azimuth + turn.min(axis=1))
        right = np.where(around, np.pi, azimuth + turn.max(axis=1))
        first = np.ceil((left + np.pi) * steps / (2 * np.pi) - 1e-3).astype(int)
        end = np.minimum(
            np.floor((right + np.pi) * steps / (2 * np.pi) + 1e-3).astype(int) + 1, first + steps
        )
        near, far = np.maximum(distance - radius, 0.1), distance + radius
        low, high = corners[..., 2].min(axis=1), corners[..., 2].max(axis=1)
        top = np.searchsorted(self.elevation, np.arctan2(low, np.where(low < 0, near, far)) - 1e-3)
        bottom = np.searchsorted(self.elevation, np.arctan2(high, np.where(high > 0, near, far)) + 1e-3)
        windows = []
        for shift in (-steps, 0, steps):  # the part of [first, end) in each turn around the seam
            begin, finish = np.maximum(first + shift, 0), np.minimum(end + shift, steps)
            rows = np.stack([np.arange(len(corners)), top, bottom, begin, finish], axis=1)
            windows.append(rows[(begin < finish) & (top < bottom)])
        return np.concatenate(windows)


@dataclass(frozen=True)
class Sweep:
    """The N returns of one rotation, in firing order.

    Attributes:
        points: [N, 3] float32, metres, lidar frame.
        power: [N] float64, returned share of the emitted light, mostly far below 1.
        ring: [N] int64, beam, counted from the lowest.
        ray: [N] int64, flat index of the ray in the grid of `view`.
        view: Hits of all rays of the rotation.
    """

    points: np.ndarray
    power: np.ndarray
    ring: np.ndarray
    ray: np.ndarray
    view: View

    @property
    def category(self) -> np.ndarray:
        """Lidarseg ids of the points, [N] uint8."""
        return self.view.category.take(self.ray)


def scan(
    world: World,
    primitives: Primitives,
    lidar: Lidar,
    pose: np.ndarray,
    parameters: Synthetic,
    rng: np.random.Generator,
) -> Sweep:
    """Simulate one rotation of the lidar.

    Args:
        world: Supplies ground and weather.
        primitives: Primitives of all things at this time, world frame.
        lidar: Lidar that casts the rays.
        pose: [4, 4] float64, metres, lidar to world.
        parameters: Supplies noise, drop-out and rain.
        rng: Generator for noise, drop-out and rain.
    """
    view = observe(world, primitives, lidar, pose)
    power, depth = _returns(world, view, lidar, pose, rng)
    kept = np.isfinite(depth) & (rng.random(depth.shape) >= parameters.drop_out)
    kept &= power > rng.uniform(0.0, _FAINT * (1 + parameters.rain), depth.shape)
    wet = parameters.rain * (0.1 + 0.4 * np.clip(view.depth / _REACH, 0, 1))
    kept &= rng.random(depth.shape) >= wet
    depth = depth + rng.normal(0, parameters.range_noise, depth.shape).astype(np.float32)
    firing, beam = np.nonzero(kept.T)
    ray = beam * depth.shape[1] + firing
    points = (lidar.directions.reshape(3, -1).take(ray, axis=1) * depth.take(ray)).T
    return Sweep(points.astype(np.float32), power.take(ray) * (1 - 0.5 * parameters.rain), beam, ray, view)


def _returns(
    world: World, view: View, lidar: Lidar, pose: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of light that comes back, and the range it comes from in metres; both [H, W]."""
    hit, floor = view.index >= 0, view.cell >= 0
    reflectance = np.zeros(view.depth.shape, dtype=np.float32)
    cosine = np.zeros_like(reflectance)
    depth = view.depth.copy()
    faces = surface(view, lidar.directions, np.flatnonzero(hit))
    material = view.primitives.material[faces.part]
    brightness = view.primitives.colour.mean(axis=1)[faces.part]
    reflectance[hit] = materials.REFLECTANCE[material] * (0.5 + brightness)
    cosine[hit] = faces.cosine
    depth[hit] += materials.DEPTH[material] * rng.exponential(1, len(material)).astype(np.float32)
    cosine[floor] = -rotate(pose[:3, :3], lidar.directions)[2][floor]
    flat = np.zeros(32, dtype=np.float32)
    for category, (share, _) in materials.GROUND.items():
        flat[category] = share * float(world.tint[category].mean() ** 3)
    painted = world.ground.marking.ravel()[view.cell] > 0
    ground = np.where(painted, materials.MARKING_REFLECTANCE, flat[view.category]) * (1 - 0.6 * world.rain)
    reflectance[floor] = ground[floor]
    range_loss = 1 / (1 + (view.depth / FALL_OFF) ** 2)
    speckle = rng.gamma(6.0, 1 / 6.0, view.depth.shape)
    return reflectance * (0.25 + 0.75 * cosine) * range_loss * speckle * 0.5, depth
