"""Consistency of the lock file, the conda environment and pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def requirement_name(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement).group().lower().replace("_", "-")


def locked_versions() -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.M))


def direct_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        requirement_name(item) for item in project["dependencies"] + project["optional-dependencies"]["test"]
    }


def test_lock_pins_every_dependency():
    assert direct_dependencies() <= locked_versions().keys()


def test_lock_has_hashes_and_no_addresses():
    text = (ROOT / "requirements.lock").read_text()
    pinned = re.split(r"^(?=[\w.-]+==)", text, flags=re.M)[1:]
    assert len(pinned) > 50
    assert all("--hash=sha256:" in entry for entry in pinned)
    assert "://" not in text


def test_conda_environment_has_the_locked_versions():
    (pip,) = [
        item["pip"] for item in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][2:]
    ]
    versions = dict(item.split("==") for item in pip if "==" in item)
    assert versions == {name: locked_versions()[name] for name in direct_dependencies()}
