"""Entry points: objects that this and other packages register under a name."""

from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points

from clip2scene.errors import unknown


@cache
def registered(group: str) -> EntryPoints:
    """Return the entries of a group without importing any.

    Found once a process: to look for them opens a file of every installed package.
    """
    return entry_points(group=group)


def entry(group: str, kind: str, name: str) -> EntryPoint:
    """Return the entry `name` of a group.

    Raises:
        InputError: nothing is registered by this name; the nearest is offered. `kind` is what it would be.
    """
    entries = registered(group)
    if name not in entries.names:
        raise unknown(f"{kind}, entry point group {group}", name, sorted(entries.names))
    return entries[name]
