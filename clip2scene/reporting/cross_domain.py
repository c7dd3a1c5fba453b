"""The cross-domain table: source x target x method, features learned on one sensor and judged on another."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from clip2scene.errors import InputError
from clip2scene.files import atomic
from clip2scene.reporting.base import SYNTHETIC, Cell, Table
from clip2scene.reporting.columns import OVER_SCENES, explained, markdown_table, number, write_csv
from clip2scene.reporting.numbers import described
from clip2scene.reporting.statistics import intervals
from clip2scene.study import Study

_PROTOCOL = ["protocol", "label_percent", "fraction_rule"]
_ROW = [*_PROTOCOL, "method", "recipe", "variant", "backbone", "source"]


class CrossDomainTable(Table):
    """``table_cross_domain`` as CSV, Markdown and a picture.

    A row is a protocol, a method and the data set it was pre-trained on (``none`` for random initialisation).
    Of every data set that it is judged on there are columns with its mIoU in percent, mean over seeds, and
    its interval. Cells that no experiment fills are empty.
    """

    files: ClassVar[tuple[str, ...]] = (
        "table_cross_domain.csv", "table_cross_domain.md", "table_cross_domain.png",
    )  # fmt: skip

    def write(self, study: Study, cells: list[Cell], out: Path) -> None:
        """Write the table.

        Raises:
            InputError: two experiments fill one cell.
        """
        rows = pd.DataFrame([_row(study, cell) for cell in cells])
        if (twice := rows.duplicated([*_ROW, "target"])).any():
            row = rows[twice].iloc[0]
            raise InputError(
                f"{study.config.experiments}: two rows of table cross_domain have {row['method']} from "
                f"{row['source']} on {row['target']}"
            )
        miou, low, high = (_matrix(rows, name) for name in ("value", "low", "high"))
        keys = rows.groupby(_ROW, sort=False)["run_keys"].agg(" ".join)
        ends = {name: values for target in miou for name, values in (
            (target, miou[target]), (f"{target}_low", low[target]), (f"{target}_high", high[target])
        )}  # fmt: skip
        table = pd.DataFrame(ends).assign(run_keys=keys, study=study.name).reset_index()
        write_csv(table.to_dict("records"), list(table.columns), out / "table_cross_domain.csv")
        with atomic(out / "table_cross_domain.md") as path:
            synthetic = any(cell.synthetic for cell in cells)
            path.write_text(markdown(miou, low, high, study.name, synthetic))
        with atomic(out / "table_cross_domain.png") as path:
            draw(miou, path)


def _row(study: Study, cell: Cell) -> dict[str, Any]:
    """Return a cell's mIoU with its interval, and where it stands in the matrix."""
    interval = intervals([cell.totals()])[0]
    values = {"value": interval.value, "low": interval.low, "high": interval.high}
    e = cell.experiment
    return described(study, cell) | {"source": e.pretrain or "none", "target": e.target} | values


def _matrix(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return one number of every cell, a row a method and source, a column a target."""
    return rows.pivot(index=_ROW, columns="target", values=name).reindex(
        index=pd.MultiIndex.from_frame(rows[_ROW].drop_duplicates()), columns=rows["target"].unique()
    )


def markdown(miou: pd.DataFrame, low: pd.DataFrame, high: pd.DataFrame, name: str, synthetic: bool) -> str:
    """Return the matrix for people, a section a protocol; synthetic data are called so."""
    lines = [
        "# Across domains",
        "",
        f"Study `{name}`. mIoU in percent on each target (columns) by source (rows), with its 95 % interval "
        f"{OVER_SCENES}.",
    ]
    lines += ["", SYNTHETIC] if synthetic else []
    for protocol, part in miou.groupby(level=_PROTOCOL, sort=False):
        lines += ["", f"## {_heading(protocol)}", ""]
        rows = []
        for row, values in part.iterrows():
            method, recipe, variant, backbone, source = row[len(_PROTOCOL) :]
            cells = (number(*ends) for ends in zip(values, low.loc[row], high.loc[row], strict=True))
            network = f"({backbone})" if backbone else ""
            rows.append(
                (" ".join(word for word in (method, recipe, variant, network) if word), source, *cells)
            )
        lines += markdown_table(("method", "pre-trained on", *miou.columns), rows)
    columns = [*_ROW, "run_keys", "study"]
    own = "For each target there are three columns: its mIoU, `_low` and `_high`, the ends of its interval."
    return "\n".join([*lines, *explained("table_cross_domain.csv", columns), "", own]) + "\n"


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
