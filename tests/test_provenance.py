"""A stage's code hash changes with the source it uses, and only then."""

import sys

import pytest

from clip2scene.provenance import code_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "experiment_code"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "stage.py").write_text("from experiment_code import loss\n")
    (folder / "loss.py").write_text(
        "def loss():\n    from experiment_code.deep import value\n    return value\n"
    )
    (folder / "deep.py").write_text("value = 1\n")
    (folder / "unused.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("experiment_code")]:
        del sys.modules[name]


def stage_hash() -> str:
    code_hash.cache_clear()
    return code_hash("experiment_code.stage")


def test_used_module_counts_unused_does_not(package):
    before = stage_hash()
    (package / "unused.py").write_text("value = 2\n")
    assert stage_hash() == before
    (package / "deep.py").write_text("value = 2\n")  # imported by an import, inside a function
    assert stage_hash() != before


def test_stages_differ_in_what_they_use():
    table, training = code_hash("clip2scene.reporting.tables"), code_hash("clip2scene.training.finetune")
    assert table != training
