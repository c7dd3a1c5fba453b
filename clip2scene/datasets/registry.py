"""Data sets by name, found through the entry point group ``clip2scene.datasets``."""

import difflib
from importlib.metadata import entry_points

from clip2scene.datasets.frame import Dataset
from clip2scene.errors import InputError

GROUP = "clip2scene.datasets"


def dataset_names() -> list[str]:
    """Names of every registered data set; none of their modules is imported."""
    return sorted(entry_points(group=GROUP).names)


def get_dataset(name: str) -> Dataset:
    """The data set registered as `name`.

    Raises:
        InputError: no data set has this name; the nearest one is named.
    """
    names = dataset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"registered are {', '.join(names)}"
        raise InputError(f"data set {name!r}: not registered in the entry point group {GROUP}; {hint}")
    return entry_points(group=GROUP)[name].load()()


def dataset_module(name: str) -> str:
    """The module of the data set registered as `name`, which is not imported."""
    return entry_points(group=GROUP)[name].module
