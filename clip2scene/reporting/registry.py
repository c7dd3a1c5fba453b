"""Tables by name. Every job imports this module, so it imports neither torch nor a plotting library."""

from importlib.metadata import EntryPoint

from clip2scene.errors import unknown
from clip2scene.experiments import Experiment
from clip2scene.registry import registered

GROUP = "clip2scene.tables"
SUMMARIES = "clip2scene.summaries"
"""Entry points of tables that show every row of the table of experiments, whatever its column `tables` is."""


def table_names() -> list[str]:
    """Return the names of all tables that rows of the table of experiments can name."""
    return sorted(registered(GROUP).names)


def summary_names() -> list[str]:
    """Return the names of all tables that show every row."""
    return sorted(registered(SUMMARIES).names)


def all_names() -> list[str]:
    """Return the names of all registered tables."""
    return sorted([*table_names(), *summary_names()])


def shows(table: str, experiment: Experiment) -> bool:
    """Say whether a table shows a row of the table of experiments."""
    return table in experiment.tables or table in registered(SUMMARIES).names


def table_entry(name: str) -> EntryPoint:
    """Return the entry of the table registered as `name`, which is not imported.

    Raises:
        InputError: there is no such table; the nearest name is given.
    """
    for group in (GROUP, SUMMARIES):
        if name in registered(group).names:
            return registered(group)[name]
    raise unknown("table", name, all_names())
