"""Pinhole cameras: their rays and the images that they render."""

from dataclasses import dataclass

import numpy as np

from clip2scene.synthetic import materials
from clip2scene.synthetic.raycast import View, observe, rotate, surface
from clip2scene.synthetic.texture import noise
from clip2scene.synthetic.world import Primitives, World, rotation_z

_NEAR = 0.2
_REACH = 110.0
_HORIZON = np.float32([0.78, 0.82, 0.87])[:, None]
_EDGES = np.array([(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit])
# camera axes (x right, y down, z ahead) -> vehicle axes (x ahead, y left, z up)
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@dataclass(frozen=True)
class Mount:
    """Mounting pose, lens and timing of a camera on a vehicle.

    Attributes:
        position: x, y, z in the ego frame, metres.
        yaw: Viewing direction, degrees to the left of straight ahead.
        focal: Focal length divided by image width.
        delay: Time from the lidar's time stamp to the camera's, seconds.
        centre: Principal point: x divided by image width, y divided by image height.
    """

    position: tuple[float, float, float]
    yaw: float
    focal: float
    delay: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """Pinhole camera (a `raycast.Sensor`) with one ray through the middle of each pixel.

    The camera frame has x right, y down, z ahead.

    Attributes:
        directions: [3, H, W] float32, unit vectors, camera frame.
        intrinsics: [3, 3] float64, pixels; the middle of the first pixel is at (0, 0), as in OpenCV.
        to_ego: [4, 4] float64, metres, camera to ego vehicle.
        delay: Time from the lidar's time stamp to the camera's, seconds.
        reach: Maximum range, metres.
    """

    directions: np.ndarray
    intrinsics: np.ndarray
    to_ego: np.ndarray
    delay: float
    reach: float = _REACH

    @classmethod
    def build(cls, mount: Mount, size: tuple[int, int]) -> "Camera":
        """Return the camera of a mount; `size` is the height and width of its images, pixels."""
        height, width = size
        focal = mount.focal * width
        intrinsics = np.array(
            [[focal, 0, mount.centre[0] * width], [0, focal, mount.centre[1] * height], [0, 0, 1]]
        )
        to_ego = np.eye(4)
        to_ego[:3, :3] = rotation_z(np.radians(mount.yaw)) @ OPTICAL
        to_ego[:3, 3] = mount.position
        return cls.pinhole(intrinsics, size, to_ego, mount.delay)

    @classmethod
    def pinhole(
        cls,
        intrinsics: np.ndarray,
        size: tuple[int, int],
        to_ego: np.ndarray,
        delay: float,
        reach: float = _REACH,
    ) -> "Camera":
        """Return the camera with given intrinsics.

        Args:
            intrinsics: [3, 3] float64, pixels, with the same focal length for both axes.
            size: Height and width of the images, pixels.
            to_ego: [4, 4] float64, metres, camera to ego vehicle.
            delay: Time from the lidar's time stamp to the camera's, seconds.
            reach: Maximum range, metres.
        """
        focal = intrinsics[0, 0]
        row, column = np.mgrid[0 : size[0], 0 : size[1]]
        rays = np.stack(
            [(column - intrinsics[0, 2]) / focal, (row - intrinsics[1, 2]) / focal, np.ones(size)]
        )
        directions = (rays / np.linalg.norm(rays, axis=0)).astype(np.float32)
        return cls(directions, intrinsics, to_ego, delay, reach)

    def windows(self, corners: np.ndarray) -> np.ndarray:
        """Return the image windows [R, 5] of boxes [P, 8, 3], clipped at the near plane.

        See `raycast.Sensor.windows`.
        """
        height, width = self.directions.shape[1:]
        depth = corners[..., 2]
        start, stop = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
        rise = stop[..., 2] - start[..., 2]
        share = (_NEAR - start[..., 2]) / np.where(rise == 0, 1, rise)
        cuts = start + share[..., None] * (stop - start)
        crossing = (start[..., 2] < _NEAR) != (stop[..., 2] < _NEAR)
        points = np.concatenate([corners, cuts], axis=1)
        valid = np.concatenate([depth >= _NEAR, crossing], axis=1)
        scale = self.intrinsics[0, 0] / np.where(valid, np.concatenate([depth, cuts[..., 2]], axis=1), 1)
        bounds = []
        for axis, length in ((1, height), (0, width)):
            pixel = points[..., axis] * scale + self.intrinsics[axis, 2]
            first = np.where(valid, pixel, np.inf).min(axis=1)
            end = np.where(valid, pixel, -np.inf).max(axis=1)
            bounds += [np.clip(first - 1e-3, 0, length), np.clip(end + 1e-3, 0, length)]
        top, bottom, left, right = (np.ceil(bound).astype(int) for bound in bounds)
        windows = np.stack([np.arange(len(corners)), top, bottom, left, right], axis=1)
        return windows[(top < bottom) & (left < right)]


def photograph(
    world: World, primitives: Primitives, camera: Camera, pose: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, View]:
    """Render one image [H, W, 3] uint8; return it with the hits of its rays.

    Args:
        world: Supplies ground, sun and weather.
        primitives: Primitives of all things at this time, world frame.
        camera: Camera that casts the rays.
        pose: [4, 4] float64, metres, camera to world.
        rng: Generator for exposure and sensor noise.
    """
    view = observe(world, primitives, camera, pose)
    east, north, up = rotate(pose[:3, :3], camera.directions)
    image = _sky(world, east, north, up).reshape(3, -1)
    for pixels, colour in (_ground(world, view, east, north), shade(view, camera, world.sun)):
        haze = 1 - np.exp(view.depth.take(pixels) / np.float32(180 * world.rain - 260))
        image[:, pixels] = colour + (_HORIZON - colour) * haze
    image = image.reshape(3, *view.depth.shape)
    image = _weather(image, world.rain, rng)
    grain = rng.standard_normal(image.shape[1:], dtype=np.float32)
    image = image * np.float32(rng.uniform(0.92, 1.08)) + np.float32(0.008) * grain
    return (255 * np.clip(image, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0), view


def _ground(world: World, view: View, east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat indices [M] of the pixels that show ground, and their colours [3, M] float32."""
    pixels = np.flatnonzero(view.cell >= 0)
    depth, category = view.depth.take(pixels), view.category.take(pixels)
    x = np.float32(view.pose[0, 3]) + east.take(pixels) * depth
    y = np.float32(view.pose[1, 3]) + north.take(pixels) * depth
    colour = np.zeros((3, len(pixels)), dtype=np.float32)
    for number, (_, texture) in materials.GROUND.items():
        here = np.flatnonzero(category == number)
        colour[:, here] = texture(x[here], y[here]) * world.tint[number][:, None]
    painted = world.ground.marking.ravel().take(view.cell.take(pixels)) > 0
    colour[:, painted] = np.float32(materials.MARKING_COLOUR)[:, None]
    return pixels, colour * (0.45 + 0.6 * world.sun[2]) * (1 - 0.25 * world.rain)


def shade(view: View, camera: Camera, sun: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shade the pixels that show things: their textures, lit by sun and sky.

    Args:
        view: Hits of the camera's rays.
        camera: Camera that cast the rays.
        sun: [3] float32, unit vector towards the sun, world frame.

    Returns:
        Flat indices [M] of the pixels, and their colours [3, M] float32.
    """
    pixels = np.flatnonzero(view.index >= 0)
    primitives = view.primitives
    material = primitives.material.take(view.index.take(pixels))
    order = np.argsort(material, kind="stable")
    faces = surface(view, camera.directions, pixels[order])
    colour = primitives.colour.T.take(faces.part, axis=1)
    numbers, counts = np.unique(material, return_counts=True)
    for number, count, end in zip(numbers, counts, np.cumsum(counts), strict=True):
        some = slice(end - count, end)
        texture = materials.MATERIALS[materials.NAMES[number]].texture
        colour[:, some] = texture(faces[some], colour[:, some])
    lit, sky = (
        (_in_parts(vector, view).take(faces.part, axis=1) * faces.normal).sum(0)
        for vector in (sun, np.float32([0, 0, 1]))
    )
    return pixels[order], colour * (0.48 + 0.12 * sky + 0.5 * np.clip(lit, 0, 1))


def _in_parts(vector: np.ndarray, view: View) -> np.ndarray:
    """Return a world direction [3] in the axes of each primitive of a view, [3, P] float32."""
    towards = view.pose[:3, :3].T @ vector
    return (view.primitives.axes * towards[:, None]).sum(1).T.astype(np.float32)


def _sky(world: World, east: np.ndarray, north: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the sky [3, H, W] float32: blue above, pale at the horizon, with clouds; grey in rain."""
    height = np.clip(up, 0.02, 1)
    reach = np.clip(up, 0.15, 1)
    clouds = np.clip(0.45 * noise(east / reach, north / reach, world.sun[0] * 50, 4.0) + 0.1, 0, 1)
    clear = np.float32([0.45, 0.62, 0.86])[:, None, None]
    pale = np.float32([0.86, 0.89, 0.93])[:, None, None]
    grey = np.float32([0.62, 0.64, 0.67])[:, None, None]
    blend = np.clip(1 - 2.2 * height + clouds, 0, 1)
    sky = clear + (pale - clear) * blend
    return (sky + (grey - sky) * min(1.0, 1.5 * world.rain)).astype(np.float32)


def _weather(image: np.ndarray, rain: float, rng: np.random.Generator) -> np.ndarray:
    """Dim, desaturate and streak an image [3, H, W] according to the strength of rain in [0, 1]."""
    if rain == 0:
        return image
    grey = image.mean(axis=0, keepdims=True)
    image = (image + 0.5 * rain * (grey - image)) * (1 - 0.35 * rain)
    drops = rng.random(image.shape[1:]) < 0.004 * rain
    streaks = drops | np.roll(drops, 1, 0) | np.roll(drops, 2, 0) | np.roll(drops, 3, 0)
    return image + 0.12 * rain * streaks
