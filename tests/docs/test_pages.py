"""The pages against the code: links, commands with their options, targets, files and settings."""

import os
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from pages import PAGES, ROOT, anchors, blocks, commands, links, prose, quoted

from clip2scene import cli
from clip2scene.config import Config, load_config
from clip2scene.datasets.registry import dataset_names
from clip2scene.registry import registered
from clip2scene.reporting.base import get_table
from clip2scene.reporting.registry import all_names
from clip2scene.stages.base import get_stage, protocols
from clip2scene.workflow import Workflow

COMMANDS = [(page, command) for page in PAGES for command in commands(page)]
OUTSIDE = {"uv", "conda", "docker", "apptainer", "source"}
"""Programs whose command lines are not parsed; the files that they name are checked."""
MADE = ("results/", "data/", ".venv/")
"""Folders that files are made in or downloaded to."""


def name(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in links(page):
        if "://" in link:
            assert re.match(r"https?://[\w.-]+\.[a-z]+(/|$)", link), link
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_contents():
    index = (ROOT / "docs/index.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.M), page.stem


def test_readme_is_for_the_first_hour():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any("not" in line and "run" in line for line in lines[:25]), (
        "its first screen says what was not run"
    )


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=name)
def test_command_exists_as_it_is_written(page, command, monkeypatch):
    words = shlex.split(command, comments=True)
    while re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    program, *arguments = words
    check = CHECKS.get(program)
    assert check or program in OUTSIDE, f"{program}: the test knows no such program"
    if check:
        check(arguments)
    for word in arguments:
        if re.fullmatch(r"(config|container|examples|profiles|tests|docs)/\S+|\w+\.(lock|yml|toml)", word):
            assert (ROOT / word).exists(), word


def clip2scene(arguments: list[str]) -> None:
    """Parse a command line as the program does, and look its names up in the study."""
    context = click.Context(cli.main, info_name="clip2scene")
    words = [word.strip("<>") for word in arguments]
    values, (name, *rest), _ = cli.main.make_parser(context).parse_args(words)
    command, config = cli.main.commands[name], values.get("path", "config/config.yaml")
    values = command.make_context(name, rest, parent=context).params
    study = read(config)
    known = {run.kind for run in study.runs.values()} | {*all_names()}
    if command.name in ("run", "why"):
        assert {*values["names"]} <= known | {*study.runs}
    if command.name in ("table", "verify"):
        assert {*(values.get("tables") or ()), *filter(None, [values.get("table")])} <= {*all_names()}
    named = {values.get("dataset"), *(values.get("datasets") or ())} - {None}
    assert named <= study.config.datasets.keys()


def snakemake(arguments: list[str]) -> None:
    """Parse a command line as Snakemake does; a target is a rule or a file of the study's tables."""
    from snakemake.cli import parse_args

    if "--workflow-profile" in arguments:  # its executor is a plugin, which need not be installed
        number = arguments.index("--workflow-profile")
        assert (ROOT / arguments[number + 1] / "config.yaml").is_file()
        del arguments[number : number + 2]
    _, args = parse_args(arguments)
    assert not args.configfile, "CLIP2SCENE_CONFIG names a configuration, with errors of our own"
    study = read(os.environ.get("CLIP2SCENE_CONFIG", "config/config.yaml"))
    files = {str(study.config.results / file) for table in study.tables for file in get_table(table).files}
    assert {*map(str, args.targets)} <= files | {*study.stages, "all"}


@cache
def read(config: str) -> Workflow:
    return Workflow(load_config(config))


def make(arguments: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {*arguments} <= {*targets}


def pip(arguments: list[str]) -> None:
    from pip._internal.commands import create_command

    options, packages = create_command(arguments[0]).parse_args(arguments[1:])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for file in options.requirements:
        assert (ROOT / file).is_file(), file
    for editable in options.editables:
        folder, _, asked = editable.partition("[")
        assert (ROOT / folder / "pyproject.toml").is_file(), editable
        assert {*filter(None, asked.removesuffix("]").split(","))} <= extras.keys(), editable
    assert packages or options.requirements or options.editables


def pytest_(arguments: list[str]) -> None:
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    for before, word in zip(["", *arguments], arguments, strict=False):
        if before == "-m":
            assert word.removeprefix("not ") in {marker.partition(":")[0] for marker in markers}
        elif word.startswith("tests/"):
            assert (ROOT / word).exists()


def python(arguments: list[str]) -> None:
    assert arguments[0] == "-m"
    assert [*ROOT.glob(f"examples/*/{arguments[1]}.py")]


def mlflow(arguments: list[str]) -> None:
    from mlflow.cli import cli as program

    command = program.get_command(click.Context(program), arguments[0])
    command.make_context(arguments[0], arguments[1:])


CHECKS = {
    "clip2scene": clip2scene, "snakemake": snakemake, "make": make, "pip": pip, "pytest": pytest_,
    "python": python, "mlflow": mlflow,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _examples(tmp_path_factory):
    """Register the packages of the examples, as an installation does."""
    folder = tmp_path_factory.mktemp("site-packages")
    for example in ROOT.glob("examples/*/pyproject.toml"):
        project = tomllib.loads(example.read_text())["project"]
        info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
        lines = [
            line
            for group, entries in project["entry-points"].items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    caches = (registered, get_stage, protocols)
    with pytest.MonkeyPatch.context() as patch:
        for path in (folder, *ROOT.glob("examples/*/")):
            patch.syspath_prepend(path)
        for cached in caches:
            cached.cache_clear()
        yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CLIP2SCENE_CONFIG", raising=False)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_files_named_in_the_text_exist(page):
    """In code font: a command of ours, a target of the Makefile, a path of the repository, a module."""
    for text in quoted(page):
        words = text.split()
        if page.name == "CHANGELOG.md":  # it names what is gone, too
            continue
        if words[0] == "clip2scene" and len(words) > 1 and words[1][0].islower():
            assert words[1] in cli.main.commands, text
        if words[0] == "make" and len(words) == 2:
            make(words[1:])
        if re.fullmatch(
            r"(\.ci|\.github|baselines|clip2scene|config|container|docs|examples|profiles|rules|tests)/\S*",
            text,
        ):
            assert text.startswith("docs/_build") or [*ROOT.glob(text.rstrip("/"))], text
        if re.fullmatch(r"clip2scene(\.[a-z_]+)+(\.[A-Z]\w+)?", text) and not text.startswith(
            "clip2scene.methods"
        ):
            module = re.sub(r"\.[A-Z]\w+$", "", text).replace(".", "/")
            groups = re.findall(r'"(clip2scene\.\w+)"', (ROOT / "pyproject.toml").read_text())
            assert text in groups or (ROOT / f"{module}.py").exists() or (ROOT / module).is_dir(), text


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_snippets_of_settings_are_keys_of_the_configuration(page):
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block).keys() <= Config.model_fields.keys()
    for block in blocks(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_formats_that_a_page_names_are_registered(page):
    for text in re.findall(r"`format: (\w+)`", prose(page)):
        assert text in dataset_names()
