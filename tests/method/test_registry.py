import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from clip2scene.errors import InputError
from clip2scene.method.base import Method
from clip2scene.method.registry import get_method
from clip2scene.method.spec import GROUP
from clip2scene.registry import registered

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Install the methods of another package."""
    (tmp_path / "elsewhere.py").write_text(
        "from clip2scene.method.spec import MethodSpec\n"
        "SPEC = MethodSpec('elsewhere:Elsewhere')\n"
        "NOTHING = MethodSpec(None)\n"
        "class Elsewhere: pass\n"
    )
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nelsewhere = elsewhere:SPEC\nnothing = elsewhere:NOTHING\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registered.cache_clear()
    yield
    registered.cache_clear()


@pytest.mark.parametrize("name", PYPROJECT["project"]["entry-points"][GROUP])
def test_our_entry_points_lead_to_methods(name):
    spec = resolve_name(PYPROJECT["project"]["entry-points"][GROUP][name])
    assert spec.implementation is None or issubclass(resolve_name(spec.implementation), Method)


def test_a_method_of_another_package_is_found(elsewhere):
    assert get_method("elsewhere").__name__ == "Elsewhere"


def test_unknown_method_is_answered_with_the_nearest(elsewhere):
    with pytest.raises(InputError, match=r"'elsewere'.*did you mean 'elsewhere'"):
        get_method("elsewere")


def test_a_method_without_pretraining_has_no_class(elsewhere):
    with pytest.raises(InputError, match="nothing to pre-train"):
        get_method("nothing")
