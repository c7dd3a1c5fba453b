"""A checkout of its own for each test: sources that may be edited, data, and finished results."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SOURCES = ("clip2scene", "baselines", "rules", "profiles", "Snakefile", "environment.yml")


@dataclass(frozen=True)
class Site:
    """A checkout and what was computed in it.

    Attributes:
        folder: The checkout; commands run in it and import the package from it.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.folder / "config/config.yaml"

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.folder / "results"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which commands run."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        env["PYTHONPATH"] = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        env.pop("CLIP2SCENE_CONFIG", None)
        return env

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the checkout."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command to its end and return what it printed."""
        process = self.start(*command)
        output, _ = process.communicate()
        assert (process.returncode != 0) == fails, output
        return output

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """Run Snakemake as a user does."""
        return self.run("snakemake", "--cores", "all", *arguments, fails=fails)

    def clip2scene(self, *arguments: str, fails: bool = False) -> str:
        """Run the command line as a user does."""
        return self.run("clip2scene", *arguments, fails=fails)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a piece of a file, which must hold it once."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new))

    def configure(self, **changes: object) -> None:
        """Change sections of the configuration, key by key."""
        values = yaml.safe_load(self.config.read_text())
        for name, change in changes.items():
            both = isinstance(change, dict) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **change} if both else change
        self.config.write_text(yaml.safe_dump(values, sort_keys=False))

    def add_rows(self, *rows: str, columns: str = "") -> None:
        """Add rows to the table of experiments, and columns to its header."""
        path = self.folder / "config/experiments.tsv"
        header, *old = path.read_text().splitlines()
        path.write_text("\n".join([f"{header}\t{columns}".strip(), *old, *rows]) + "\n")

    def runs(self) -> dict[str, dict]:
        """Return what ``run.json`` says of every run in the results folder, by key."""
        found = (json.loads(path.read_text()) for path in self.results.glob("runs/*/run.json"))
        return {values["key"]: values for values in found}

    def history(self) -> dict[tuple[str, str], dict]:
        """Return every run that was ever computed, superseded ones too, by key and start."""
        paths = [*self.results.glob("runs/*/run.json"), *self.results.glob("superseded/*/*/run.json")]
        found = (json.loads(path.read_text()) for path in paths)
        return {(values["key"], values["started"]): values for values in found}

    def made(self, kind: str, **fields: object) -> list[dict]:
        """Return the runs of a stage, and of these fields of their row."""
        return [
            values
            for values in self.runs().values()
            if values["kind"] == kind
            and all(values["fields"].get(name) == value for name, value in fields.items())
        ]


def since(before: dict[tuple[str, str], dict], site: Site) -> set[str]:
    """Return the runs computed since `before`, a history: stage, method and target in words."""
    names = ("protocol", "method", "target")
    return {
        " ".join(word for word in (run["kind"], *(run["fields"].get(name) for name in names)) if word)
        for identity, run in site.history().items()
        if identity not in before
    }


def checkout(folder: Path, config: Path, experiments: Path) -> Site:
    """Make a checkout of this project's sources with a configuration of its own."""
    ignored = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    shutil.copytree(ROOT / "results/published", folder / "results/published")
    (folder / "config").mkdir()
    shutil.copy2(config, folder / "config/config.yaml")
    shutil.copy2(experiments, folder / "config/experiments.tsv")
    shutil.copy2(ROOT / "config/claims.tsv", folder / "config/claims.tsv")
    return Site(folder)


def install(site: Site, name: str, modules: dict[str, str], entries: Iterable[tuple[str, str, str]]) -> None:
    """Put somebody else's package beside the checkout's sources.

    Args:
        site: The checkout.
        name: Name of the distribution.
        modules: Source by path.
        entries: Group, name and object of each entry point.
    """
    for path, source in modules.items():
        (site.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / path).write_text(source)
    info = site.folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [line for group, entry, value in entries for line in (f"[{group}]", f"{entry} = {value}")]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
