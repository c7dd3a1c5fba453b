"""The code that made a result, the commit, and the installed versions. Imports no torch."""

import ast
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

VALUES = frozenset({
    "clip2scene.config", "clip2scene.config_data", "clip2scene.config_training", "clip2scene.config_types",
    "clip2scene.config_yaml", "clip2scene.text_tables", "clip2scene.experiments",
    "clip2scene.experiment_table", "clip2scene.datasets.vocabulary", "clip2scene.method.recipe",
    "clip2scene.method.specs", "baselines.specs",
})  # fmt: skip
"""Modules that hold values: settings, prompts and recipes are part of a run's identity as the values they
have, so their source is not."""
BOOKKEEPING = frozenset({
    "clip2scene.files", "clip2scene.errors", "clip2scene.machine", "clip2scene.provenance",
    "clip2scene.record", "clip2scene.registry", "clip2scene.run_files", "clip2scene.runs", "clip2scene.task",
    "clip2scene.training.collapse", "clip2scene.training.meter", "clip2scene.training.signals",
    "clip2scene.training.state", "clip2scene.training.validation",
})  # fmt: skip
"""Modules that a stage imports but that decide no number: they write records, report, and look up names."""


def digest(*values: Any) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of JSON values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def code_of(*modules: str) -> Mapping[str, str]:
    """Hash what Python executes of `modules` and of all they import from the same project, transitively.

    Comments, docstrings and formatting do not count. A module in the project of any of `modules` counts, so
    a third party's package is followed as ours is; `VALUES` and `BOOKKEEPING` are left out.

    Returns:
        12 hexadecimal digits by module.
    """
    roots = {"clip2scene", *(module.partition(".")[0] for module in modules)}
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name in VALUES | BOOKKEEPING or (path := _source(name)) is None:
            continue
        if name.rpartition(".")[0]:
            waiting.append(name.rpartition(".")[0])  # importing a.b executes a as well
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name], imports = _read(path, package)
        waiting += [used for used in imports if used.partition(".")[0] in roots]
    return MappingProxyType(dict(sorted(found.items())))


def code_hash(*modules: str) -> str:
    """Return 12 hexadecimal digits of `code_of`.

    Snakemake does not see a change in an imported module. A rule with this hash in its ``params`` runs again
    when code that it uses has changed, and only then.
    """
    return digest(dict(code_of(*modules)))


@cache
def _source(module: str) -> Path | None:
    """Return the file of a module without importing it; None for a name inside one, such as a function."""
    top, *rest = module.split(".")
    if (spec := find_spec(top)) is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    stems = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    files = (file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py"))
    return next((file for file in files if file.is_file()), None)


@cache
def _read(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """Return a hash of what Python executes of a module, and the names that it imports.

    As in `code_of`, a process reads each file once: what it has imported does not change either.
    """
    tree = _Executed().visit(ast.parse(path.read_bytes(), str(path)))
    return digest(_executed(tree)), tuple(dict.fromkeys(_imports(tree, package)))


class _Executed(ast.NodeTransformer):
    """Takes out ``if TYPE_CHECKING:``, whose body Python does not execute."""

    def visit_If(self, node: ast.If) -> Any:
        test = node.test
        name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")
        return node.orelse if name == "TYPE_CHECKING" else self.generic_visit(node)


def _executed(node: Any) -> Any:
    """Return a syntax tree as JSON values, without docstrings and other bare strings.

    Fields that are empty are left out, as Python versions differ in which of these a node has.
    """
    if isinstance(node, list):
        return [_executed(item) for item in node if not _is_bare_string(item)]
    if not isinstance(node, ast.AST):
        plain = node is None or isinstance(node, str | int | bool)
        return node if plain else [type(node).__name__, repr(node)]  # 0.07 is not "0.07"
    fields = {name: _executed(value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind")}
    return [type(node).__name__, {name: value for name, value in fields.items() if value not in (None, [])}]


def _is_bare_string(node: Any) -> bool:
    """Say whether a statement is a string alone, which Python evaluates and forgets."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield every absolute name that a module imports, at its top or within its functions.

    Args:
        tree: The module.
        package: Its package, from which relative imports start.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def commit() -> dict[str, Any]:
    """Return the git commit of the source and whether tracked files differ from it; empty outside git."""

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
    """Return the versions of Python and of installed distributions, by name with underscores for hyphens.

    They are read off the names of the ``.dist-info`` folders: importlib.metadata parses every file within,
    which takes a second.
    """
    folders = (folder for entry in sys.path for folder in Path(entry).glob("*.dist-info"))
    installed = sorted(folder.stem.lower().split("-", 1) for folder in folders)
    return {"python": platform.python_version(), **dict(installed)}
