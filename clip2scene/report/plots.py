"""Plotly figures of a study's numbers. They name no size: a page gives them the width that there is."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
from plotly.graph_objects import Figure, Heatmap

_COLUMN = ["dataset", "protocol", "backbone"]
_ROW = 380
"""Height of a row of panels, pixels."""
_MIOU, _IOU, _LABELS = "mIoU, %", "IoU, %", "labels, %"


def _measured(every: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the numbers of a metric: value, ends of the interval as distances, and the row in words."""
    found = every[every["metric"] == metric]
    value, low, high, percent = (
        pd.to_numeric(found[name]) for name in ("value", "low", "high", "label_percent")
    )
    std = found["std_pretrain"].where(found["std_pretrain"] != "", found["std_finetune"])
    named = _words(found, "method", "recipe", "variant")
    moved = (found["pretrain_dataset"] != "") & (found["pretrain_dataset"] != found["dataset"])
    named = named.where(~moved, named + " ← " + found["pretrain_dataset"])
    return found.assign(
        value=value, up=high - value, down=value - low, label_percent=percent, row=named,
        std=std.where(std != "", "one seed"), interval="[" + found["low"] + ", " + found["high"] + "]",
    )  # fmt: skip


def _words(table: pd.DataFrame, *columns: str) -> pd.Series:
    """Return the texts in columns, those that are empty left out, as one."""
    rows = table[list(columns)].to_numpy()
    return pd.Series([" ".join(filter(None, row)) for row in rows], table.index, dtype=str)


def _colours(rows: pd.Series) -> dict[str, str]:
    """Return a colour for each row, the same in every figure, that colour-blind readers tell apart."""
    return dict(zip(rows.unique(), cycle(px.colors.qualitative.Safe)))


def label_fractions(every: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield a figure a data set, protocol and network: mIoU against the share of labels.

    A rule that draws the share has a panel of its own; all labels, which no rule draws, are in each.
    """
    found = _measured(every, "miou")
    found = found[found["label_percent"] > 0]
    colours = _colours(found["row"])
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
            drawn, x="label_percent", y="value", color="row", color_discrete_map=colours, error_y="up",
            error_y_minus="down", facet_col="rule", log_x=True, markers=True, height=_ROW + 40,
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
    colours = _colours(found["row"])
    column = ["dataset", "protocol", "label_percent", "fraction_rule", "backbone"]
    # the teacher has no 3D network; it stands beside those that it taught
    taught = found[found["backbone"] != ""].groupby(["dataset", "protocol"])["backbone"].first()
    pairs = pd.MultiIndex.from_frame(found[["dataset", "protocol"]])
    network = pd.Series(taught.reindex(pairs).to_numpy(), found.index).fillna("")
    found = found.assign(backbone=found["backbone"].where(found["backbone"] != "", network))
    for (dataset, protocol, percent, rule, backbone), part in found.groupby(column, sort=False):
        figure = px.bar(
            part, x="class", y="value", color="row", color_discrete_map=colours, barmode="group", height=_ROW,
            error_y="up" if part["up"].notna().any() else None, error_y_minus="down",
            labels={"class": "", "value": _IOU, "row": ""}, hover_data=["interval", "std", "run_keys"],
        )  # fmt: skip
        share = f"{percent:g} % of the labels {rule}".strip() if percent else "no labels"
        words = (dataset, protocol.replace("_", "-"), share, backbone)
        yield ", ".join(word for word in words if word), figure


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
        share = f", {float(percent):g} % of the labels {rule}".rstrip() if float(percent) else ""
        yield protocol.replace("_", "-") + share, figure


def curves(steps: pd.DataFrame, colour: str) -> Figure:
    """Draw what runs logged, a panel a quantity.

    Args:
        steps: A row a step and quantity: ``step``, ``quantity``, ``value``, and ``colour``.
        colour: Column that tells lines apart.
    """
    quantities = list(dict.fromkeys(steps["quantity"]))
    figure = px.line(
        steps, x="step", y="value", color=colour, facet_row="quantity", render_mode="svg",
        labels={"value": "", colour: ""},
        height=80 + 250 * len(quantities), category_orders={"quantity": quantities},
    )  # fmt: skip
    figure.update_yaxes(matches=None)
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
    import plotly.io as pio

    template = pio.templates["plotly_white"].to_plotly_json()
    legend = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0}
    margin = {"l": 50, "r": 25, "t": 40, "b": 40}
    return {"template": template, "legend": legend, "margin": margin, "autosize": True}
