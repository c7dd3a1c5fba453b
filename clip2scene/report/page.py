"""`clip2scene report`: one HTML file with a study's tables, curves, scenes and runs. It loads nothing."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from clip2scene.files import atomic
from clip2scene.report import plots
from clip2scene.report.captions import caption
from clip2scene.report.cost import by_stage, read_jobs
from clip2scene.report.scenes import read_scenes
from clip2scene.report.sections import section, training
from clip2scene.report.tables import numbers, read_tables, shown
from clip2scene.reporting.base import SYNTHETIC
from clip2scene.workflow import Workflow


@dataclass(frozen=True)
class Plots:
    """Figures of one kind.

    Attributes:
        name: Name of its caption, and anchor in the page.
        title: Heading.
        figures: The figures, by title.
    """

    name: str
    title: str
    figures: Mapping[str, Figure]


def write_report(workflow: Workflow, config: str, out: Path) -> None:
    """Write the report of a study. The same files give the same bytes.

    Tables that are not there, or are another study's, are left out, and so are figures of them.

    Args:
        workflow: The study.
        config: Path of the configuration, for the commands that make a run again.
        out: HTML file.

    Raises:
        InputError: a table, a run or a picture is damaged.
    """
    tables = read_tables(workflow)
    every, jobs, pictures = numbers(tables), read_jobs(workflow), read_scenes(workflow)
    page = _environment().get_template("page.html.jinja").render(
        study=workflow.name,
        config=config,
        synthetic=(every["data"] == "synthetic").any(),
        tables=[shown(name, table, every) for name, table in tables.items()],
        plots=list(_plots(workflow, tables, every)),
        scenes=[picture for picture in pictures if picture.name.startswith("scene-")],
        cost=shown("cost", by_stage(jobs), every) if len(jobs) else None,
        jobs=plots.hours(jobs) if len(jobs) else None,
        runs=[section(workflow, run, config) for run in workflow.runs.values()],
        pictures=pictures,
    )  # fmt: skip
    with atomic(out) as path:
        path.write_text(page, encoding="utf-8")


def _plots(workflow: Workflow, tables: Mapping[str, pd.DataFrame], every: pd.DataFrame) -> Iterator[Plots]:
    """Yield every kind of figure of which there is one."""
    matrices = tables.get("table_cross_domain")
    kinds: Iterable[tuple[str, str, Iterable[tuple[str, Figure]]]] = (
        ("label_fractions", "Label-fraction curves", plots.label_fractions(every)),
        ("cross_domain", "Cross-domain matrix", () if matrices is None else plots.cross_domain(matrices)),
        ("per_class", "Bars by class", plots.per_class(every)),
        ("training", "Training curves", training(workflow)),
    )
    for name, title, figures in kinds:
        if drawn := dict(figures):
            yield Plots(name, title, drawn)


def _environment() -> Environment:
    """Return the templates, with what they call."""
    environment = Environment(
        loader=PackageLoader("clip2scene.report", "page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {
        "caption": lambda name: _code(caption(name)),
        "synthetic_words": Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", SYNTHETIC)),
        "figure": lambda figure: Markup(plots.to_json(figure)),
        "layout": Markup(json.dumps(plots.shared_layout(), sort_keys=True)),
        "plotly": Markup(get_plotlyjs().replace("</script", "<\\/script")),
        "datatables": _datatables,
        "versions": {name: version(name) for name in ("clip2scene", "plotly", "itables")},
    }
    return environment


def _code(text: str) -> Markup:
    """Return reStructuredText without markup but for code, as HTML."""
    return Markup(re.sub(r"``(.+?)``", r"<code>\1</code>", str(escape(text))))


def _datatables(ending: str) -> str:
    """Return the bundle of DataTables that itables brings, in base 64: a module, or its style sheet."""
    data = (files("itables") / f"html/dt_bundle.{ending}").read_bytes()
    return base64.b64encode(data).decode()
