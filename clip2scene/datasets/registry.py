"""Data sets by name, found through the entry point group ``clip2scene.datasets``."""

from clip2scene.datasets.frame import Dataset
from clip2scene.registry import entry, registered

GROUP = "clip2scene.datasets"


def dataset_names() -> list[str]:
    """Names of every registered data set; none of their modules is imported."""
    return sorted(registered(GROUP).names)


def get_dataset(name: str) -> Dataset:
    """The data set registered as `name`.

    Raises:
        InputError: no data set has this name; the nearest one is named.
    """
    return entry(GROUP, "data set", name).load()()


def dataset_module(name: str) -> str:
    """The module of the data set registered as `name`, which is not imported; errors as `get_dataset`'s."""
    return entry(GROUP, "data set", name).module
