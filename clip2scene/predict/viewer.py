"""Keyframes in Rerun as a run sees them. Rerun is an optional extra, imported when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from clip2scene.datasets.frame import Dataset, Frame
from clip2scene.datasets.index import Index, load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.evaluation.kept import read_scan, scans_in
from clip2scene.layout import run_folder
from clip2scene.pairing.images import read_image
from clip2scene.pairing.projection import pair
from clip2scene.predict.label import Clouds, classes_of, scores_of
from clip2scene.predict.network import load_network
from clip2scene.reporting.palettes import palette_of
from clip2scene.runs import Run
from clip2scene.study import Study

RIGHT, WRONG, UNJUDGED = 1, 2, 0
"""Classes of the errors."""
RADIUS = 0.06
"""Radius of a point, metres."""


@dataclass(frozen=True)
class Choice:
    """Things to look at.

    Attributes:
        frames: Ids of keyframes; none: `count` of them, evenly spaced.
        count: Number of keyframes.
        split: Split that they are of; None for validation.
        palette: One of `clip2scene.reporting.palettes.PALETTES`.
    """

    frames: tuple[str, ...]
    count: int
    split: str | None
    palette: str


def rerun_sdk() -> ModuleType:
    """Return Rerun's SDK.

    Raises:
        InputError: it is not installed.
    """
    try:
        import rerun
    except ImportError:
        raise InputError("rerun: is not installed; expected it: pip install 'clip2scene[view]'") from None
    return rerun


def show(study: Study, run: Run, choice: Choice, save: Path | None, bar: Callable[..., Any]) -> int:
    """Send keyframes to the viewer, or write them as a recording.

    Args:
        study: The study.
        run: A finished run of a data set. Of a run that labels points, predictions and errors are shown too;
            of the teacher's, those of the keyframes that it kept.
        choice: What to look at.
        save: Recording to write (.rrd); None opens the viewer.
        bar: Returns a progress bar, given its name, unit and total.

    Returns:
        The number of keyframes.

    Raises:
        InputError: Rerun is not installed, or the run, its data set's index or a keyframe is not there.
    """
    rr = rerun_sdk()
    config = study.configuration(run.variant)
    name = run.target or run.pretrain
    if name not in config.datasets:
        raise InputError(f"run {run.key} ({run.kind}: {run.title}): belongs to no single data set")
    section, dataset = config.datasets[name], get_dataset(config.datasets[name].format)
    index = read_index(study.index(name), section.root).split(choice.split or section.val_split)
    index = _chosen(index, choice)
    frames = [_frame(dataset, index, row) for row in index.frames.itertuples()]
    predictions = _predictions(study, run, dataset, frames)
    recording = rr.RecordingStream("clip2scene", recording_id=f"{run.name}-{len(index)}")
    if save is None:
        recording.spawn()
    else:
        save.parent.mkdir(parents=True, exist_ok=True)
        recording.save(save)
    _describe(rr, recording, run, dataset, palette_of(dataset.colours, choice.palette))
    with bar("view", "frame", len(frames)) as progress:
        for number, frame in enumerate(frames):
            recording.set_time("keyframe", sequence=number)
            _log(rr, recording, frame, predictions.get(frame.id))
            progress.update()
    recording.flush()
    recording.disconnect()
    return len(frames)


def _chosen(index: Index, choice: Choice) -> Index:
    """Return the keyframes to look at."""
    if choice.frames:
        return index.subset(choice.frames)
    numbers = np.unique(np.linspace(0, len(index) - 1, min(choice.count, len(index))).round().astype(int))
    return index.subset([index.ids[number] for number in numbers])


def _frame(dataset: Dataset, index: Index, row: Any) -> Frame:
    """Read a keyframe with all of its earlier sweeps."""
    return load_frame(dataset, index.root, row, range(len(row.sweep_points)))


def _predictions(study: Study, run: Run, dataset: Dataset, frames: list[Frame]) -> dict[str, np.ndarray]:
    """Return the classes [N] that a run gives the points of each keyframe, by id, if it labels points."""
    if run.kind == "projection":
        folder = run_folder(study.config, run)
        kept = [read_scan(path, len(dataset.classes)) for path in scans_in(folder)]
        return {scan.id: scan.prediction for scan in kept}
    if run.kind == "pretrain" and "text" not in study.inputs(run):
        return {}
    network = load_network(study, run)
    if network.labels is None or network.labels.classes != dataset.classes:
        return {}
    clouds = Clouds(network, len(frames), lambda number: _keyframe(frames[number]), Path())
    return {
        frame.id: classes_of(scores) for frame, scores in zip(frames, scores_of(network, clouds), strict=True)
    }


def _keyframe(frame: Frame) -> Frame:
    """Return a frame without its earlier sweeps and its labels."""
    own = frame.sweep == 0
    return Frame(frame.id, frame.points[own], frame.features[own], frame.sweep[own], None, frame.cameras)


def _describe(rr: ModuleType, recording: Any, run: Run, dataset: Dataset, colours: np.ndarray) -> None:
    """Log names and colours of the classes, and which run it is."""
    classes = [(number, name, colour) for number, (name, colour) in
               enumerate(zip(("no class", *dataset.classes), colours.tolist(), strict=True))]  # fmt: skip
    recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    recording.log("world", rr.AnnotationContext(classes), static=True)
    errors = [
        (UNJUDGED, "not judged", (120, 120, 120)),
        (RIGHT, "right", (170, 190, 205)),
        (WRONG, "wrong", (200, 0, 40)),
    ]
    recording.log("world/errors", rr.AnnotationContext(errors), static=True)
    recording.log("run", rr.TextDocument(f"{run.kind}: {run.title}\n\nrun {run.key}"), static=True)


def _log(rr: ModuleType, recording: Any, frame: Frame, prediction: np.ndarray | None) -> None:
    """Log one keyframe: its clouds, its cameras with images and pairs, and what the run makes of it."""
    own = frame.sweep == 0
    points = frame.points[own]
    recording.log("frame", rr.TextDocument(frame.id))
    recording.log("world/scan", rr.Points3D(points, radii=RADIUS, colors=_grey(frame.features[own])))
    for number in range(1, int(frame.sweep.max()) + 1):
        sweep = frame.points[frame.sweep == number]
        recording.log(f"world/sweeps/{number}", rr.Points3D(sweep, radii=RADIUS / 2, colors=(110, 110, 140)))
    labels = None if frame.labels is None else frame.labels[own]
    for name, values in (("labels", labels), ("prediction", prediction)):
        if values is not None:
            recording.log(
                f"world/{name}", rr.Points3D(points, radii=RADIUS, class_ids=values.astype(np.uint16))
            )
    if labels is not None and prediction is not None:
        judged = (labels > 0) & (prediction > 0)
        errors = np.where(judged, np.where(labels == prediction, RIGHT, WRONG), UNJUDGED)
        recording.log("world/errors", rr.Points3D(points, radii=RADIUS, class_ids=errors.astype(np.uint16)))
    pairs = pair(frame)
    for number, camera in enumerate(frame.cameras):
        entity, pose = f"world/cameras/{camera.name}", np.linalg.inv(camera.lidar_to_camera)
        height, width = camera.size
        recording.log(entity, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        lens = rr.Pinhole(
            image_from_camera=camera.intrinsics, resolution=[width, height], camera_xyz=rr.ViewCoordinates.RDF
        )
        recording.log(f"{entity}/image", lens)
        recording.log(f"{entity}/image", rr.Image(read_image(camera.image, expected=camera.size)).compress())
        mine = pairs[pairs.image == number]
        ids = None if frame.labels is None else frame.labels[mine.point].astype(np.uint16)
        pixels = np.column_stack([mine.column, mine.row])
        recording.log(f"{entity}/image/pairs", rr.Points2D(pixels, radii=2.0, class_ids=ids))


def _grey(features: np.ndarray) -> np.ndarray:
    """Return colours [N, 3] uint8 that show features: colour [N, 3] of -1 to 1, or intensity [N, 1]."""
    if features.shape[1] == 3:
        return np.rint((features + 1) * 127.5).astype(np.uint8)
    return np.repeat(np.clip(60 + 2 * features[:, :1], 0, 255).astype(np.uint8), 3, axis=1)
