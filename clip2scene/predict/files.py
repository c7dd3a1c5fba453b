"""`clip2scene predict`: files of labels, relevancies and pictures for files of scans."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clip2scene.errors import InputError
from clip2scene.files import write_json
from clip2scene.predict.label import Clouds, classes_of, relevancy, scores_of, top_points
from clip2scene.predict.network import Network
from clip2scene.predict.outputs import refuse_foreign_classes, write_coloured, write_label, write_npy
from clip2scene.predict.scans import frame_of, read_scan_file
from clip2scene.reporting import pictures
from clip2scene.reporting.palettes import palette_of


@dataclass(frozen=True)
class Wishes:
    """Files to write of each scan.

    Attributes:
        out: Folder to write into.
        formats: Of `clip2scene.predict.outputs.FORMATS`.
        palette: One of `clip2scene.reporting.palettes.PALETTES`.
        largest: Largest intensity that the sensor gives; None: as the format or the values say.
        top: Number of points to name that fit each text best.
    """

    out: Path
    formats: tuple[str, ...]
    palette: str = "official"
    largest: float | None = None
    top: int = 5


def predict_files(network: Network, files: Sequence[Path], wishes: Wishes, bar: tqdm) -> list[dict[str, Any]]:
    """Label every point of every file, and write what is wished.

    Beside the labels lies ``classes.json``: name and colour of each class by its number.

    Args:
        network: The network.
        files: Scans.
        wishes: What to write.
        bar: Progress bar over the files.

    Returns:
        A JSON object a file: its points, its features in words, how many points of each class, the files
        written, and with words the points that fit each text best.

    Raises:
        InputError: two files would be written under one name, or one is damaged or lacks what the network
            needs. Files before it are written.
    """
    refuse_foreign_classes(network, wishes.formats)
    _refuse_one_name(files)
    colours = palette_of(network.colours, wishes.palette)
    legend = {
        str(number): {"name": name, "colour": colour.tolist()}
        for number, (name, colour) in enumerate(zip(("none", *network.classes), colours, strict=True))
    }
    write_json(wishes.out / "classes.json", {"network": network.title, "classes": legend})
    report = []
    for path in files:
        report.append(_predict(network, path, wishes, colours))
        bar.update()
    return report


def _refuse_one_name(files: Sequence[Path]) -> None:
    for stem, count in Counter(name_of(path) for path in files).items():
        if count > 1:
            same = ", ".join(str(path) for path in files if name_of(path) == stem)
            raise InputError(f"{same}: would both be written as {stem}; expected files of different names")


def name_of(path: Path) -> str:
    """Return the name of a scan without its endings; nuScenes' is ``.pcd.bin``."""
    return path.stem.removesuffix(".pcd")


def _predict(network: Network, path: Path, wishes: Wishes, colours: np.ndarray) -> dict[str, Any]:
    """Label one file; see `predict_files`."""
    scan = read_scan_file(path, wishes.largest)
    frame, measured, words = frame_of(scan, network.reader)
    (scores,) = scores_of(network, Clouds(network, 1, lambda _: frame, path.parent))
    scores, prompts = scores[:, : len(network.classes)], scores[:, len(network.classes) :]
    labels = np.zeros(len(scan.points), np.uint8)
    labels[measured] = classes_of(scores)
    counts = np.bincount(labels, minlength=len(network.classes) + 1)
    report: dict[str, Any] = {
        "file": str(path),
        "points": len(labels),
        "features": words,
        "classes": {
            name: int(count) for name, count in zip(network.classes, counts[1:], strict=True) if count
        },
        "unmeasured": int(counts[0]),
    }
    stem, title = wishes.out / name_of(path), f"{path.name}: {network.title}"
    writers = {
        "npy": lambda out: write_npy(out, labels),
        "label": lambda out: write_label(out, labels),
        "ply": lambda out: write_coloured(out, scan.points, labels, colours),
        "png": lambda out: _draw(frame.points, labels[measured], network, colours, title, out),
    }
    written = {form: stem.with_name(f"{stem.name}.{form}") for form in wishes.formats}
    for form, out in written.items():
        writers[form](out)
    if network.rivals is not None:
        relevant = relevancy(scores, prompts, network.rivals)
        best = top_points(relevant, wishes.top)
        for name, values in (("similarity", scores.numpy()), ("relevancy", relevant)):
            written[name] = stem.with_name(f"{stem.name}.{name}.npy")
            everywhere = np.full((len(labels), len(network.classes)), np.nan, np.float32)
            everywhere[measured] = values
            write_npy(written[name], everywhere)
        written["picture"] = stem.with_name(f"{stem.name}.relevancy.png")
        pictures.draw_relevancies(frame.points, relevant, network.classes, best, title, written["picture"])
        report["top"] = {
            word: [
                {
                    "point": int(measured[point]),
                    "at": [round(float(value), 3) for value in frame.points[point]],
                    "relevancy": round(float(relevant[point, number]), 4),
                    "similarity": round(float(scores[point, number]), 4),
                }
                for point in points
            ]
            for number, (word, points) in enumerate(zip(network.classes, best, strict=True))
        }
    return report | {"written": {form: str(out) for form, out in written.items()}}


def _draw(
    points: np.ndarray, labels: np.ndarray, network: Network, colours: np.ndarray, title: str, out: Path
) -> None:
    panel = pictures.class_panel("prediction", labels, colours)
    legend = pictures.class_legend(network.classes, colours, labels)
    pictures.draw_above(points, [[panel]], legend, title, out)
