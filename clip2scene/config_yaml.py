"""YAML as a configuration needs it: every key once, nothing but plain values, and errors in one line.

PyYAML reads YAML 1.1. Where that surprises, this reads what is written: `no` is a word rather than false, a
date is a text, and ``010``, which is eight there, is refused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from clip2scene.errors import InputError
from clip2scene.files import first_line, read_text

MOST_NODES = 100_000
"""Most keys and values of a file after its aliases are expanded; the largest of ours has 200."""
_TRUTH = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
_AMBIGUOUS = re.compile(r"^[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)$")
"""A whole number with a leading zero, in base 8; or a number with colons, in base 60."""


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its words for true and false other than these two, and without dates."""


_Loader.yaml_implicit_resolvers = {
    first: [
        item for item in resolvers if item[0] not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _TRUTH, list("tTfF"))


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: the file cannot be read, is not YAML, holds something else than a mapping, gives a key
            twice, or grows without bounds as its aliases are expanded. The message names file, line and key.
    """
    text = read_text(path, "a YAML file in UTF-8")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _Check(str(path)).size(root)
            _Check(str(path)).keys(root, "")
        values = None if root is None else loader.construct_document(root)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise InputError(
            f"{path}: line {line}: not valid YAML: found the character U+{code:04X}; expected text"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f": line {mark.line + 1}" if mark else ""
        problem = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise InputError(f"{path}{place}: not valid YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # such as 2001-99-99 with a tag
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not valid YAML: {first_line(error)}") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply; expected a mapping of configuration keys") from None
    if values is None:
        raise InputError(f"{path}: is empty; expected a mapping of configuration keys")
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of configuration keys, found {type(values).__name__}")
    return values


class _Check:
    """Checks of YAML nodes, before they become values."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sizes: dict[int, int] = {}
        self._seen: set[int] = set()

    def size(self, node: yaml.Node) -> int:
        """Return the number of nodes that `node` expands to, without expanding it."""
        if id(node) not in self._sizes:
            self._sizes[id(node)] = (
                MOST_NODES + 1
            )  # as long as it is not known: an alias of itself has no end
            self._sizes[id(node)] = 1 + sum(map(self.size, _children(node)))
        if self._sizes[id(node)] > MOST_NODES:
            raise self._error(node, "", f"aliases expand to more than {MOST_NODES:,} values; expected fewer")
        return self._sizes[id(node)]

    def keys(self, node: yaml.Node, place: str) -> None:
        """Refuse keys that are given twice and numbers that are not what they look like; keys become text."""
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBERS and _AMBIGUOUS.match(node.value):
                words = "YAML reads this as base 60" if ":" in node.value else "YAML reads this as octal"
                expected = "a decimal number without leading zeros, or quotes around a text"
                raise self._error(node, place, f"found {node.value}: {words}; expected {expected}")
            return
        lines: dict[str, int] = {}
        for number, child in enumerate(node.value):
            if not isinstance(node, yaml.MappingNode):
                self.keys(child, f"{place}.{number}" if place else str(number))
                continue
            key, value = child
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, place, "found a list or mapping as a key; expected a name")
            if key.tag == "tag:yaml.org,2002:merge":
                self.keys(value, place)
                continue
            inner = f"{place}.{key.value}" if place else key.value
            if key.value in lines:
                first = f"first on line {lines[key.value]}"
                raise self._error(key, inner, f"is given twice, {first}; expected each key once")
            lines[key.value] = key.start_mark.line + 1
            key.tag = "tag:yaml.org,2002:str"
            self.keys(value, inner)

    def _error(self, node: yaml.Node, place: str, message: str) -> InputError:
        key = f" {place}:" if place else ""
        return InputError(f"{self._path}: line {node.start_mark.line + 1}:{key} {message}")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
