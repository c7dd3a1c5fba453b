"""Registry of data sets, filled from the entry point group ``clip2scene.datasets``."""

from clip2scene.datasets.frame import Dataset
from clip2scene.registry import entry, registered

GROUP = "clip2scene.datasets"


def dataset_names() -> list[str]:
    """Return the names of all registered data sets without importing their modules."""
    return sorted(registered(GROUP).names)


def get_dataset(name: str) -> Dataset:
    """Return the data set registered as `name`.

    Raises:
        InputError: no data set has this name; the message suggests the nearest one.
    """
    return entry(GROUP, "data set", name).load()()


def dataset_module(name: str) -> str:
    """Return the module name of the data set registered as `name`, without importing it.

    Raises:
        InputError: no data set has this name; the message suggests the nearest one.
    """
    return entry(GROUP, "data set", name).module
