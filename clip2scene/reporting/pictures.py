"""Drawings of point clouds: from above, in 3D and in cameras, each with its legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

from clip2scene.datasets.frame import Camera
from clip2scene.files import atomic
from clip2scene.pairing.images import read_image
from clip2scene.pairing.projection import project

mpl.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

RADIUS = 35.0
"""Points farther from the sensor than this along x or y are not drawn, metres."""
SYNTHETIC_DATA = "synthetic data"
"""Words that the title of every picture of synthetic data ends with."""

_RIGHT, _WRONG, _UNJUDGED = (np.array(c, np.uint8) for c in ((170, 190, 205), (200, 0, 40), (235, 235, 235)))
_DPI = 100


@dataclass(frozen=True)
class Panel:
    """One colouring of a cloud.

    Attributes:
        title: Heading.
        colours: [N, 3] uint8, colour of each point.
        order: [N] numbers; a point is drawn over those with a smaller one.
    """

    title: str
    colours: np.ndarray
    order: np.ndarray


Legend = Mapping[str, np.ndarray]
"""Colours [3] uint8 by name."""


def class_panel(title: str, labels: np.ndarray, colours: np.ndarray) -> Panel:
    """Colour points by their class: labels [N], and colours [C + 1, 3] of classes 0..C."""
    return Panel(title, colours[labels], labels > 0)


def class_legend(names: Sequence[str], colours: np.ndarray, *labels: np.ndarray) -> Legend:
    """Return the legend of the classes 1..C that occur in any of `labels`, arrays of 0..C."""
    used = np.unique(np.concatenate([np.unique(values) for values in labels]))
    legend = {names[number - 1]: colours[number] for number in used if number}
    return legend | ({"no class": colours[0]} if 0 in used else {})


def error_panel(title: str, labels: np.ndarray, prediction: np.ndarray) -> Panel:
    """Colour points by whether labels and prediction, [N] each, agree; 0 in either is not judged."""
    judged = (labels > 0) & (prediction > 0)
    wrong = judged & (labels != prediction)
    colours = np.where(wrong[:, None], _WRONG, np.where(judged[:, None], _RIGHT, _UNJUDGED))
    share = f": {100 * wrong.sum() / judged.sum():.0f} %" if judged.any() else ""
    return Panel(title + share, colours, wrong.astype(int) + judged)


ERRORS: Legend = {"right": _RIGHT, "wrong": _WRONG, "not judged": _UNJUDGED}
"""Legend of `error_panel`."""


def draw_above(
    points: np.ndarray, rows: Sequence[Sequence[Panel]], legend: Legend, title: str, out: Path
) -> Path:
    """Draw a cloud from above, a panel a colouring.

    Args:
        points: [N, 3], metres.
        rows: Panels, row by row.
        legend: What the colours mean.
        title: Heading.
        out: PNG file.
    """
    return draw_rows([(points, row) for row in rows], legend, title, out)


def draw_rows(
    rows: Sequence[tuple[np.ndarray, Sequence[Panel]]], legend: Legend, title: str, out: Path
) -> Path:
    """Draw clouds from above, each with its panels in a row; see `draw_above`."""
    figure, axes = _grid(len(rows), max(len(panels) for _, panels in rows), (4.2, 4.2), legend, title)
    for line, (points, panels) in zip(axes, rows, strict=True):
        near = np.abs(points[:, :2]).max(axis=1) < RADIUS
        low, high = points[near, :2].min(axis=0), points[near, :2].max(axis=0)
        span = max(high - low) / 2 + 0.5
        middle = (low + high) / 2
        for axis, panel in zip(line, panels, strict=False):
            order = np.flatnonzero(near)[np.lexsort([points[near, 2], panel.order[near]])]
            axis.scatter(
                *points[order, :2].T, c=panel.colours[order] / 255, s=_size(len(order)), linewidths=0
            )
            limits = {"xlim": middle[0] + [-span, span], "ylim": middle[1] + [-span, span]}
            axis.set(aspect="equal", **limits)
            axis.set_title(panel.title, fontsize=11)
            axis.tick_params(labelsize=8)
        line[0].set_ylabel("y, m")
    for axis in axes[-1]:
        axis.set_xlabel("x, m")
    return _save(figure, out, title)


def draw_3d(
    points: np.ndarray, rows: Sequence[Sequence[Panel]], legend: Legend, title: str, out: Path
) -> Path:
    """Draw a cloud in perspective, a panel a colouring; see `draw_above`."""
    near = np.flatnonzero(np.abs(points[:, :2]).max(axis=1) < RADIUS)
    extent = np.ptp(points[near], axis=0).clip(1)
    zoom = 1.3 if extent[2] > 0.3 * extent[:2].max() else 1.7  # a street is flat, and leaves room in its box
    figure, axes = _grid(
        len(rows), max(map(len, rows)), (4.6, 3.6), legend, title, subplot_kw={"projection": "3d"}
    )
    for line, panels in zip(axes, rows, strict=True):
        for axis, panel in zip(line, panels, strict=False):
            colours = panel.colours[near] / 255
            axis.scatter(*points[near].T, c=colours, s=_size(2 * len(near)), linewidths=0, depthshade=False)
            axis.set_box_aspect(extent, zoom=zoom)
            axis.view_init(elev=38, azim=-60)
            axis.set_axis_off()
            axis.set_title(panel.title, fontsize=11)
    return _save(figure, out, title)


def draw_cameras(
    points: np.ndarray,
    cameras: Sequence[Camera],
    panels: Sequence[Panel],
    legend: Legend,
    title: str,
    out: Path,
) -> Path:
    """Draw points on the images that see them: a row a camera, a column a colouring; see `draw_above`."""
    height, width = cameras[0].size
    figure, axes = _grid(len(cameras), len(panels), (2.8, 2.8 * height / width + 0.1), legend, title)
    for line, camera in zip(axes, cameras, strict=True):
        image = read_image(camera.image, expected=camera.size)
        point, row, column = project(points, camera)
        for axis, panel in zip(line, panels, strict=True):
            axis.imshow(image, cmap=None, alpha=0.55)
            order = np.argsort(panel.order[point], kind="stable")
            colours = panel.colours[point[order]] / 255
            axis.scatter(column[order], row[order], c=colours, s=_size(2 * len(order)), linewidths=0)
            axis.set(xticks=[], yticks=[], xlim=(0, camera.size[1]), ylim=(camera.size[0], 0))
        line[0].set_ylabel(camera.name, fontsize=9)
    for axis, panel in zip(axes[0], panels, strict=True):
        axis.set_title(panel.title, fontsize=11)
    return _save(figure, out, title)


def draw_relevancies(
    points: np.ndarray, relevancies: np.ndarray, words: Sequence[str], top: np.ndarray, title: str, out: Path
) -> Path:
    """Draw how well each point fits each text, from above; the points that fit best are ringed.

    Args:
        points: [N, 3], metres.
        relevancies: [N, W], 0 to 1.
        words: W texts.
        top: [W, K] numbers of the points that fit each text best.
        title: Heading.
        out: PNG file.
    """
    near = np.abs(points[:, :2]).max(axis=1) < RADIUS
    columns = min(len(words), 3)
    shape = (-(-len(words) // columns), columns)
    figure, axes = _grid(*shape, (4.8, 4.4), {}, title)
    for axis in axes.flat[len(words) :]:
        axis.set_axis_off()
    for axis, word, values, best in zip(axes.flat, words, relevancies.T, top, strict=False):
        order = np.flatnonzero(near)[np.argsort(values[near], kind="stable")]
        # cividis looks alike to readers with and without colour-blindness
        drawn = axis.scatter(
            *points[order, :2].T, c=values[order], cmap="cividis", s=_size(len(order)), linewidths=0
        )
        axis.scatter(*points[best, :2].T, s=60, facecolors="none", edgecolors="#c80028", linewidths=1.2)
        axis.set(aspect="equal", xlabel="x, m", ylabel="y, m")
        axis.set_title(word, fontsize=11)
        figure.colorbar(drawn, ax=axis, shrink=0.7, label="relevancy")
    return _save(figure, out, title)


def _size(points: int) -> float:
    """Return the area of a marker, square points: large for few points, so that none is overlooked."""
    return float(np.clip(60_000 / max(points, 1), 2, 12))


def _grid(
    rows: int, columns: int, panel: tuple[float, float], legend: Legend, title: str, **settings: object
) -> tuple[plt.Figure, np.ndarray]:
    """Return a figure with a grid of axes [rows, columns], its heading and its legend."""
    if columns == 1:  # a picture of one panel has room for a large one
        panel = (7.0, 7.0 * panel[1] / panel[0])
    entries = max(int(columns * panel[0] / 1.8), 1)
    lines = -(-len(legend) // entries)
    size = columns * panel[0], rows * panel[1] + 0.8 + 0.25 * lines
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **settings)
    handles = [
        plt.Line2D([], [], marker="o", ls="", markersize=8, color=colour / 255, label=name)
        for name, colour in legend.items()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=entries, frameon=False)
    figure.suptitle(title, fontsize=12, wrap=True)
    return figure, axes


def _save(figure: plt.Figure, out: Path, caption: str) -> Path:
    """Write a figure, whole or not at all; the file holds its caption, for reports."""
    with atomic(out) as path:
        figure.savefig(path, dpi=_DPI, format="png", metadata={"Description": caption, "Software": None})
    plt.close(figure)
    return out


def shades(count: int) -> np.ndarray:
    """Return `count` colours [count, 3] uint8 from dark to light, which keep their order in grey."""
    return np.rint(255 * mpl.colormaps["cividis"](np.linspace(0, 0.95, count))[:, :3]).astype(np.uint8)
