"""Tables by name. Every job imports this module, so it imports neither torch nor a plotting library."""

from clip2scene.registry import entry, registered

GROUP = "clip2scene.tables"


def table_names() -> list[str]:
    """Return the names of all registered tables."""
    return sorted(registered(GROUP).names)


def table_module(name: str) -> str:
    """Return the module of the table registered as `name`, which is not imported.

    Raises:
        InputError: there is no such table; the nearest name is given.
    """
    return entry(GROUP, "table", name).module
