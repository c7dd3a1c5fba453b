"""The cross-domain table: source x target x method, features learned on one sensor and judged on another."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.study import Study

_PROTOCOL = ["protocol", "label_percent", "fraction_rule"]
_ROW = [*_PROTOCOL, "method", "recipe", "variant", "backbone", "source"]


class CrossDomainTable(Table):
    """``table_cross_domain`` as CSV, Markdown and a picture.

    A row is a protocol, a method and the data set it was pre-trained on (``none`` for random initialisation),
    a column is a data set it is judged on, a cell is the mIoU in percent, mean over seeds. Cells that no
    experiment fills are empty.
    """

    files: ClassVar[tuple[str, ...]] = (
        "table_cross_domain.csv", "table_cross_domain.md", "table_cross_domain.png",
    )  # fmt: skip

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table.

        Raises:
            InputError: two experiments fill one cell.
        """
        rows = pd.DataFrame([_row(cell) for cell in cells])
        if (twice := rows.duplicated([*_ROW, "target"])).any():
            row = rows[twice].iloc[0]
            raise InputError(
                f"{study.config.experiments}: two rows of table cross_domain have {row['method']} from "
                f"{row['source']} on {row['target']}"
            )
        matrix = rows.pivot(index=_ROW, columns="target", values="miou").reindex(
            index=pd.MultiIndex.from_frame(rows[_ROW].drop_duplicates()), columns=rows["target"].unique()
        )
        keys = rows.groupby(_ROW, sort=False)["run_keys"].agg(" ".join)
        with atomic(out / "table_cross_domain.csv") as path:
            matrix.assign(run_keys=keys, study=study.name).to_csv(path, float_format="%.2f")
        with atomic(out / "table_cross_domain.md") as path:
            path.write_text(markdown(matrix, study.name, any(cell.synthetic for cell in cells)))
        with atomic(out / "table_cross_domain.png") as path:
            draw(matrix, path)


def _row(cell: Cell) -> dict[str, Any]:
    e = cell.experiment
    return {
        "protocol": e.protocol, "label_percent": e.percent, "fraction_rule": e.rule, "method": e.method,
        "recipe": e.recipe, "variant": e.variant, "backbone": e.backbone, "source": e.pretrain or "none",
        "target": e.target, "miou": cell.spread(lambda scores: 100 * scores.miou).mean,
        "run_keys": cell.keys,
    }  # fmt: skip


def markdown(matrix: pd.DataFrame, name: str, synthetic: bool) -> str:
    """Return the matrix for people, a section a protocol; synthetic data are called so."""
    lines = [
        "# Across domains",
        "",
        f"Study `{name}`. mIoU in percent on each target (columns) by source (rows).",
    ]
    lines += ["", SYNTHETIC] if synthetic else []
    for protocol, part in matrix.groupby(level=_PROTOCOL, sort=False):
        lines += ["", f"## {_heading(protocol)}", ""]
        lines += ["| method | pre-trained on | " + " | ".join(matrix.columns) + " |"]
        lines += ["|---" * (2 + len(matrix.columns)) + "|"]
        for (method, recipe, variant, backbone, source), values in part.droplevel(_PROTOCOL).iterrows():
            cells = ("" if np.isnan(value) else f"{value:.1f}" for value in values)
            network = f"({backbone})" if backbone else ""
            words = " ".join(word for word in (method, recipe, variant, network) if word)
            lines.append(f"| {words} | {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(matrix: pd.DataFrame, out: Path) -> None:
    """Draw the matrix, a panel a protocol, each target coloured from its worst to its best."""
    import matplotlib as mpl  # not at the top: the Snakefile imports this module

    mpl.use("Agg")  # no display is needed
    from matplotlib import pyplot as plt

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
        names = [f"{method} {recipe} {variant} ← {source}" for method, recipe, variant, _, source in rows]
        axis.set_yticks(range(len(rows)), names)
        axis.set_xticks(range(matrix.shape[1]), matrix.columns)
        axis.set_title(f"{_heading(protocol)}: mIoU, %")
    figure.savefig(out, dpi=110, format="png")
    plt.close(figure)


def _heading(protocol: tuple[str, float, str]) -> str:
    kind, percent, rule = protocol
    share = f", {percent:g} % of the labels {rule}".rstrip() if percent else ""
    return kind.replace("_", "-") + share
