"""Which code made a result: the source a stage uses, the commit, the installed versions. Imports no torch."""

import ast
import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Their values, not their source, decide what a run computes; values are part of the run key.
_SETTINGS = {
    f"clip2scene.{name}" for name in ("config", "config_data", "experiments", "layout", "provenance")
}


@cache
def code_hash(*modules: str) -> str:
    """12 hexadecimal digits over the source of `modules` and all they import from this project, transitively.

    Snakemake does not see a change in an imported module; a rule with this hash in its ``params`` runs
    again when what it uses was edited, and only then.
    """
    sources: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in sources or name in _SETTINGS or (path := _source(name)) is None:
            continue
        sources[name] = path.read_bytes()
        roots = {"clip2scene", *(module.partition(".")[0] for module in modules)}
        waiting += [used for used in _imports(sources[name]) if used.partition(".")[0] in roots]
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + sources[name] + b"\0")
    return digest.hexdigest()[:12]


def _source(module: str) -> Path | None:
    """The file of a module, which is not imported; None for a name inside one (as of a function)."""
    top, *rest = module.split(".")
    if (spec := find_spec(top)) is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    stems = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    files = (file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py"))
    return next((file for file in files if file.is_file()), None)


def _imports(source: bytes) -> Iterator[str]:
    """Every absolute name that a module imports, at its top or within its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def commit() -> dict[str, Any]:
    """The git commit of the source and whether the tracked files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout

    try:
        return {
            "commit": git("rev-parse", "HEAD").strip(),
            "dirty": bool(git("status", "--porcelain", "-uno")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}


@cache
def versions() -> dict[str, str]:
    """Installed distributions and Python, by name (with underscores for hyphens).

    Read off the names of their ``.dist-info`` folders: importlib.metadata parses every file within, a second.
    """
    folders = (folder for entry in sys.path for folder in Path(entry).glob("*.dist-info"))
    installed = sorted(folder.stem.lower().split("-", 1) for folder in folders)
    return {"python": platform.python_version(), **dict(installed)}
