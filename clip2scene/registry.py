"""What packages register under a group of entry points: ours, and those of others."""

from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points

from clip2scene.errors import unknown


@cache
def registered(group: str) -> EntryPoints:
    """The entries of a group, none of which is imported.

    Found once a process: to look for them opens a file of every installed package.
    """
    return entry_points(group=group)


def entry(group: str, kind: str, name: str) -> EntryPoint:
    """The entry `name` of a group.

    Raises:
        InputError: nothing is registered by this name; the nearest is offered. `kind` is what it would be.
    """
    entries = registered(group)
    if name not in entries.names:
        raise unknown(f"{kind}, entry point group {group}", name, sorted(entries.names))
    return entries[name]
