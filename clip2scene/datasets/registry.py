"""Registry of data sets, filled from the entry point group ``clip2scene.datasets``."""

from clip2scene.config import Config
from clip2scene.datasets.frame import Dataset
from clip2scene.datasets.vocabulary import PROMPT_SETS
from clip2scene.registry import entry, registered
from clip2scene.runs import Run

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


def prompts_of(config: Config, run: Run) -> tuple[str, ...]:
    """Return the class prompts that a run of the stage ``text`` embeds: a set's, or its data set's own."""
    return (
        PROMPT_SETS[run.prompts] if run.prompts else get_dataset(config.datasets[run.target].format).prompts
    )
