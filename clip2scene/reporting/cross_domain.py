"""The cross-domain table: source x target x method, what features learned on one sensor give on another."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import Experiment, load_experiments
from clip2scene.files import atomic
from clip2scene.reporting.tables import SYNTHETIC, results_of

mpl.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

_PROTOCOL = ["protocol", "label_percent", "fraction_rule"]
_ROW = [*_PROTOCOL, "method", "recipe", "backbone", "source"]


def write_cross_domain(config: Config, name: str) -> None:
    """Write ``table_cross_domain`` as ``.csv``, ``.md`` and ``.png`` into the results folder.

    A row is a protocol, a method and the data set it was pre-trained on (``none`` for random initialisation),
    a column a data set it is judged on, a cell the mIoU in percent, mean over seeds; cells that no experiment
    fills are empty.

    Args:
        config: The configuration whose experiments of table ``cross_domain`` fill the cells.
        name: The configuration's hash.

    Raises:
        InputError: a run is missing or unfinished, or two experiments fill one cell.
    """
    cells = pd.DataFrame([_cell(config, e) for e in load_experiments(config, "cross_domain")])
    if (twice := cells.duplicated([*_ROW, "target"])).any():
        cell = cells[twice].iloc[0]
        raise InputError(
            f"{config.experiments}: two rows of table cross_domain have {cell['method']} from "
            f"{cell['source']} on {cell['target']}"
        )
    matrix = cells.pivot(index=_ROW, columns="target", values="miou").reindex(
        index=pd.MultiIndex.from_frame(cells[_ROW].drop_duplicates()), columns=cells["target"].unique()
    )
    keys = cells.groupby(_ROW, sort=False)["run_keys"].agg(" ".join)
    with atomic(config.results / "table_cross_domain.csv") as path:
        table = matrix.assign(run_keys=keys, config=name)
        table.to_csv(path, float_format="%.2f")
    synthetic = any(config.datasets[target].synthetic for target in matrix)
    with atomic(config.results / "table_cross_domain.md") as path:
        path.write_text(markdown(matrix, name, synthetic))
    with atomic(config.results / "table_cross_domain.png") as path:
        draw(matrix, path)


def _cell(config: Config, e: Experiment) -> dict[str, Any]:
    runs = results_of(config, e)
    return {
        "protocol": e.protocol, "label_percent": e.percent, "fraction_rule": e.rule, "method": e.method,
        "recipe": e.recipe, "backbone": e.backbone, "source": e.pretrain or "none", "target": e.target,
        "miou": 100 * np.mean([metrics["scores"]["miou"] for metrics in runs.values()]),
        "run_keys": " ".join(runs),
    }  # fmt: skip


def markdown(matrix: pd.DataFrame, name: str, synthetic: bool) -> str:
    """The matrix for people, a section a protocol; synthetic data are called so."""
    lines = [
        "# Across domains",
        "",
        f"Configuration `{name}`. mIoU in percent on each target (columns) by source (rows).",
    ]
    lines += ["", SYNTHETIC] if synthetic else []
    for protocol, part in matrix.groupby(level=_PROTOCOL, sort=False):
        lines += ["", f"## {_heading(protocol)}", ""]
        lines += ["| method | pre-trained on | " + " | ".join(matrix.columns) + " |"]
        lines += ["|---" * (2 + len(matrix.columns)) + "|"]
        for (method, recipe, backbone, source), values in part.droplevel(_PROTOCOL).iterrows():
            cells = ("" if np.isnan(value) else f"{value:.1f}" for value in values)
            words = " ".join(word for word in (method, recipe, f"({backbone})" if backbone else "") if word)
            lines.append(f"| {words} | {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(matrix: pd.DataFrame, out: Path) -> None:
    """The matrix as a picture, a panel a protocol, each target coloured from its worst to its best."""
    groups = list(matrix.groupby(level=_PROTOCOL, sort=False))
    heights = [len(part) for _, part in groups]
    figure, axes = plt.subplots(
        len(groups), 1, squeeze=False, layout="constrained", height_ratios=heights,
        figsize=(5 + 1.3 * matrix.shape[1], 1.2 * len(groups) + 0.35 * sum(heights)),
    )  # fmt: skip
    for axis, (protocol, part) in zip(axes[:, 0], groups, strict=True):
        values = part.to_numpy()
        low, high = part.min().to_numpy(), part.max().to_numpy()  # of those there are
        axis.imshow((values - low) / np.maximum(high - low, 1e-9), cmap="Blues", aspect="auto", vmax=1.6)
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                axis.text(column, row, f"{value:.1f}", ha="center", va="center")
        rows = part.droplevel(_PROTOCOL).index
        axis.set_yticks(
            range(len(rows)), [f"{method} {recipe} ← {source}" for method, recipe, _, source in rows]
        )
        axis.set_xticks(range(matrix.shape[1]), matrix.columns)
        axis.set_title(f"{_heading(protocol)}: mIoU, %")
    figure.savefig(out, dpi=110, format="png")
    plt.close(figure)


def _heading(protocol: tuple[str, float, str]) -> str:
    kind, percent, rule = protocol
    share = f", {percent:g} % of the labels {rule}".rstrip() if percent else ""
    return kind.replace("_", "-") + share
