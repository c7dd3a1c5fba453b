"""The tutorials' commands, run word for word: a third party's package, from installation to its table."""

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pandas as pd
import pytest
from checkouts import ROOT, checkout
from pages import commands

pytestmark = pytest.mark.workflow

EXAMPLES = ROOT / "examples"
PROGRAMS = {"pip": "pip._internal.cli.main", "snakemake": "snakemake.cli"}


class Shell:
    """A checkout with the examples, and an environment into which its packages are installed.

    The environment sees the packages of the one that runs the tests; nothing comes from a network.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, environment = folder / "checkout", folder / "environment"
        config = ROOT / "tests/workflow"
        checkout(self.folder, config / "smallest.yaml", config / "smallest.tsv")
        shutil.copytree(
            EXAMPLES, self.folder / "examples", ignore=shutil.ignore_patterns("*.egg-info", "build")
        )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy2(ROOT / name, self.folder / name)
        venv.create(environment, symlinks=True)
        (packages,) = environment.glob("lib/python3.*/site-packages")
        (packages / "outer.pth").write_text(
            f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        )
        for name, module in PROGRAMS.items():
            script = environment / "bin" / name
            script.write_text(
                f"#!{environment}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
            )
            script.chmod(0o755)
        inherited = {name: value for name, value in os.environ.items() if name != "CLIP2SCENE_CONFIG"}
        self.env = inherited | {
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_IGNORE_INSTALLED": "1",  # the outer environment's copy stays
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self("pip install --quiet --no-build-isolation -e .")

    def __call__(self, command: str) -> str:
        """Run a command to its end and return what it printed."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(
            command, check=False, shell=True, cwd=self.folder, env=self.env, text=True, **pipes
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def follow(self, page: str) -> dict[str, str]:
        """Run the commands of a page but the tests that it names; return what each printed."""
        return {
            command: self(command)
            for command in commands(ROOT / "docs" / page)
            if not command.startswith("pytest")
        }


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    return Shell(tmp_path_factory.mktemp("third-party"))


@pytest.fixture(scope="module")
def method(shell) -> dict[str, str]:
    """Output of the commands of the tutorial on methods."""
    return shell.follow("add_a_method.md")


def test_a_method_of_one_file_goes_to_its_table(shell, method):
    table = pd.read_csv(shell.folder / "results/examples/method/table_main.csv")
    assert table["method"].tolist() == ["random", "ppkt", "pixel_colour"]
    assert table["miou_mean"].between(1, 100).all()
    config = "clip2scene --config examples/method/config.yaml"
    assert "main: verified" in method[f"{config} verify main"]
    assert method[f"{config} why main"].strip() == "nothing"
    assert not [line for line in method[f"{config} runs"].splitlines() if "teacher" in line]


def test_a_method_s_own_setting_is_part_of_its_identity_alone(shell, method):
    path = shell.folder / "examples/method/config.yaml"
    text = path.read_text()
    path.write_text(text.replace("hidden: 32", "hidden: 48"))
    explained = shell("clip2scene --config examples/method/config.yaml why main")
    path.write_text(text.replace("hidden: 32", "hiden: 32"))
    refused = shell("clip2scene --config examples/method/config.yaml runs 2>&1 || true")
    path.write_text(text)
    assert "pixel_colour" in explained
    assert "pretrain ppkt" not in explained
    assert "hiden" in refused
    assert "hidden" in refused


def test_a_data_set_of_one_file_goes_to_its_table(shell):
    printed = shell.follow("add_a_data_set.md")
    table = pd.read_csv(shell.folder / "results/examples/dataset/table_main.csv")
    assert table["dataset"].tolist() == ["yard", "yard"]
    assert table["classes_present"].tolist() == [3, 3]
    assert table["miou_mean"].max() > 60  # ground, a wall and trees are easily told apart
    config = "clip2scene --config examples/dataset/config.yaml"
    assert "2 of 2 rows" in printed[f"{config} check-data"]
    assert "main: verified" in printed[f"{config} verify main"]


def test_a_damaged_scan_of_it_is_named(shell):
    shell("pip install --quiet --no-build-isolation -e examples/dataset")
    shell("python -m yard data/examples/yard")
    scan = shell.folder / "data/examples/yard/val/yard-4/000002.npz"
    whole = scan.read_bytes()
    scan.write_bytes(whole[: len(whole) // 2])
    report = shell("clip2scene --config examples/dataset/config.yaml check-data --thorough 2>&1 || true")
    scan.write_bytes(whole)
    assert "yard-4/000002.npz" in report


def test_a_protocol_and_a_table_of_one_file_go_to_the_table(shell):
    printed = shell.follow("add_a_table.md")
    table = pd.read_csv(shell.folder / "results/examples/table/table_floors.csv")
    assert table["target"].tolist() == ["nuscenes"]
    assert table["miou"].between(0.01, 0.3).all()
    assert "floors: verified" in printed["clip2scene --config examples/table/config.yaml verify floors"]
