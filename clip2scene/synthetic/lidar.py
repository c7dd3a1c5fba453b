"""The spinning lidar: beams, range noise, intensity, drop-outs."""

from dataclasses import dataclass

import numpy as np

from clip2scene.config import Synthetic
from clip2scene.synthetic import materials
from clip2scene.synthetic.raycast import View, observe, rotate, surface
from clip2scene.synthetic.world import Primitives, World

_REACH = 70.0
_FAINT = 0.012  # returns weaker than this share of the light are lost at times
FALL_OFF = 45.0
"""Range at which half of the returned light has been lost, metres."""


@dataclass(frozen=True)
class Lidar:
    """The rays of one rotation (a `raycast.Sensor`): a row a beam, lowest first; a column a firing.

    All rays of a rotation start from one pose: nuScenes' own clouds are corrected for the motion within it.
    The vehicle that carries the lidar returns nothing.
    """

    directions: np.ndarray
    elevation: np.ndarray
    reach: float = _REACH

    @classmethod
    def build(cls, degrees: np.ndarray, azimuth_steps: int) -> "Lidar":
        """A lidar with beams at these angles above the horizon, lowest first, and firings in a rotation."""
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
        """See `raycast.Sensor.windows`."""
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
    """The N returns of one rotation, in the order of firing.

    Attributes:
        points: [N, 3] float32, metres, lidar frame.
        power: [N], share of the light that came back, mostly far below 1.
        ring: [N], the beam, counted from the lowest.
        ray: [N] int64, flat position of the ray in the grid of `view`.
        view: What the rays met.
    """

    points: np.ndarray
    power: np.ndarray
    ring: np.ndarray
    ray: np.ndarray
    view: View

    @property
    def category(self) -> np.ndarray:
        """Lidarseg ids [N] uint8."""
        return self.view.category.take(self.ray)


def scan(
    world: World,
    primitives: Primitives,
    lidar: Lidar,
    pose: np.ndarray,
    parameters: Synthetic,
    rng: np.random.Generator,
) -> Sweep:
    """One rotation.

    Args:
        world: For ground and weather.
        primitives: The things' primitives at this time, world frame.
        lidar: The rays.
        pose: [4, 4], lidar to world.
        parameters: Noise, drop-outs, rain.
        rng: For these.
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
    """Share of the light that comes back [H, W], and from which range [H, W], metres."""
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
