"""Synthetic streets in SemanticKITTI's format: 64 beams, one colour camera, keyframes at 10 Hz."""

from pathlib import Path

import numpy as np
from PIL import Image

from clip2scene import seeding
from clip2scene.datasets.semantickitti import PERIOD, SPLITS
from clip2scene.errors import InputError
from clip2scene.synthetic import lidar, materials, streets
from clip2scene.synthetic.camera import Camera, photograph
from clip2scene.synthetic.categories import category_id
from clip2scene.synthetic.generate import Writer
from clip2scene.synthetic.vehicles import KITTI
from clip2scene.synthetic.world import Ground, Thing, inverse

_THINGS = {
    "car": (10, 252),
    "bicycle": (11, 11),
    "bus": (13, 257),
    "motorcycle": (15, 15),
    "truck": (18, 258),
    "trailer": (20, 259),
    "construction_vehicle": (20, 259),
    "pedestrian": (30, 254),
}
"""Semantic ids of the countable kinds of things, standing and moving."""
_RIDDEN = {"bicycle": (31, 253), "motorcycle": (32, 255)}
"""Semantic ids of cycles with a rider, standing and moving: the whole is a bicyclist or a motorcyclist."""
_SCENERY = {
    "building": 50,
    "barrier": 51,
    "wall": 51,
    "tree": 70,
    "bush": 70,
    "hedge": 70,
    "post": 80,
    "traffic_light": 80,
    "traffic_cone": 99,
}
_MATERIALS = {"bark": 71, "sign": 81}
"""Semantic ids of parts made of these materials: the trunk of a tree, the sign on a post."""
_GROUND = {"driveable_surface": 40, "sidewalk": 48, "other_flat": 49, "terrain": 72}
_PARKING, _MARKING = 44, 60

_BASELINES = {"P0": 0.0, "P1": -0.54, "P2": 0.06, "P3": -0.47}
"""Distance from each rectified camera to camera 0 along the image rows, metres."""


class SemanticKITTIWriter(Writer):
    """Writer of ``sequences/<XX>/``: scans, labels, left colour images, calibration, poses and times.

    A scene is a sequence with one scan per keyframe of the parameters. Train scenes take the first numbers of
    SemanticKITTI's train sequences; the val scene is 08.
    """

    def scenes(self) -> list[str]:
        """Return the sequence names, two digits each, train sequences first.

        Raises:
            InputError: SemanticKITTI's split has fewer sequences than asked for.
        """
        train, val = sorted(SPLITS["train"]), sorted(SPLITS["val"])
        for name, sequences in (("train_scenes", train), ("val_scenes", val)):
            if (wanted := getattr(self.parameters, name)) > len(sequences):
                limit = f"expected at most {len(sequences)}, as SemanticKITTI's split has"
                raise InputError(f"synthetic.{name}: {wanted} sequences; {limit}")
        numbers = train[: self.parameters.train_scenes] + val[: self.parameters.val_scenes]
        return [f"{number:02d}" for number in numbers]

    def make(self, name: str) -> None:
        """Write one sequence."""
        folder, parameters = self.root / "sequences" / name, self.parameters
        times = PERIOD * np.arange(parameters.keyframes)
        rng = seeding.generator(self.seed, "semantickitti", name)
        world = streets.make_world(parameters, rng, times[-1])
        beams, (camera,) = KITTI.lidar(parameters), KITTI.cameras(parameters).values()
        things, ground = _thing_ids(world.things), _ground_ids(world.ground)
        for sub in ("velodyne", "labels", "image_2"):
            (folder / sub).mkdir(parents=True)
        for number, time in enumerate(times):
            primitives, ego, stem = world.primitives(time), world.ego(time), f"{number:06d}"
            pose = ego @ KITTI.lidar_to_ego
            rng = seeding.generator(self.seed, "semantickitti", "lidar", name, number)
            sweep = lidar.scan(world, primitives, beams, pose, parameters, rng)
            columns = [sweep.points, remission(sweep, rng)]
            np.column_stack(columns).astype(np.float32).tofile(folder / f"velodyne/{stem}.bin")
            _labels(sweep, things, ground).tofile(folder / f"labels/{stem}.label")
            rng = seeding.generator(self.seed, "semantickitti", "image", name, number)
            image, _ = photograph(world, primitives, camera, ego @ camera.to_ego, rng)
            Image.fromarray(image).save(folder / f"image_2/{stem}.png")
        to_camera = _write_calibration(folder / "calib.txt", camera)
        cameras = np.array([world.ego(time) @ KITTI.lidar_to_ego @ inverse(to_camera) for time in times])
        np.savetxt(folder / "poses.txt", (inverse(cameras[0]) @ cameras)[:, :3].reshape(-1, 12), "%.6e")
        np.savetxt(folder / "times.txt", times, "%.6e")

    def finish(self, made: list[None]) -> None:
        """Do nothing: no file concerns more than one sequence."""


writer = SemanticKITTIWriter


def remission(sweep: lidar.Sweep, rng: np.random.Generator) -> np.ndarray:
    """Return the remission that the lidar reports for its returns, [N], 0 to 0.99 in steps of 0.01.

    Like KITTI's HDL-64E, the lidar compensates for range and amplifies weak returns more than strong ones.
    The constants bring the mean, the standard deviation and the share of zeros near those of a real scan
    (sequence 00, scan 000000: 0.29, 0.15 and 8 %).
    """
    power = sweep.power * (1 + (sweep.view.depth.take(sweep.ray) / lidar.FALL_OFF) ** 2)
    unrated = rng.random(len(power)) < 0.08
    return np.where(unrated, 0, np.clip(np.sqrt(1.7 * power), 0, 0.99)).round(2)


def _thing_ids(things: tuple[Thing, ...]) -> np.ndarray:
    """Return [T] uint32: semantic ids, with the instance number of countable things in the upper 16 bits."""
    ids = np.zeros(len(things), dtype=np.uint32)
    for number, thing in enumerate(things):
        if thing.kind in _SCENERY:
            ids[number] = _SCENERY[thing.kind]
        else:
            standing, moving = (_RIDDEN if thing.ridden else _THINGS)[thing.kind]
            ids[number] = (moving if thing.speed else standing) | (number + 1) << 16
    return ids


def _ground_ids(ground: Ground) -> np.ndarray:
    """Return the semantic id of every cell of the ground map, [Y, X] uint32."""
    ids = np.zeros(ground.category.shape, dtype=np.uint32)
    for name, number in _GROUND.items():
        ids[ground.category == category_id(name)] = number
    ids[ground.parking > 0] = _PARKING
    ids[ground.marking > 0] = _MARKING
    return ids


def _labels(sweep: lidar.Sweep, things: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return labels [N] uint32 of a sweep's points, from the ids of things [T] and of the ground [Y, X]."""
    view, primitives = sweep.view, sweep.view.primitives
    parts = np.append(things[primitives.owner], np.uint32(0))  # the last is for index -1, no part hit
    for material, number in _MATERIALS.items():
        parts[:-1][primitives.material == materials.NAMES.index(material)] = number
    part, cell = view.index.take(sweep.ray), view.cell.take(sweep.ray)
    return np.where(part >= 0, parts[part], ground.ravel()[cell])


def _write_calibration(path: Path, camera: Camera) -> np.ndarray:
    """Write ``calib.txt``; return its Tr [4, 4] float64, lidar to rectified camera 0, metres."""
    to_camera = inverse(camera.to_ego) @ KITTI.lidar_to_ego
    to_camera[0, 3] -= _BASELINES["P2"]
    rows = {}
    for name, offset in _BASELINES.items():
        shift = np.eye(4)[:3]
        shift[0, 3] = offset
        rows[name] = camera.intrinsics @ shift
    rows["Tr"] = to_camera[:3]
    lines = [f"{name}: {' '.join(f'{value:.12e}' for value in row.ravel())}\n" for name, row in rows.items()]
    path.write_text("".join(lines))
    return to_camera
