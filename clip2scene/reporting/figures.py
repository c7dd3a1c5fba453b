"""Pictures of finished runs: scans from above, label-fraction curves, training curves."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.index import Index, load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.experiments import Run
from clip2scene.files import atomic_directory
from clip2scene.layout import run_folder
from clip2scene.pairing.images import read_image
from clip2scene.pairing.projection import pair

mpl.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

RADIUS = 35.0  # metres around the sensor that a picture of a scan shows
_IGNORED = np.array([0.85, 0.85, 0.85])


def draw_figures(config: Config, runs: list[Run], table: Path, out: Path) -> None:
    """Draw every figure into the folder `out`, which is whole or absent.

    Args:
        config: The configuration of the runs.
        runs: Finished runs.
        table: The main table, ``table_main.csv``.
        out: Folder to write.
    """
    with atomic_directory(out) as folder:
        for dataset in dict.fromkeys(run.target for run in runs if run.target):
            index = read_index(layout.index(config, dataset), config.datasets[dataset].root)
            draw_pixels(index.split(config.datasets[dataset].val_split), folder / f"pixels-{dataset}.png")
        for run in runs:
            if run.kind == "annotation_free":
                predictions = np.load(run_folder(config, run) / "predictions.npz")
                draw_scan(
                    predictions,
                    config.datasets[run.target].format,
                    f"{run.title} (run {run.key})",
                    folder / f"{_name(run)}.png",
                )
        draw_fractions(pd.read_csv(table, keep_default_na=False), folder)
        for run in runs:
            log = run_folder(config, run) / "metrics.jsonl"
            if run.kind == "pretrain" and log.exists():
                draw_training(log, f"{run.title} (run {run.key})", folder / f"{_name(run)}.png")


def draw_pixels(index: Index, out: Path) -> None:
    """A keyframe's points on the image that sees most of them, coloured by class; nothing if none has one.

    Args:
        index: The first of its keyframes that has images is drawn.
        out: PNG file.
    """
    with_images = index.frames[index.has_images]
    if with_images.empty:
        return
    dataset = get_dataset(index.format)
    frame = load_frame(dataset, index.root, next(with_images.itertuples()))
    pairs = pair(frame)
    best = np.bincount(pairs.image, minlength=len(frame.cameras)).argmax()
    mine, camera = pairs[pairs.image == best], frame.cameras[best]
    palette = np.vstack([_IGNORED, dataset.colours / 255])  # [C + 1, 3]
    height, width = camera.size
    figure, axes = plt.subplots(2, 1, figsize=(10, 20 * height / width + 0.5), layout="constrained")
    for axis in axes:
        axis.imshow(read_image(camera.image))
        axis.axis("off")
    labels = np.zeros(len(frame.points), int) if frame.labels is None else frame.labels
    axes[1].scatter(mine.column, mine.row, c=palette[labels[mine.point]], s=6, linewidths=0)
    figure.suptitle(f"{index.format}: {frame.id}, {camera.name}, {len(mine)} points")
    _save(figure, out)


def draw_scan(scan: dict[str, np.ndarray], dataset: str, title: str, out: Path) -> None:
    """One scan from above, ground truth beside prediction, coloured by class.

    Args:
        scan: ``points`` [N, 3] metres, ``labels`` and ``prediction`` [N], 0 = ignored.
        dataset: Registered data set, for names and colours of the classes.
        title: Heading.
        out: PNG file.
    """
    classes, colours = get_dataset(dataset).classes, get_dataset(dataset).colours / 255
    palette = np.vstack([_IGNORED, colours])  # [C + 1, 3]
    points = scan["points"]
    near = np.abs(points[:, :2]).max(axis=1) < RADIUS
    low, high = points[near, :2].min(axis=0), points[near, :2].max(axis=0)
    # higher points are drawn over lower ones, a room's ceiling and what else has no label under all
    order = np.lexsort([points[near, 2], scan["labels"][near] > 0])
    figure, axes = plt.subplots(1, 2, figsize=(13, 7), layout="constrained")
    for axis, name, heading in zip(
        axes, ("labels", "prediction"), ("ground truth", "prediction"), strict=True
    ):
        shown = np.where(scan["labels"] > 0, scan[name], 0)[near][order]
        axis.scatter(*points[near][order, :2].T, c=palette[shown], s=3, linewidths=0)
        axis.set(title=heading, xlabel="x, m", xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes[0].set_ylabel("y, m")
    used = np.unique(np.concatenate([scan["labels"], scan["prediction"]]))
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=palette[c], label=classes[c - 1]) for c in used if c
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(title)
    _save(figure, out)


def draw_fractions(table: pd.DataFrame, folder: Path) -> None:
    """Mean IoU against the share of labels: a picture a data set, a line a method."""
    tuned = table[table["protocol"] == "finetune"].astype({"label_percent": float, "miou_mean": float})
    for dataset, part in tuned.groupby("dataset"):
        figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
        for (method, recipe, backbone), rows in part.groupby(["method", "recipe", "backbone"]):
            rows = rows.sort_values("label_percent")
            spread = pd.to_numeric(rows["miou_std"], errors="coerce").fillna(0)
            label = f"{method} {recipe} ({backbone})".replace("  ", " ")
            axis.errorbar(
                rows["label_percent"], rows["miou_mean"], spread, marker="o", capsize=3, label=label
            )
        axis.set(
            xscale="log", xlabel="share of the labels, %", ylabel="mIoU, %", title=f"Fine-tuning on {dataset}"
        )
        rules = part.drop_duplicates(["label_percent", "fraction_rule"])
        percents = sorted(rules["label_percent"].unique())
        names = [
            f"{percent:g}\n" + "\n".join(rules.loc[rules["label_percent"] == percent, "fraction_rule"])
            for percent in percents
        ]
        axis.set_xticks(percents, names)
        axis.minorticks_off()
        axis.legend(frameon=False)
        _save(figure, folder / f"label-fractions-{dataset}.png")


def draw_training(log: Path, title: str, out: Path) -> None:
    """Every loss that a run logged, against the step."""
    steps = pd.DataFrame([json.loads(line) for line in log.read_text().splitlines()]).set_index("step")
    losses = [name for name in steps if name not in ("epoch", "learning_rate", "samples_per_second")]
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in losses:
        axis.plot(steps[name].rolling(max(len(steps) // 50, 1), min_periods=1).mean(), label=name)
    axis.set(xlabel="step", ylabel="loss, running mean", title=title)
    axis.legend(frameon=False)
    _save(figure, out)


def _name(run: Run) -> str:
    return "-".join(word for word in (run.kind, run.method, run.recipe, run.key) if word)


def _save(figure: plt.Figure, out: Path) -> None:
    figure.savefig(out, dpi=110)
    plt.close(figure)
