"""Pictures of finished runs: scans from above, label-fraction curves, training curves."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from clip2scene.datasets.index import Index, load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.confusion import read_predictions
from clip2scene.files import atomic
from clip2scene.layout import run_folder
from clip2scene.pairing.images import read_image
from clip2scene.pairing.projection import pair
from clip2scene.reporting.base import Cell, read_cells
from clip2scene.run_files import read_log
from clip2scene.study import Study

mpl.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

RADIUS = 35.0  # metres around the sensor that a picture of a scan shows
_IGNORED = np.array([0.85, 0.85, 0.85])


def draw_figures(study: Study, out: Path) -> list[Path]:
    """Draw every figure of the main table's runs into the folder `out`.

    Args:
        study: The study; its runs are finished.
        out: Folder to write into; what others keep there stays.

    Returns:
        The files.
    """
    runs, cells = study.runs_of("main").values(), read_cells(study, "main")
    drawn = []
    for dataset in dict.fromkeys(cell.experiment.target for cell in cells):
        data = study.configuration().datasets[dataset]
        index = read_index(study.index(dataset), data.root).split(data.val_split)
        drawn.append(draw_pixels(index, out / f"pixels-{dataset}.png"))
    for run in runs:
        folder, path = run_folder(study.config, run), out / f"{run.name}.png"
        if run.kind == "annotation_free":
            title, dataset = f"{run.title} (run {run.key})", study.config.datasets[run.target].format
            scan = read_predictions(folder / "predictions.npz", len(get_dataset(dataset).classes))
            drawn.append(draw_scan(scan, dataset, title, path))
        if run.kind == "pretrain" and (log := folder / "metrics.jsonl").exists():
            drawn.append(draw_training(log, f"{run.title} (run {run.key})", path))
    return [path for path in [*drawn, *draw_fractions(cells, out)] if path]


def draw_pixels(index: Index, out: Path) -> Path | None:
    """Draw a keyframe's points on the image that sees most of them, coloured by class; None without images.

    Args:
        index: The first of its keyframes that has images is drawn.
        out: PNG file.
    """
    with_images = index.frames[index.has_images]
    if with_images.empty:
        return None
    dataset = get_dataset(index.format)
    frame = load_frame(dataset, index.root, next(with_images.itertuples()))
    pairs = pair(frame)
    best = np.bincount(pairs.image, minlength=len(frame.cameras)).argmax()
    mine, camera = pairs[pairs.image == best], frame.cameras[best]
    palette = np.vstack([_IGNORED, dataset.colours / 255])  # [C + 1, 3]
    height, width = camera.size
    figure, axes = plt.subplots(2, 1, figsize=(10, 20 * height / width + 0.5), layout="constrained")
    for axis in axes:
        axis.imshow(read_image(camera.image, expected=camera.size))
        axis.axis("off")
    labels = np.zeros(len(frame.points), int) if frame.labels is None else frame.labels
    axes[1].scatter(mine.column, mine.row, c=palette[labels[mine.point]], s=6, linewidths=0)
    figure.suptitle(f"{index.format}: {frame.id}, {camera.name}, {len(mine)} points")
    return _save(figure, out)


def draw_scan(scan: dict[str, np.ndarray], dataset: str, title: str, out: Path) -> Path:
    """Draw one scan from above, ground truth beside prediction, coloured by class.

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
    # points without a label, such as a room's ceiling, lie under all others; then the higher over the lower
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
    return _save(figure, out)


def draw_fractions(cells: list[Cell], folder: Path) -> list[Path]:
    """Draw mean IoU against the share of labels: a picture a data set and rule, a line a method."""
    rows = []
    for cell in cells:
        e = cell.experiment
        if e.protocol == "finetune":
            spread = cell.spread(lambda scores: 100 * scores.miou)
            words = (e.method, e.recipe, e.variant, f"({e.backbone})")
            rows.append({
                "dataset": e.target, "rule": e.rule, "percent": e.percent, "mean": spread.mean,
                "method": " ".join(word for word in words if word),
                "std": spread.pretrain_std or spread.finetune_std or 0.0,
            })  # fmt: skip
    if not rows:
        return []
    table, drawn = pd.DataFrame(rows), []
    for (dataset, rule), part in table[table["rule"] != ""].groupby(["dataset", "rule"]):
        everything = table[(table["dataset"] == dataset) & (table["percent"] == 100)]
        shown = pd.concat([part, everything]).sort_values("percent")
        figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
        for method, line in shown.groupby("method"):
            axis.errorbar(line["percent"], line["mean"], line["std"], marker="o", capsize=3, label=method)
        percents = sorted(shown["percent"].unique())
        kind, _, ids = rule.partition(":")
        drawn_by = f"{kind}-{Path(ids).stem}" if ids else kind  # of two lists of ids, one each
        title = f"Fine-tuning on {dataset}, labels drawn by {drawn_by}"
        axis.set(xscale="log", xlabel="share of the labels, %", ylabel="mIoU, %", title=title)
        axis.set_xticks(percents, [f"{percent:g}" for percent in percents])
        axis.minorticks_off()
        axis.legend(frameon=False)
        drawn.append(_save(figure, folder / f"label-fractions-{dataset}-{drawn_by}.png"))
    return drawn


def draw_training(log: Path, title: str, out: Path) -> Path:
    """Draw every loss that a run logged against the step."""
    steps = pd.DataFrame(read_log(log)).set_index("step")
    losses = [name for name in steps if name not in ("epoch", "learning_rate", "samples_per_second")]
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in losses:
        axis.plot(steps[name].rolling(max(len(steps) // 50, 1), min_periods=1).mean(), label=name)
    axis.set(xlabel="step", ylabel="loss, running mean", title=title)
    axis.legend(frameon=False)
    return _save(figure, out)


def _save(figure: plt.Figure, out: Path) -> Path:
    with atomic(out) as path:
        figure.savefig(path, dpi=110, format="png")
    plt.close(figure)
    return out
