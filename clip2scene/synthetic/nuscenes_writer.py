"""Synthetic streets in nuScenes' format: six cameras, sweeps at 20 Hz, keyframes at 2 Hz, boxes, captions."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from clip2scene import seeding
from clip2scene.config import Synthetic
from clip2scene.synthetic import camera, captions, lidar, streets
from clip2scene.synthetic.categories import CLASSES, THINGS
from clip2scene.synthetic.generate import Writer
from clip2scene.synthetic.tables import Annotation, Reading, SceneLog, write_tables
from clip2scene.synthetic.vehicles import NUSCENES
from clip2scene.synthetic.world import Thing, World, points_in_box, rotation_z

SWEEP_PERIOD, SWEEPS_PER_KEYFRAME = 0.05, 10
"""Time between lidar rotations, seconds, and rotations per keyframe interval of half a second."""
LEAD_IN = 9
"""Number of sweeps before the first keyframe, so that every keyframe has at least 9 earlier sweeps."""

_EPOCH = 1_500_000_000_000_000
_ANNOTATED = 60.0
_QUALITY = 90


class NuScenesWriter(Writer):
    """Writer of sensor files, tables, splits, and captioned crops of the train scenes.

    The splits are stored in ``splits.json`` among the tables. They are train and val, and SLidR's division of
    train into verifying (every seventh scene) and parametrize (the rest).
    """

    def scenes(self) -> list[str]:
        """Return the scene names, ``synthetic-0001`` onwards, train scenes first."""
        total = self.parameters.train_scenes + self.parameters.val_scenes
        return [f"synthetic-{number:04d}" for number in range(1, total + 1)]

    def make(self, name: str) -> tuple[SceneLog, list[captions.Row]]:
        """Write one scene's sensor files; return the content of its tables, and the crops of its images."""
        rng = seeding.generator(self.seed, "street", name)
        seconds = SWEEP_PERIOD * SWEEPS_PER_KEYFRAME * (self.parameters.keyframes - 1)
        world = streets.make_world(self.parameters, rng, seconds)
        to_global = np.eye(4)
        to_global[:3, :3] = rotation_z(rng.uniform(0, 2 * np.pi))
        to_global[:2, 3] = rng.uniform(300, 2000, 2)
        recorder = _Recorder(self.root, self.version, self.parameters, self.seed, name, world, to_global)
        readings, annotations, crops = [], [], []
        for step in range(-LEAD_IN, SWEEPS_PER_KEYFRAME * (self.parameters.keyframes - 1) + 1):
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

    def finish(self, made: list[tuple[SceneLog, list[captions.Row]]]) -> None:
        """Write the tables and the captions."""
        scenes = [scene for scene, _ in made]
        names = [scene.name for scene in scenes]
        train, val = names[: self.parameters.train_scenes], names[self.parameters.train_scenes :]
        verifying = train[6::7]
        splits = {
            "train": train,
            "val": val,
            "parametrize": [name for name in train if name not in verifying],
            "verifying": verifying,
        }
        write_tables(self.root, self.version, scenes, splits, f"synthetic/{self.version}/{self.seed}")
        crops = [row for _, rows in made[: len(train)] for row in rows]
        table = pd.DataFrame(crops, columns=list(captions.COLUMNS))
        table.to_parquet(self.root / self.version / "captions.parquet", index=False)


writer = NuScenesWriter


class _Recorder:
    """Sensors of the vehicle in one scene, and the folders that they write to."""

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
        self.lidar, self.cameras = NUSCENES.lidar(parameters), NUSCENES.cameras(parameters)
        for channel in ("LIDAR_TOP", *self.cameras):
            (root / "samples" / channel).mkdir(parents=True, exist_ok=True)
        for folder in ("sweeps/LIDAR_TOP", f"lidarseg/{version}"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def sweep(self, step: int) -> tuple[Reading, np.ndarray]:
        """Write one lidar rotation; return its reading and its points [N, 3] float64, metres, world frame."""
        time, is_key_frame = step * SWEEP_PERIOD, step >= 0 and step % SWEEPS_PER_KEYFRAME == 0
        ego = self.world.ego(time)
        pose = ego @ NUSCENES.lidar_to_ego
        rng = seeding.generator(self.seed, "lidar", self.name, step)
        sweep = lidar.scan(self.world, self.world.primitives(time), self.lidar, pose, self.parameters, rng)
        intensity = np.clip(255 * sweep.power, 0, 255).round()
        stamp = self._stamp(time)
        stem = f"{self.name}__LIDAR_TOP__{stamp}"
        path = f"{'samples' if is_key_frame else 'sweeps'}/LIDAR_TOP/{stem}.pcd.bin"
        columns = [sweep.points, intensity, sweep.ring]
        np.column_stack(columns).astype(np.float32).tofile(self.root / path)
        labels = f"lidarseg/{self.version}/{stem}_lidarseg.bin" if is_key_frame else ""
        if is_key_frame:
            sweep.category.tofile(self.root / labels)
        reading = Reading(
            channel="LIDAR_TOP",
            timestamp=stamp,
            sample=max(0, -(-step // SWEEPS_PER_KEYFRAME)),  # a sweep belongs to the keyframe that follows it
            is_key_frame=is_key_frame,
            path=path,
            sensor_to_ego=NUSCENES.lidar_to_ego,
            ego_to_global=self.to_global @ ego,
            lidarseg=labels,
        )
        return reading, sweep.points @ pose[:3, :3].T + pose[:3, 3]

    def image(self, sample: int, channel: str) -> tuple[Reading, list[captions.Row]]:
        """Write one image, taken as the lidar passes the camera; return its reading and captioned crops."""
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
        """Return the boxes that contain at least one of the keyframe's points [N, 3], metres, world frame."""
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
    """Return the nuScenes attributes of a thing's box."""
    if thing.name in ("bicycle", "motorcycle"):
        return ("cycle.with_rider" if thing.ridden else "cycle.without_rider",)
    if thing.name == "pedestrian":
        return ("pedestrian.moving" if thing.speed else "pedestrian.standing",)
    if thing.name in ("barrier", "traffic_cone"):
        return ()
    return ("vehicle.moving" if thing.speed else "vehicle.parked",)
