"""Pictures of scenes as finished runs see them: by source and view, and a run at a time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from clip2scene.datasets.frame import Dataset, Frame
from clip2scene.datasets.index import Index, load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.kept import Scan, read_scan, scans_in
from clip2scene.layout import run_folder
from clip2scene.reporting import pictures
from clip2scene.reporting.base import Cell, read_cells
from clip2scene.reporting.palettes import palette_of
from clip2scene.reporting.pictures import (
    ERRORS,
    SYNTHETIC_DATA,
    Panel,
    class_legend,
    class_panel,
    error_panel,
)
from clip2scene.runs import Run
from clip2scene.study import Study

CAMERAS = 6
"""Most cameras of a keyframe that are drawn."""


def draw_figures(study: Study, out: Path, palette: str = "official") -> list[Path]:
    """Draw scenes as the main table's runs see them into the folder `out`.

    Args:
        study: The study; its runs are finished.
        out: Folder to write into; what others keep there stays.
        palette: One of `clip2scene.reporting.palettes.PALETTES`.

    Returns:
        The files; each holds its caption (PNG's ``Description``).
    """
    runs, cells = list(study.runs_of("main").values()), read_cells(study, "main")
    drawn: list[Path] = []
    for target in dict.fromkeys(cell.experiment.target for cell in cells):
        drawn += draw_scenes(study, target, _sources(cells, target), out, palette)
    for run in runs:
        title = f"{run.title} (run {run.key}){synthetic_note(study, run)}"
        if run.kind == "annotation_free" and scans_in(run_folder(study.config, run)):
            drawn.append(draw_run(study, run, title, out / f"{run.name}.png", palette))
    return drawn


def synthetic_note(study: Study, run: Run) -> str:
    """Return the end of a title that says that a run's data are synthetic, if they are."""
    datasets = study.configuration(run.variant).datasets
    used = f"{run.target} {run.pretrain}".split()  # a teacher or encoder learns from several
    return f", {SYNTHETIC_DATA}" if any(datasets[name].synthetic for name in used) else ""


def _sources(cells: list[Cell], target: str) -> dict[str, Run]:
    """Return the runs whose predictions of a data set are drawn side by side, by what they are.

    These are the teacher; the first annotation-free network of the table, before one that was pre-trained on
    another data set; and the network of the same method, else of the table's last, that was fine-tuned on the
    most labels.
    """
    mine = [cell for cell in cells if cell.experiment.target == target]
    found: dict[str, Run] = {}
    for run in (next(iter(cell.runs)) for cell in mine):
        if run.kind == "projection":
            found.setdefault("teacher", run)
    free = [next(iter(cell.runs)) for cell in mine if cell.experiment.protocol == "annotation_free"]
    free = sorted((run for run in free if run.kind != "projection"), key=lambda run: run.pretrain != target)
    if free:
        found[f"annotation-free, {free[0].method}"] = free[0]
    tuned = [cell for cell in mine if cell.experiment.protocol == "finetune"]
    same = [cell for cell in tuned if free and cell.experiment.method == free[0].method]
    if tuned:
        best = max(reversed(same or tuned), key=lambda cell: cell.experiment.percent)
        run = next(iter(best.runs))
        found[f"fine-tuned, {run.method}, {run.percent:g} % of labels"] = run
    return found


def draw_scenes(
    study: Study, target: str, sources: dict[str, Run], out: Path, palette: str = "official"
) -> list[Path]:
    """Draw the kept keyframes of a data set from above, in 3D, in each camera, and with their sweeps.

    Args:
        study: The study.
        target: Key of the configuration's `datasets`.
        sources: Runs that predict its validation split, by what they are.
        out: Folder to write into.
        palette: One of `clip2scene.reporting.palettes.PALETTES`.
    """
    section = study.configuration().datasets[target]
    dataset = get_dataset(section.format)
    index = read_index(study.index(target), section.root).split(section.val_split)
    colours = palette_of(dataset.colours, palette)
    kept = {name: {scan.id: scan for scan in _kept(study, run, dataset)} for name, run in sources.items()}
    note = f", {SYNTHETIC_DATA}" if section.synthetic else ""
    drawn: list[Path] = []
    identifiers = dict.fromkeys(identifier for scans in kept.values() for identifier in scans)
    for number, identifier in enumerate(identifiers, start=1):
        scans = {name: of[identifier] for name, of in kept.items() if identifier in of}
        row = index.frames[index.frames["id"] == identifier].iloc[0]
        frame, stem = load_frame(dataset, index.root, row), out / f"scene-{target}-{number}"
        title = f"{target}, keyframe {identifier} of {section.val_split}{note}"
        keys = ", ".join(f"{name}: {sources[name].key}" for name in scans)
        drawn += _draw_scene(frame, scans, dataset, colours, f"{title}\nruns: {keys}", stem)
        if number == 1 and len(row.sweep_points):
            drawn.append(_draw_sweeps(dataset, index, row, title, stem))
    return drawn


def _kept(study: Study, run: Run, dataset: Dataset) -> list[Scan]:
    files = scans_in(run_folder(study.config, run))
    return [read_scan(path, len(dataset.classes)) for path in files]


def _draw_scene(
    frame: Frame, scans: dict[str, Scan], dataset: Dataset, colours: np.ndarray, title: str, stem: Path
) -> Iterator[Path]:
    """Draw a keyframe in every view: ground truth, each source's prediction, and where it errs."""
    labels = frame.labels
    classes = [class_panel("ground truth", labels, colours)]
    errors = [Panel("", *_blank(len(labels)))]
    for name, scan in scans.items():
        shown = np.where(labels > 0, scan.prediction, 0)
        classes.append(class_panel(name, shown, colours))
        errors.append(error_panel("wrong", labels, scan.prediction))
    found = [scan.prediction for scan in scans.values()]
    legend = class_legend(dataset.classes, colours, labels, *found) | ERRORS
    rows = [classes, [replace(errors[0], title="points"), *errors[1:]]]
    yield pictures.draw_above(frame.points, rows, legend, title, stem.with_name(f"{stem.name}-above.png"))
    yield pictures.draw_3d(frame.points, rows, legend, title, stem.with_name(f"{stem.name}-3d.png"))
    if frame.cameras:
        pairs = zip(classes[1:], errors[1:], strict=True)
        panels = [classes[0], *(panel for pair in pairs for panel in pair)]
        path = stem.with_name(f"{stem.name}-cameras.png")
        yield pictures.draw_cameras(frame.points, frame.cameras[:CAMERAS], panels, legend, title, path)


def _blank(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours and order of a panel that shows points alone."""
    return np.full((points, 3), 90, np.uint8), np.zeros(points)


def _draw_sweeps(dataset: Dataset, index: Index, row: pd.Series, title: str, stem: Path) -> Path:
    """Draw a keyframe with all its earlier sweeps, each in a shade of its age."""
    frame = load_frame(dataset, index.root, row, range(len(row.sweep_points)), labels=False)
    shades = pictures.shades(1 + len(row.sweep_points))
    names = ["keyframe", *(f"{lag:.2f} s before" for lag in row.sweep_lags)]
    panel = Panel("keyframe and earlier sweeps", shades[frame.sweep], -frame.sweep)
    path = stem.with_name(f"{stem.name}-sweeps.png")
    return pictures.draw_above(frame.points, [[panel]], dict(zip(names, shades, strict=True)), title, path)


def draw_run(study: Study, run: Run, title: str, out: Path, palette: str = "official") -> Path:
    """Draw every keyframe that a run kept: ground truth, its prediction, and where it errs, from above."""
    dataset = get_dataset(study.configuration(run.variant).datasets[run.target].format)
    return draw_scans(_kept(study, run, dataset), dataset, title, out, palette)


def draw_scans(scans: list[Scan], dataset: Dataset, title: str, out: Path, palette: str = "official") -> Path:
    """Draw predicted keyframes from above, a row each: ground truth, prediction, and where it errs.

    Args:
        scans: The keyframes.
        dataset: For names and colours of the classes.
        title: Heading.
        out: PNG file.
        palette: One of `clip2scene.reporting.palettes.PALETTES`.
    """
    colours = palette_of(dataset.colours, palette)
    rows = []
    for scan in scans:
        shown = np.where(scan.labels > 0, scan.prediction, 0)
        panels = [
            class_panel(f"ground truth, {scan.id[:12]}", scan.labels, colours),
            class_panel("prediction", shown, colours),
            error_panel("wrong", scan.labels, scan.prediction),
        ]
        rows.append((scan.points, panels))
    labels = [values for scan in scans for values in (scan.labels, scan.prediction)]
    return pictures.draw_rows(rows, class_legend(dataset.classes, colours, *labels) | ERRORS, title, out)
