"""Synthetic rooms in ScanNet's format, from parameters and a seed."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from clip2scene import seeding
from clip2scene.config import Rooms
from clip2scene.datasets.parts import part
from clip2scene.datasets.ply import write_vertices
from clip2scene.datasets.scannet import FRAMES, RECORDINGS, ScanNet
from clip2scene.datasets.sens import read_recording, write_recording
from clip2scene.errors import InputError
from clip2scene.pairing.voxelise import quantise, unique
from clip2scene.synthetic import captions
from clip2scene.synthetic.camera import Camera, shade
from clip2scene.synthetic.generate import Writer
from clip2scene.synthetic.raycast import View, meet
from clip2scene.synthetic.rooms import CATEGORIES, KINDS, Room, make_room

FIRST = 9000
"""Number of the first synthetic scan; ScanNet's own end at 0806."""
THINNED = 3
"""Number of scanned frames per frame that ``scannet_frames_25k`` keeps."""

_REACH = 12.0
_FOCAL = 0.9026
_EXPOSURE = 1.3
_QUALITY = 90
_VERTEX = np.dtype(
    [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "alpha")]
)
VOCABULARY = captions.Vocabulary(
    ids={name: CATEGORIES[name] for name in ScanNet.classes},
    things=tuple(name for name in ScanNet.classes if name not in ("wall", "floor")),
    prompts={name: name for name in ScanNet.classes},
    place="in a room",
    close_ups=4,
    thing_share=0.25,
)


@dataclass(frozen=True)
class Shot:
    """One RGB-D frame.

    Attributes:
        pose: [4, 4] float64, metres, camera to room.
        image: [H, W, 3] uint8, with noise.
        depth: [h, w] uint16, millimetres.
        view: Hits of the image's rays.
        colour: [3, H, W] float32 in [0, 1], the image before noise.
    """

    pose: np.ndarray
    image: np.ndarray
    depth: np.ndarray
    view: View
    colour: np.ndarray


class ScanNetWriter(Writer):
    """Writer of labelled meshes, images of either of ScanNet's kinds, splits, and captioned train crops.

    The version is ``scannet_frames_25k`` or ``scans``, see `clip2scene.datasets.scannet`.
    """

    def scenes(self) -> list[str]:
        """Return the scan ids, train scans first.

        Raises:
            InputError: the version is neither of the two.
        """
        if self.version not in (FRAMES, RECORDINGS):
            raise InputError(f"ScanNet version {self.version!r}; expected {FRAMES} or {RECORDINGS}")
        total = self.parameters.train_rooms + self.parameters.val_rooms
        return [f"scene{FIRST + number:04d}_00" for number in range(total)]

    def make(self, name: str) -> list[captions.Row]:
        """Write one scan's files; return the captioned crops of its images."""
        number = int(name[5:9]) - FIRST
        if number >= self.parameters.train_rooms:  # the kinds take turns within each split
            number -= self.parameters.train_rooms
        room = make_room(KINDS[number % len(KINDS)], seeding.generator(self.seed, "room", name))
        eyes = cameras(self.parameters)
        shots = []
        for frame in range(THINNED * self.parameters.images):
            rng = seeding.generator(self.seed, "frame", name, frame)
            shots.append(shoot(room, eyes, room.eye(frame, rng), self.parameters.depth_noise, rng))
        folder = self.root / RECORDINGS / name
        folder.mkdir(parents=True)
        write_mesh(folder / name, shots, eyes[0], self.parameters.vertex_spacing)
        write = _write_frames if self.version == FRAMES else _write_recording
        rows = []
        for number, image in enumerate(write(self.root, name, shots, eyes)):
            rng = seeding.generator(self.seed, "captions", name, number)
            view = shots[THINNED * number].view
            rows += captions.caption_image(room, view, image, rng, VOCABULARY)
        return rows

    def finish(self, made: list[list[captions.Row]]) -> None:
        """Write the split lists, and the captions that `make` returned for the train scans."""
        scans, train = self.scenes(), self.parameters.train_rooms
        for split, some in (("train", scans[:train]), ("val", scans[train:]), ("test", [])):
            (self.root / f"scannetv2_{split}.txt").write_text("".join(f"{scan}\n" for scan in some))
        crops = [row for rows in made[:train] for row in rows]
        table = pd.DataFrame(crops, columns=list(captions.COLUMNS))
        table.to_parquet(self.root / self.version / "captions.parquet", index=False)


writer = ScanNetWriter


def cameras(parameters: Rooms) -> tuple[Camera, Camera]:
    """Return the colour and the depth camera: same place, about the same field of view, as in ScanNet."""
    eyes = []
    for (height, width), middle in ((parameters.image_size, 0.502), (parameters.depth_size, 0.499)):
        focal = _FOCAL * width
        intrinsics = np.array([[focal, 0, middle * width], [0, focal, middle * height], [0, 0, 1]])
        eyes.append(Camera.pinhole(intrinsics, (height, width), np.eye(4), 0.0, _REACH))
    return eyes[0], eyes[1]


def shoot(
    room: Room, eyes: tuple[Camera, Camera], pose: np.ndarray, noise: float, rng: np.random.Generator
) -> Shot:
    """Render one RGB-D frame.

    Args:
        room: Room to render.
        eyes: Colour camera and depth camera.
        pose: [4, 4] float64, metres, camera to room.
        noise: Standard deviation of the measured depth, metres.
        rng: Generator for exposure, sensor noise and depth noise.
    """
    colour_eye, depth_eye = eyes
    view, measured = (
        meet(room.primitives, eye, pose, np.full(eye.directions.shape[1:], np.inf, np.float32))
        for eye in eyes
    )
    colour = np.zeros((3, view.depth.size), np.float32)
    pixels, values = shade(view, colour_eye, room.light)
    colour[:, pixels] = np.clip(_EXPOSURE * values, 0, 1)
    colour = colour.reshape(3, *view.depth.shape)
    grain = rng.standard_normal(view.depth.shape, dtype=np.float32)
    image = colour * np.float32(rng.uniform(0.9, 1.1)) + np.float32(0.01) * grain
    depth = measured.depth * depth_eye.directions[2]
    depth = np.where(np.isfinite(depth), depth + noise * rng.standard_normal(depth.shape), 0)
    return Shot(
        pose,
        (255 * np.clip(image, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0),
        np.clip(1000 * depth, 0, 65535).round().astype(np.uint16),
        view,
        colour,
    )


def write_mesh(stem: Path, shots: list[Shot], eye: Camera, spacing: float) -> None:
    """Write the mesh of everything the shots saw, and its labels: one vertex per grid cell, no faces.

    Args:
        stem: Folder and scan id, the start of both file names.
        shots: Frames of the scan.
        eye: Colour camera.
        spacing: Edge of a grid cell, metres.
    """
    points, colours, labels = [], [], []
    for shot in shots:
        hit = shot.view.index >= 0
        rays = eye.directions[:, hit] * shot.view.depth[hit]
        points.append(rays.T @ shot.pose[:3, :3].T + shot.pose[:3, 3])
        colours.append(shot.colour[:, hit].T)
        labels.append(shot.view.category[hit])
    cloud = np.concatenate(points)
    kept, _ = unique(quantise(cloud.astype(np.float32), spacing))
    vertices = np.zeros(len(kept), _VERTEX)
    for axis, name in enumerate("xyz"):
        vertices[name] = cloud[kept, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = (255 * np.concatenate(colours)[kept, channel]).round()
    vertices["alpha"] = 255
    write_vertices(stem.with_name(f"{stem.name}_vh_clean_2.ply"), vertices)
    labelled = np.zeros(len(kept), np.dtype([*_VERTEX.descr, ("label", "<u2")]))
    for name in _VERTEX.names:
        labelled[name] = vertices[name]
    labelled["label"] = np.concatenate(labels)[kept]
    write_vertices(stem.with_name(f"{stem.name}_vh_clean_2.labels.ply"), labelled)


def _write_frames(root: Path, scan: str, shots: list[Shot], eyes: tuple[Camera, Camera]) -> list[str]:
    """Write every third shot in the layout of ``scannet_frames_25k``; return the images' paths."""
    folder = root / FRAMES / scan
    for kind in ("color", "depth", "pose"):
        (folder / kind).mkdir(parents=True)
    for kind, eye in zip(("color", "depth"), eyes, strict=True):
        matrix = np.eye(4)
        matrix[:3, :3] = eye.intrinsics
        np.savetxt(folder / f"intrinsics_{kind}.txt", matrix, fmt="%f")
    names = [f"{100 * number:06d}" for number in range(len(shots[::THINNED]))]
    for name, shot in zip(names, shots[::THINNED], strict=True):
        (folder / "color" / f"{name}.jpg").write_bytes(_jpeg(shot.image))
        Image.fromarray(shot.depth).save(folder / "depth" / f"{name}.png")
        np.savetxt(folder / "pose" / f"{name}.txt", shot.pose, fmt="%f")
    return [f"{FRAMES}/{scan}/color/{name}.jpg" for name in names]


def _write_recording(root: Path, scan: str, shots: list[Shot], eyes: tuple[Camera, Camera]) -> list[str]:
    """Write all shots as a ``.sens`` file; return the paths of every third image."""
    name = f"{RECORDINGS}/{scan}/{scan}.sens"
    write_recording(
        root / name,
        [_jpeg(shot.image) for shot in shots],
        [shot.depth for shot in shots],
        [shot.pose for shot in shots],
        shots[0].image.shape[:2],
        (eyes[0].intrinsics, eyes[1].intrinsics),
    )
    return [part(name, *place) for place in read_recording(root / name).colour[::THINNED].tolist()]


def _jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


writer = ScanNetWriter
