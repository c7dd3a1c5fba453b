"""A synthetic data set in nuScenes' format, from parameters and a seed."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from clip2scene import seeding
from clip2scene.config import Synthetic
from clip2scene.files import atomic_directory
from clip2scene.synthetic import camera, captions, lidar, streets
from clip2scene.synthetic.categories import CLASSES, THINGS
from clip2scene.synthetic.tables import Annotation, Reading, SceneLog, write_tables
from clip2scene.synthetic.world import Thing, World, points_in_box, rotation_z

SWEEP_PERIOD, SWEEPS_PER_KEYFRAME = 0.05, 10
"""Seconds between rotations of the lidar, and how many make the half second between keyframes."""
LEAD_IN = 9
"""Sweeps before the first keyframe, so that every keyframe has as many before it."""

_EPOCH = 1_500_000_000_000_000
_ANNOTATED = 60.0
_QUALITY = 90


def generate(root: Path, version: str, parameters: Synthetic, seed: int, processes: int) -> None:
    """Write a data set: sensor files, tables, splits, and captioned crops of the train scenes.

    The bytes depend on `parameters` and `seed` alone. The splits, in ``splits.json`` among the tables, are
    train, val, and, as SLidR divides train, verifying (every seventh scene of it) and parametrize (the rest).

    Args:
        root: Folder of the data set; replaced as a whole once everything is written.
        version: E.g. ``v1.0-synthetic``.
        parameters: What the streets and the sensors are like.
        seed: Of every random choice.
        processes: How many scenes are made at a time.

    Raises:
        InputError: `parameters.without` names a class that cannot be left out.
    """
    streets.check(parameters)
    total = parameters.train_scenes + parameters.val_scenes
    names = [f"synthetic-{number:04d}" for number in range(1, total + 1)]
    train, val = names[: parameters.train_scenes], names[parameters.train_scenes :]
    verifying = train[6::7]
    splits = {
        "train": train,
        "val": val,
        "parametrize": [name for name in train if name not in verifying],
        "verifying": verifying,
    }
    context = multiprocessing.get_context("spawn")  # forking a process whose libraries run threads can hang
    with atomic_directory(root) as folder, ProcessPoolExecutor(processes, mp_context=context) as pool:
        make = partial(make_scene, folder, version, parameters, seed)
        made = list(tqdm(pool.map(make, names), total=total, desc="streets", unit="scene"))
        key = f"synthetic/{version}/{seed}"
        write_tables(folder, version, [scene for scene, _ in made], splits, key)
        crops = [row for _, rows in made[: len(train)] for row in rows]
        table = pd.DataFrame(crops, columns=list(captions.COLUMNS))
        table.to_parquet(folder / version / "captions.parquet", index=False)


def make_scene(
    root: Path, version: str, parameters: Synthetic, seed: int, name: str
) -> tuple[SceneLog, list[captions.Row]]:
    """Write one scene's sensor files; return what its tables say, and the captioned crops of its images."""
    rng = seeding.generator(seed, "street", name)
    world = streets.make_world(parameters, rng)
    to_global = np.eye(4)
    to_global[:3, :3] = rotation_z(rng.uniform(0, 2 * np.pi))
    to_global[:2, 3] = rng.uniform(300, 2000, 2)
    recorder = _Recorder(root, version, parameters, seed, name, world, to_global)
    readings, annotations, crops = [], [], []
    for step in range(-LEAD_IN, SWEEPS_PER_KEYFRAME * (parameters.keyframes - 1) + 1):
        reading, points = recorder.sweep(step)
        readings.append(reading)
        if reading.is_key_frame:
            annotations += recorder.annotate(reading.sample, points)
            for channel in recorder.cameras:
                image, rows = recorder.image(reading.sample, channel)
                readings.append(image)
                crops += rows
    stamps = tuple(reading.timestamp for reading in readings if reading.lidarseg)
    text = f"synthetic street, {len(world.things)} things"
    return SceneLog(name, text, stamps, tuple(readings), tuple(annotations)), crops


class _Recorder:
    """The vehicle's sensors in one scene, and where their files go."""

    def __init__(
        self,
        root: Path,
        version: str,
        parameters: Synthetic,
        seed: int,
        name: str,
        world: World,
        to_global: np.ndarray,
    ) -> None:
        self.root, self.version, self.parameters, self.seed, self.name = root, version, parameters, seed, name
        self.world, self.to_global = world, to_global
        self.start = _EPOCH + int(name.rsplit("-", 1)[1]) * 1_000_000_000
        self.lidar = lidar.Lidar.build(parameters.beams, parameters.azimuth_steps)
        size = parameters.image_size
        self.cameras = {channel: camera.Camera.build(mount, size) for channel, mount in camera.MOUNTS.items()}
        for channel in ("LIDAR_TOP", *self.cameras):
            (root / "samples" / channel).mkdir(parents=True, exist_ok=True)
        for folder in ("sweeps/LIDAR_TOP", f"lidarseg/{version}"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def sweep(self, step: int) -> tuple[Reading, np.ndarray]:
        """Write one rotation of the lidar; also its points [N, 3] in the world frame."""
        time, is_key_frame = step * SWEEP_PERIOD, step >= 0 and step % SWEEPS_PER_KEYFRAME == 0
        ego = self.world.ego(time)
        pose = ego @ lidar.LIDAR_TO_EGO
        rng = seeding.generator(self.seed, "lidar", self.name, step)
        points, category = lidar.scan(
            self.world, self.world.primitives(time), self.lidar, pose, self.parameters, rng
        )
        stamp = self._stamp(time)
        stem = f"{self.name}__LIDAR_TOP__{stamp}"
        path = f"{'samples' if is_key_frame else 'sweeps'}/LIDAR_TOP/{stem}.pcd.bin"
        points.tofile(self.root / path)
        labels = f"lidarseg/{self.version}/{stem}_lidarseg.bin" if is_key_frame else ""
        if is_key_frame:
            category.tofile(self.root / labels)
        reading = Reading(
            channel="LIDAR_TOP",
            timestamp=stamp,
            sample=max(0, -(-step // SWEEPS_PER_KEYFRAME)),  # that of the keyframe that follows
            is_key_frame=is_key_frame,
            path=path,
            sensor_to_ego=lidar.LIDAR_TO_EGO,
            ego_to_global=self.to_global @ ego,
            lidarseg=labels,
        )
        return reading, points[:, :3] @ pose[:3, :3].T + pose[:3, 3]

    def image(self, sample: int, channel: str) -> tuple[Reading, list[captions.Row]]:
        """Write one image, taken when the lidar passed the camera; also its captioned crops."""
        eye = self.cameras[channel]
        time = sample * SWEEPS_PER_KEYFRAME * SWEEP_PERIOD + eye.delay
        ego = self.world.ego(time)
        rng = seeding.generator(self.seed, "image", self.name, sample, channel)
        pixels, view = camera.photograph(self.world, self.world.primitives(time), eye, ego @ eye.to_ego, rng)
        stamp = self._stamp(time)
        path = f"samples/{channel}/{self.name}__{channel}__{stamp}.jpg"
        Image.fromarray(pixels).save(self.root / path, quality=_QUALITY)
        size = self.parameters.image_size
        ego_to_global = self.to_global @ ego
        reading = Reading(channel, stamp, sample, True, path, eye.to_ego, ego_to_global, eye.intrinsics, size)
        return reading, captions.caption_image(self.world, view, path, rng)

    def annotate(self, sample: int, points: np.ndarray) -> list[Annotation]:
        """Boxes of the things that the keyframe's points [N, 3], in the world frame, touch."""
        time = sample * SWEEPS_PER_KEYFRAME * SWEEP_PERIOD
        positions, headings = self.world.poses(time)
        near = np.linalg.norm(positions - self.world.ego(time)[:3, 3], axis=1) < _ANNOTATED
        annotations = []
        for number in np.flatnonzero(near):
            thing = self.world.things[number]
            if thing.name not in THINGS:
                continue
            length, width, height = thing.shape.size
            box = np.eye(4)
            box[:3, :3] = rotation_z(headings[number])
            box[:3, 3] = positions[number] + [0, 0, height / 2]
            inside = int(points_in_box(points, box, (length, width, height)).sum())
            if inside:
                size = (width, length, height)
                category = CLASSES[thing.name]
                pose = self.to_global @ box
                annotations.append(
                    Annotation(str(number), category, sample, pose, size, inside, _attributes(thing))
                )
        return annotations

    def _stamp(self, time: float) -> int:
        return self.start + round(time * 1e6)


def _attributes(thing: Thing) -> tuple[str, ...]:
    """What nuScenes says of a box beside its category."""
    if thing.name in ("bicycle", "motorcycle"):
        ridden = thing.shape.size[2] > 1.5
        return ("cycle.with_rider" if ridden else "cycle.without_rider",)
    if thing.name == "pedestrian":
        return ("pedestrian.moving" if thing.speed else "pedestrian.standing",)
    if thing.name in ("barrier", "traffic_cone"):
        return ()
    return ("vehicle.moving" if thing.speed else "vehicle.parked",)
