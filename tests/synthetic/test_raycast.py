"""The ray caster compared with intersections computed by hand."""

import numpy as np
import pytest

from clip2scene.synthetic import raycast
from clip2scene.synthetic.camera import Camera
from clip2scene.synthetic.lidar import Lidar
from clip2scene.synthetic.vehicles import KITTI, NUSCENES
from clip2scene.synthetic.world import BOX, CONE, CYLINDER, ELLIPSOID, Ground, Primitives, rotation_z


def primitives(kind, centre, half, yaw=0.0) -> Primitives:
    return Primitives(
        kind=np.array([kind], np.int8),
        centre=np.array([centre], np.float32),
        axes=rotation_z(np.array([yaw])).astype(np.float32),
        half=np.array([half], np.float32),
        material=np.zeros(1, np.int16),
        colour=np.zeros((1, 3), np.float32),
        owner=np.zeros(1, np.int32),
        category=np.array([17], np.uint8),
    )


class OneRay:
    """Sensor with a single ray, which is tested against every primitive."""

    reach = 100.0

    def __init__(self, direction):
        self.directions = (
            (np.array(direction) / np.linalg.norm(direction)).reshape(3, 1, 1).astype(np.float32)
        )

    def windows(self, corners):
        return np.array([[part, 0, 1, 0, 1] for part in range(len(corners))])


def depth_of(shape, direction) -> float:
    depth = np.full((1, 1), np.inf, np.float32)
    raycast.cast(shape, OneRay(direction), depth)
    return float(depth[0, 0])


@pytest.mark.parametrize(
    ("shape", "direction", "expected"),
    [
        (primitives(BOX, (10, 0, 0), (2, 1, 1)), (1, 0.01, 0.01), 8 * np.sqrt(1.0002)),
        (primitives(BOX, (10, 0, 0), (2, 2, 1), np.pi / 4), (1, 0, 1e-6), 10 - 2 * np.sqrt(2)),
        (primitives(BOX, (10, 5, 0), (2, 1, 1)), (1, 1e-6, 1e-6), np.inf),
        (primitives(BOX, (-10, 0, 0), (2, 1, 1)), (1, 1e-6, 1e-6), np.inf),
        (primitives(ELLIPSOID, (10, 0, 0), (3, 1, 1)), (1, 0, 0), 7),
        (
            primitives(ELLIPSOID, (10, 0, 0), (2, 2, 2)),
            (10, 2, 0),
            (100 - np.sqrt(100**2 - 96 * 104)) / np.sqrt(104),
        ),
        (primitives(CYLINDER, (10, 0, 0), (1.5, 1.5, 2)), (1, 0, 1e-6), 8.5),
        (primitives(CYLINDER, (10, 0, -5), (1.5, 1.5, 2)), (10, 0, -3), np.sqrt(109)),  # the top face
        (primitives(CONE, (10, 0, 0), (1, 1, 1)), (1, 0, 0), 9.5),  # at half the height the radius is halved
        (primitives(CONE, (10, 0, -3), (1, 1, 1)), (1, 0, 0), np.inf),
    ],
)
def test_depth(shape, direction, expected):
    assert depth_of(shape, direction) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "sensor",
    [
        Lidar.build(NUSCENES.beams, 360),
        Lidar.build(KITTI.beams, 360),
        Camera.build(NUSCENES.mounts["CAM_FRONT"], (90, 160)),
    ],
    ids=["HDL-32E", "HDL-64E", "camera"],
)
def test_windows_hold_every_ray_that_hits(sensor):
    """Compare with testing all rays: windows must not change the depths."""
    rng = np.random.default_rng(0)

    class Everything:
        directions, reach = sensor.directions, sensor.reach

        def windows(self, corners):
            _, height, width = self.directions.shape
            return np.array([[part, 0, height, 0, width] for part in range(len(corners))])

    for kind in (BOX, CYLINDER, ELLIPSOID, CONE):
        for _ in range(25):
            shape = primitives(kind, rng.uniform(-12, 12, 3), rng.uniform(0.05, 6, 3), rng.uniform(0, 6))
            depth, full = (np.full(sensor.directions.shape[1:], np.inf, np.float32) for _ in range(2))
            raycast.cast(shape, sensor, depth)
            raycast.cast(shape, Everything(), full)
            if isinstance(sensor, Camera):  # a camera sees nothing in front of its near plane
                full[full * sensor.directions[2] < 0.2] = np.inf
                depth[depth * sensor.directions[2] < 0.2] = np.inf
            np.testing.assert_array_equal(depth, full)


def test_ground_of_two_heights():
    """Cast rays at a kerb 0.2 m high at y = 0: each hits the plane of the side where it comes down."""
    ground = Ground(
        corner=(-50.0, -50.0),
        resolution=0.5,
        category=np.repeat([24, 26], 100).astype(np.uint8)[:, None].repeat(200, 1),
        height=np.repeat([0.0, 0.2], 100).astype(np.float32)[:, None].repeat(200, 1),
        marking=np.zeros((200, 200), np.uint8),
        parking=np.zeros((200, 200), np.uint8),
    )
    pose = np.eye(4)
    pose[2, 3] = 2.0
    directions = np.array([[0, -3, -2], [0, 3, -2], [0, 3, 2]], np.float32)
    directions = (directions.T / np.linalg.norm(directions, axis=1)).reshape(3, 1, 3).astype(np.float32)
    depth, cell = raycast.cast_ground(ground, directions, pose)
    np.testing.assert_allclose(depth[0], [np.sqrt(13), 0.9 * np.sqrt(13), np.inf], rtol=1e-6)
    assert ground.category.ravel()[cell[0, :2]].tolist() == [24, 26]


def test_nearest_wins_and_normals_face_out():
    """Place a wall in front of a ball: the wall is hit, and its normal points back along the ray."""
    wall, ball = primitives(BOX, (6, 0, 0), (0.5, 3, 3)), primitives(ELLIPSOID, (10, 0, 0), (2, 2, 2))
    both = Primitives(*(np.concatenate([getattr(one, name) for one in (ball, wall)]) for name in vars(wall)))
    ray = OneRay((1, 0.02, 0.01))
    depth = np.full((1, 1), np.inf, np.float32)
    index = raycast.cast(both, ray, depth)
    view = raycast.View(np.eye(4), depth, index, index, index.astype(np.uint8), both)
    face = raycast.surface(view, ray.directions, np.array([0]))
    assert index[0, 0] == 1
    assert face.normal[:, 0].tolist() == [-1, 0, 0]
    assert face.cosine[0] == pytest.approx(ray.directions[0, 0, 0])
