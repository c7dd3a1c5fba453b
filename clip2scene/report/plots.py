"""Plotly figures of a study's numbers. They name no size: a page gives them the width that there is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.io as pio
from plotly.graph_objects import Figure, Heatmap
from plotly.graph_objs.layout import Template

# Plotly copies and checks the whole template for each figure, which takes most of the time; a page has it
# once.
px.defaults.template = Template(layout={"colorway": pio.templates["plotly"].layout.colorway})

_COLUMN = ["dataset", "protocol", "backbone"]
_ROW = 380
"""Height of a row of panels, pixels."""
_MIOU, _IOU, _LABELS = "mIoU, %", "IoU, %", "labels, %"
_COLOURS = px.colors.qualitative.Safe
"""Colours that colour-blind readers tell apart."""
_FROM = " ← "


def named(network: str, source: str, target: str) -> str:
    """Return a row in words: a network, and the data set of its pre-training if that is not the target."""
    return f"{network}{_FROM}{source}" if source not in ("", target) else network


@dataclass(frozen=True)
class Looks:
    """Style of rows in all figures: a colour a network; dashes or stripes a data set of pre-training.

    Attributes:
        networks: Every network of the study, in the order of its rows.
    """

    networks: Sequence[str]

    def drawn(self, rows: Iterable[str], *kinds: str) -> dict[str, Any]:
        """Return the arguments of Plotly Express that draw rows so.

        Args:
            rows: Names of the rows, see `named`.
            kinds: What tells data sets of pre-training apart: ``line_dash``, ``symbol``, ``pattern_shape``.
        """
        parts = {row: row.partition(_FROM)[::2] for row in rows}
        colours = {row: _COLOURS[self._place(network) % len(_COLOURS)] for row, (network, _) in parts.items()}
        sources = ["", *dict.fromkeys(source for _, source in parts.values() if source)]
        found: dict[str, Any] = {"color": "row", "color_discrete_map": colours}
        for kind in kinds:
            marks = dict(zip(sources, cycle(_MARKS[kind])))
            found |= {kind: "row", f"{kind}_map": {row: marks[source] for row, (_, source) in parts.items()}}
        return found

    def parts(self, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield parts of a table in which no two networks share a colour, each with the end of its title."""
        part = table["row"].map(lambda row: self._place(row.partition(_FROM)[0]) // len(_COLOURS))
        for number, (_, found) in enumerate(table.groupby(part), start=1):
            yield f" ({number})" if number > 1 else "", found

    def _place(self, network: str) -> int:
        return self.networks.index(network)


_MARKS: Mapping[str, Sequence[str]] = {
    "line_dash": ("solid", "dash", "dot"),
    "symbol": ("circle", "diamond-open", "square-open"),
    "pattern_shape": ("", "/", "x"),
}


def share_of(percent: float, rule: str) -> str:
    """Return a share of the labels in words."""
    return f"{percent:g} % of the labels" + (f" by {rule}" if rule else "")


def _measured(every: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the numbers of a metric: value, ends of the interval as distances, and the row in words."""
    found = every[every["metric"] == metric]
    value, low, high, percent = (
        pd.to_numeric(found[name]) for name in ("value", "low", "high", "label_percent")
    )
    std = found["std_pretrain"].where(found["std_pretrain"] != "", found["std_finetune"])
    network = _words(found, "method", "recipe", "variant")
    rows = [named(*words) for words in zip(network, found["pretrain_dataset"], found["dataset"], strict=True)]
    return found.assign(
        value=value, up=high - value, down=value - low, label_percent=percent, network=network, row=rows,
        std=std.where(std != "", "one seed"), interval="[" + found["low"] + ", " + found["high"] + "]",
    )  # fmt: skip


def _words(table: pd.DataFrame, *columns: str) -> pd.Series:
    """Return the texts in columns, those that are empty left out, as one."""
    rows = table[list(columns)].to_numpy()
    return pd.Series([" ".join(filter(None, row)) for row in rows], table.index, dtype=str)


def label_fractions(every: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield a figure a data set, protocol and network: mIoU against the share of labels.

    A rule that draws the share has a panel of its own; all labels, which no rule draws, are in each.
    """
    found = _measured(every, "miou")
    looks = Looks(list(found["network"].unique()))
    found = found[found["label_percent"] > 0]
    for (dataset, protocol, backbone), part in found.groupby(_COLUMN, sort=False):
        rules = [rule for rule in part["fraction_rule"].unique() if rule]
        if not rules:
            continue
        full = part[part["fraction_rule"] == ""]
        panels = [part[part["fraction_rule"] == rule] for rule in rules]
        drawn = pd.concat(
            pd.concat([panel, full[full["row"].isin(panel["row"])]]).assign(rule=rule)
            for rule, panel in zip(rules, panels, strict=True)
        ).sort_values("label_percent", kind="stable")
        shares = sorted(drawn["label_percent"].unique())
        figure = px.line(
            drawn, x="label_percent", y="value", error_y="up", error_y_minus="down", facet_col="rule",
            **looks.drawn(drawn["row"], "line_dash", "symbol"), log_x=True, markers=True, height=_ROW + 40,
            category_orders={"rule": rules},
            labels={"label_percent": _LABELS, "value": _MIOU, "row": "", "std": "± over seeds"},
            hover_data=["interval", "std", "run_keys"], render_mode="svg",
        )  # fmt: skip
        figure.update_xaxes(tickvals=shares, ticktext=[f"{share:g}" for share in shares])
        _name_panels(figure)
        yield f"{dataset}, {protocol.replace('_', '-')}, {backbone}", figure


def per_class(every: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield a figure a data set, protocol and share of labels: the IoU of each class, a bar a method."""
    found = _measured(every, "iou")
    looks = Looks(list(found["network"].unique()))
    column = ["dataset", "protocol", "label_percent", "fraction_rule", "backbone"]
    # the teacher has no 3D network; it stands beside those that it taught
    taught = found[found["backbone"] != ""].groupby(["dataset", "protocol"])["backbone"].first()
    pairs = pd.MultiIndex.from_frame(found[["dataset", "protocol"]])
    network = pd.Series(taught.reindex(pairs).to_numpy(), found.index).fillna("")
    found = found.assign(backbone=found["backbone"].where(found["backbone"] != "", network))
    for (dataset, protocol, percent, rule, backbone), part in found.groupby(column, sort=False):
        words = (
            dataset,
            protocol.replace("_", "-"),
            share_of(percent, rule) if percent else "no labels",
            backbone,
        )
        title = ", ".join(word for word in words if word)
        for number, bars in looks.parts(part):
            figure = px.bar(
                bars, x="class", y="value", barmode="group", height=_ROW,
                **looks.drawn(bars["row"], "pattern_shape"),
                error_y="up" if bars["up"].notna().any() else None, error_y_minus="down",
                labels={"class": "", "value": _IOU, "row": ""}, hover_data=["interval", "std", "run_keys"],
            )  # fmt: skip
            yield title + number, figure


def cross_domain(table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield a matrix a protocol and share: source and method by target, coloured within each target."""
    targets = [name.removesuffix("_low") for name in table if name.endswith("_low")]
    for (protocol, percent, rule), part in table.groupby(
        ["protocol", "label_percent", "fraction_rule"], sort=False
    ):
        values = part[targets].apply(pd.to_numeric)
        least, most = values.min(), values.max()
        shade = ((values - least) / (most - least).where(most > least, 1)).round(3)
        ends = "[" + part[[f"{name}_low" for name in targets]].to_numpy() + ", "
        ends = ends + part[[f"{name}_high" for name in targets]].to_numpy() + "]"
        rows = _words(part, "method", "recipe", "variant", "backbone") + " ← " + part["source"]
        figure = Figure(Heatmap(
            z=shade.to_numpy(), x=targets, y=rows.to_list(), text=part[targets].to_numpy(), customdata=ends,
            texttemplate="%{text}", colorscale="Blues", zmin=0, zmax=1.6, showscale=False, xgap=2, ygap=2,
            hovertemplate="%{y}, on %{x}: %{text} %{customdata}<extra></extra>",
        ))  # fmt: skip
        figure.update_layout(height=110 + 34 * len(part))
        figure.update_xaxes(side="top", fixedrange=True)
        figure.update_yaxes(autorange="reversed", fixedrange=True, automargin=True)
        share = f", {share_of(float(percent), rule)}" if float(percent) else ""
        yield protocol.replace("_", "-") + share, figure


def curves(steps: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Draw what runs logged, a panel a quantity.

    Args:
        steps: A row a step and quantity: ``step``, ``quantity`` and ``value``; of several runs, ``row`` and
            ``run`` too.
        looks: What the rows look like, of several runs.
    """
    lines = {"color": "quantity"}
    if looks:
        lines = {"line_group": "run", "hover_name": "run", **looks.drawn(steps["row"], "line_dash")}
    quantities = list(dict.fromkeys(steps["quantity"]))
    figure = px.line(
        steps, x="step", y="value", **lines, facet_row="quantity", render_mode="svg",
        labels={"value": "", "quantity": "", "row": ""},
        height=80 + 250 * len(quantities), category_orders={"quantity": quantities},
    )  # fmt: skip
    figure.update_yaxes(matches=None)
    if looks:  # one text for all points of a line
        figure.for_each_trace(lambda line: line.update(hovertext=line.hovertext[0]))
    _name_panels(figure)
    return figure


def _name_panels(figure: Figure) -> None:
    """Head each panel by its value alone, without the name of the column."""
    figure.for_each_annotation(lambda note: note.update(text=note.text.partition("=")[2]))


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix [C + 1, C + 1], rows labels: points in percent of those of the label."""
    labelled, names = counts[1:], [*classes, "no class"]
    labelled = np.roll(labelled, -1, axis=1)  # last: no class
    total = labelled.sum(axis=1, keepdims=True)
    share = (100 * labelled / np.where(total, total, 1)).round(1)
    figure = Figure(Heatmap(
        z=share, x=names, y=list(classes), customdata=labelled, colorscale="Blues", zmin=0, zmax=100,
        hovertemplate="%{y} labelled %{x}: %{z:.1f} % (%{customdata:,} points)<extra></extra>",
    ))  # fmt: skip
    figure.update_layout(height=160 + 22 * len(classes))
    figure.update_xaxes(title="prediction", automargin=True)
    figure.update_yaxes(title="label", autorange="reversed", automargin=True)
    return figure


def ious(classes: Sequence[str], values: Sequence[float]) -> Figure:
    """Draw the IoU of each class of one run."""
    table = pd.DataFrame({"class": list(classes), "value": np.round(100 * np.asarray(values), 2)})
    labels = {"class": "", "value": _IOU}
    return px.bar(table, x="class", y="value", labels=labels, height=300)


def hours(jobs: pd.DataFrame) -> Figure:
    """Draw the hours and the memory of each job, a colour a stage; see `clip2scene.report.cost.read_jobs`."""
    long = jobs.melt(["stage", "job"], ["minutes", "memory, GiB"], "quantity", "value")
    figure = px.strip(
        long, x="stage", y="value", color="stage", facet_row="quantity", hover_name="job", height=2 * 280,
        labels={"value": "", "stage": ""}, category_orders={"stage": list(jobs["stage"].unique())},
    )  # fmt: skip
    figure.update_yaxes(matches=None, rangemode="tozero")
    figure.update_layout(showlegend=False)
    _name_panels(figure)
    return figure


def to_json(figure: Figure) -> str:
    """Return a figure as JSON that may stand in HTML; the page adds the layout that all share."""
    figure.update_layout(template=None)
    text = figure.to_json()
    return text.replace("</", "<\\/")


def shared_layout() -> dict[str, Any]:
    """Return the layout that all figures of a page share."""
    template = pio.templates["plotly_white"].to_plotly_json()
    legend = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0}
    margin = {"l": 50, "r": 25, "t": 40, "b": 40}
    return {"template": template, "legend": legend, "margin": margin, "autosize": True}
