"""The hash of a stage's code changes with what Python executes of the modules that it uses, and only then."""

import sys
from pathlib import Path

import pytest

from clip2scene import provenance
from clip2scene.provenance import BOOKKEEPING, VALUES, code_hash, code_of

LOSS = '''\
"""Losses."""

# The temperature of the paper.
TEMPERATURE = 0.07


def loss(logits, weight=1.0):
    """Return the loss."""

    def scale(value):
        return value * 2

    return scale(logits / TEMPERATURE) * weight
'''
REFORMATTED = '''\
"""Other words
over two lines."""
TEMPERATURE=0.07  # a comment

"""A bare string, as documentation tools read it."""
def loss(logits,
         weight = 1.0):
    \'\'\'Return it.\'\'\'
    def scale(value):
        # doubled
        return (value
                *2)


    return scale(logits/TEMPERATURE)*weight
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A third party's package, of which `experiment_code.stage` is the module of a stage."""
    folder = write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    forget()


def write_package(parent: Path) -> Path:
    folder = parent / "experiment_code"
    (folder / "parts").mkdir(parents=True)
    modules = {
        "__init__": "",
        "stage": "from experiment_code import loss\n",
        "loss": "def loss():\n    from experiment_code.deep import value\n    return value\n",
        "deep": "value = 1\n",
        "unused": "value = 1\n",
        "parts/__init__": "",
        "parts/relative": "from . import sibling\nfrom ..deep import value\nfrom .. import cousin\n",
        "parts/sibling": "value = 1\n",
        "cousin": "value = 1\n",
    }
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def read_again() -> None:
    """Make this process read source files that it has read before."""
    code_of.cache_clear()
    provenance._read.cache_clear()


def forget() -> None:
    """Undo what this process remembers of the package's source."""
    read_again()
    provenance._source.cache_clear()
    for name in [name for name in sys.modules if name.startswith("experiment_code")]:
        del sys.modules[name]


def stage_hash(module: str = "stage") -> str:
    read_again()
    return code_hash(f"experiment_code.{module}")


def hashed(text: str, package: Path) -> str:
    """Return the hash of a module with this source."""
    (package / "loss.py").write_text(text)
    read_again()
    return code_of("experiment_code.loss")["experiment_code.loss"]


def test_used_module_counts_unused_does_not(package):
    before = stage_hash()
    (package / "unused.py").write_text("value = 2\n")
    assert stage_hash() == before
    (package / "deep.py").write_text("value = 2\n")  # imported by an import, inside a function
    assert stage_hash() != before


def test_comments_docstrings_and_formatting_do_not_count(package):
    assert hashed(REFORMATTED, package) == hashed(LOSS, package)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.07", "0.08"),
        ("0.07", "'0.07'"),
        ("weight=1.0", "weight=2.0"),
        ("weight=1.0", "weight=1"),
        ("value * 2", "value * 3"),
        ("value * 2", "value + 2"),
        ("def loss(logits, weight", "def loss(logits, *, weight"),
        ('"""Return the loss."""', 'note = """Return the loss."""'),
    ],
)
def test_what_python_executes_counts(package, old, new):
    """Change a constant, its type, a default, a nested function, a signature, and a string that is used."""
    assert old in LOSS
    assert hashed(LOSS.replace(old, new), package) != hashed(LOSS, package)


def test_what_type_checkers_alone_import_does_not_count(package):
    stage = package / "stage.py"
    before = stage_hash()
    stage.write_text(
        "from typing import TYPE_CHECKING\n"
        + stage.read_text()
        + "if TYPE_CHECKING:\n    import experiment_code.unused\n"
    )
    between = stage_hash()
    assert between != before  # the import of TYPE_CHECKING itself is executed
    (package / "unused.py").write_text("value = 2\n")
    assert stage_hash() == between


@pytest.mark.parametrize("module", ["parts/sibling", "deep", "cousin"])
def test_relative_imports_are_followed(package, module):
    """`from . import sibling`, `from ..deep import value` and `from .. import cousin`."""
    before = stage_hash("parts.relative")
    (package / f"{module}.py").write_text("value = 2\n")
    assert stage_hash("parts.relative") != before


@pytest.mark.parametrize("init", ["__init__", "parts/__init__"])
def test_the_init_of_a_package_counts(package, init):
    """Importing a.b.c executes a and a.b as well, and what these import."""
    before = stage_hash("parts.relative")
    (package / f"{init}.py").write_text("from experiment_code import unused\n")
    imported = stage_hash("parts.relative")
    assert imported != before
    (package / "unused.py").write_text("value = 2\n")
    assert stage_hash("parts.relative") != imported


def test_relative_imports_of_an_init_start_in_its_own_package(package):
    (package / "parts/__init__.py").write_text("from .sibling import value\n")
    assert "experiment_code.parts.sibling" in code_of("experiment_code.parts")


def test_values_and_bookkeeping_do_not_count(package):
    """Their values are settings, or decide no number; what third parties import of us counts otherwise."""
    imports = ("clip2scene.config", "clip2scene.files", "baselines.specs", "clip2scene.seeding")
    (package / "stage.py").write_text("".join(f"import {name}\n" for name in imports))
    found = code_of("experiment_code.stage")
    assert "clip2scene.seeding" in found
    assert not found.keys() & (VALUES | BOOKKEEPING)


@pytest.mark.parametrize("name", sorted(VALUES | BOOKKEEPING))
def test_modules_that_are_left_out_exist(name):
    """A renamed module would silently count again."""
    assert provenance._source(name)


def test_the_same_source_hashes_the_same_from_another_folder(package, tmp_path, monkeypatch):
    here = code_of("experiment_code.stage", "experiment_code.parts.relative")
    assert len(here) == 8
    forget()
    other = tmp_path / "other"
    write_package(other)
    package.rename(tmp_path / "gone")
    monkeypatch.syspath_prepend(other)
    assert code_of("experiment_code.stage", "experiment_code.parts.relative") == here


def test_stages_differ_in_what_they_use():
    table, training = code_hash("clip2scene.reporting.main"), code_hash("clip2scene.training.finetune")
    assert table != training


def test_libraries_are_known_by_version_instead():
    assert {name.partition(".")[0] for name in code_of("clip2scene.training.finetune")} == {"clip2scene"}
    assert provenance.versions()["torch"]
