"""The pages as they are built, the files that GitHub and containers read, and the generated page."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest
import yaml
from pages import ROOT

from clip2scene.reporting.base import get_table
from clip2scene.reporting.registry import all_names


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    for name in ("sphinx", "myst_parser", "furo", "sphinx_click"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: an extra, pip install -e .[docs]")
    out = tmp_path_factory.mktemp("html")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        ROOT / "docs",
        out,
    ]
    done = subprocess.run(build, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return out


def test_pages_build_without_a_warning_and_load_nothing_from_a_network(built):
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)|<link[^>]* href=\"([^\"]+)|url\(([^)]+)\)"
    )
    pages = [*built.glob("*.html"), *built.rglob("*.css")]
    assert len(pages) > 15
    for page in pages:
        for match in loaded.findall(page.read_text()):
            address = "".join(match).strip("\"'")
            assert not re.match(r"(https?:)?//", address), (page.name, address)


def test_built_pages_have_the_examples_and_every_command(built):
    assert "class PixelColour" in re.sub(r"<[^>]+>", "", (built / "add_a_method.html").read_text())
    page = (built / "command_line.html").read_text()
    from clip2scene import cli

    for name, command in cli.main.commands.items():
        assert command.hidden or f'id="clip2scene-{name}"' in page, name


def test_page_of_columns_is_what_the_code_says():
    code = runpy.run_path(str(ROOT / "docs/columns.py"))
    assert code["page"]() == (ROOT / "docs/columns.md").read_text(), "run: python docs/columns.py"


def test_every_table_is_explained():
    columns, tables = (
        runpy.run_path(str(ROOT / "docs/columns.py"))["COLUMNS"],
        (ROOT / "docs/tables.md").read_text(),
    )
    for name in all_names():
        for file in get_table(name).files:
            if file.endswith(".csv"):
                assert f"`results/{file}`" in tables
                assert file in columns or file in ("table_per_class.csv", "table_cross_domain.csv")


def test_diagram_of_the_architecture_has_every_module():
    page = (ROOT / "docs/how_it_works.md").read_text()
    named = set(
        re.findall(r"[\w]+(?:\.py|/)", page.partition("## Architecture")[2].partition("## Dependencies")[0])
    )
    modules = {path.name for path in ROOT.glob("clip2scene/[a-z]*.py")}
    folders = {f"{path.parent.name}/" for path in ROOT.glob("clip2scene/*/__init__.py")}
    left_out = {
        "errors.py",
        "layout.py",
        "machine.py",
        "registry.py",
        "seeding.py",
        "precision.py",
    }  # small helpers
    assert not (modules | folders) - named - left_out


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/how_it_works.md").read_text().partition("## Dependencies")[2].replace("-", "_")
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    for requirement in [*project["dependencies"], *extras]:
        name = re.match(r"[\w-]+", requirement).group().replace("-", "_")
        assert re.search(rf"^\|[^|]*\b{name}\b[^|]*\|", page, re.M), requirement


def test_containers_install_as_the_makefile_does_and_copy_what_exists():
    makefile = (ROOT / "Makefile").read_text()
    locked, own = "--require-hashes -r", "--no-deps --no-build-isolation"
    assert locked in makefile
    assert own in makefile
    docker, apptainer = ((ROOT / "container" / name).read_text() for name in ("Dockerfile", "clip2scene.def"))
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", docker, re.M) for word in line.split()}
    (files,) = re.findall(r"^%files\n(.*?)\n\n", apptainer, re.M | re.S)
    assert copied == {line.split()[0] for line in files.splitlines()}
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"!{name}" in ignored for name in copied)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert {name.rstrip("*") for name in needed["include"]} <= copied
    for text in (docker, apptainer):
        assert locked in text
        assert own in text
        assert "python:3.11" in text
    packages = re.compile(r"--no-install-recommends ([^\\\n]+)")
    assert packages.findall(docker)[0].split() == packages.findall(apptainer)[0].split()


def test_ci_runs_what_developers_run():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    first, server = (step["run"] for step in job["steps"] if "run" in step)
    assert first == ".ci/run"
    (tests,) = re.findall(r"pytest (\S+)", server)  # what .ci/run skips: the lock file has no driver
    assert "postgresql" in (ROOT / tests).read_text()
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert requires == ">=3.11,<3.13"
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]


def test_citation_and_licence_agree_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    (paper,) = citation["references"]
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:2301.04926"}]
    assert [author["family-names"] for author in paper["authors"]][:2] == ["Chen", "Liu"]
