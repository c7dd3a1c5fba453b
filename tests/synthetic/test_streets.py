"""Contents of the synthetic streets, and consistency of lidar and cameras."""

import numpy as np
import pytest
from pydantic import ValidationError

from clip2scene.config import Synthetic
from clip2scene.seeding import generator
from clip2scene.synthetic import streets
from clip2scene.synthetic.camera import photograph
from clip2scene.synthetic.categories import CLASSES, category_id
from clip2scene.synthetic.lidar import Sweep, scan
from clip2scene.synthetic.vehicles import KITTI, NUSCENES, Vehicle
from clip2scene.synthetic.world import World


def street(number: int = 0, **parameters) -> tuple[World, Synthetic]:
    values = Synthetic(**parameters)
    return streets.make_world(values, generator(0, "street", number), seconds=3.5), values


def sweep(world: World, parameters: Synthetic, time: float, vehicle: Vehicle = NUSCENES) -> Sweep:
    lidar, pose = vehicle.lidar(parameters), world.ego(time) @ vehicle.lidar_to_ego
    return scan(world, world.primitives(time), lidar, pose, parameters, generator(0, "lidar"))


def test_every_class_is_seen():
    """Scan two streets for a few seconds: each shows nearly all of the 16 classes, both together show all."""
    seen = []
    for number in range(2):
        world, parameters = street(number)
        ids = np.concatenate([sweep(world, parameters, time).category for time in (0.0, 1.2, 2.4, 3.5)])
        seen.append({name for name in CLASSES if category_id(name) in ids})
    assert all(len(classes) >= 14 for classes in seen)
    assert set.union(*seen) == set(CLASSES)


def test_left_out_classes_are_nowhere():
    left_out = ("car", "vegetation", "terrain")
    world, parameters = street(without=left_out)
    ids = sweep(world, parameters, 1.0).category
    found = set(ids) | set(world.parts.category) | set(world.ground.category.ravel())
    assert found.isdisjoint(map(category_id, left_out))
    assert category_id("truck") in found


def test_an_empty_street():
    """Scan and photograph a road without objects in the heaviest rain."""
    left_out = tuple(name for name in CLASSES if name != "driveable_surface")
    world, parameters = street(without=left_out, traffic=0, rain=1.0)
    returns = sweep(world, parameters, 0.0)
    assert len(returns.points) > 1000
    assert set(returns.category) == {category_id("driveable_surface")}
    camera = NUSCENES.cameras(parameters)["CAM_FRONT"]
    image, view = photograph(
        world, world.primitives(0.0), camera, world.ego(0.0) @ camera.to_ego, generator(0, "image")
    )
    assert image.std() > 10
    assert set(view.category.ravel()) == {0, category_id("driveable_surface")}


@pytest.mark.parametrize("name", ["cars", "driveable_surface"])
def test_what_is_no_class_or_the_road_cannot_be_left_out(name):
    with pytest.raises(ValidationError, match=f"'{name}' cannot be left out; expected names among barrier"):
        Synthetic(without=(name,))


def test_traffic_and_rain():
    empty, _ = street(traffic=0)
    assert not {thing.name for thing in empty.things} & {"car", "bus", "pedestrian", "bicycle"}
    dense, _ = street(traffic=2.0)
    normal, parameters = street()
    assert len(dense.things) > 1.2 * len(normal.things)
    wet, wet_parameters = street(rain=0.8)
    dry_power, wet_power = sweep(normal, parameters, 1.0).power, sweep(wet, wet_parameters, 1.0).power
    assert len(wet_power) < 0.9 * len(dry_power)
    assert wet_power.mean() < 0.8 * dry_power.mean()


def test_things_move_at_their_speed():
    world, _ = street()
    (before, _), (after, _) = world.poses(0.0), world.poses(0.5)
    expected = np.abs([thing.speed for thing in world.things]) * 0.5
    moved = np.linalg.norm(after[:, :2] - before[:, :2], axis=1)
    assert (expected > 2).sum() > 5
    np.testing.assert_allclose(moved, expected, rtol=0.1)


@pytest.mark.parametrize("vehicle", [NUSCENES, KITTI], ids=["nuscenes", "kitti"])
def test_lidar_points_land_on_pixels_of_their_class(vehicle):
    """Project lidar points into images of the same instant and compare their classes."""
    world, parameters = street(range_noise=0.0)
    returns = sweep(world, parameters, 1.0, vehicle)
    points, ids = returns.points, returns.category
    agree = total = hidden = 0
    for name, camera in vehicle.cameras(parameters).items():
        pose = world.ego(1.0) @ camera.to_ego
        _, view = photograph(world, world.primitives(1.0), camera, pose, generator(0, name))
        to_camera = np.linalg.inv(camera.to_ego) @ vehicle.lidar_to_ego
        seen = points @ to_camera[:3, :3].T + to_camera[:3, 3]
        pixel = seen @ camera.intrinsics.T
        with np.errstate(divide="ignore", invalid="ignore"):
            column, row = np.rint(pixel[:, :2] / pixel[:, 2:]).T
        height, width = parameters.image_size
        inside = (seen[:, 2] > 1) & (column > 0) & (column < width - 1) & (row > 0) & (row < height - 1)
        row, column, label = row[inside].astype(int), column[inside].astype(int), ids[inside]
        depth = (view.depth * camera.directions[2])[row, column]
        open_ = depth > seen[inside, 2] - 0.5  # the lidar is mounted higher and sees over some objects
        agree += (view.category[row, column] == label)[open_].sum()
        total += open_.sum()
        hidden += (~open_).sum()
        assert inside.sum() > 300
    assert agree / total > 0.97
    assert hidden / (hidden + total) < 0.12
