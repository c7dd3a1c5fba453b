"""The command line as people and scripts use it: examples, filters, completion, JSON."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from clip2scene.cli import main
from clip2scene.cli.completion import VARIABLE
from clip2scene.config import load_config
from clip2scene.runs import Run
from clip2scene.study import Study

ROOT = Path(__file__).parents[1]
CONFIG = """\
experiments: {folder}/rows.tsv
results: {folder}/results
image_encoder: {{ datasets: [streets] }}
datasets:
  streets:
    root: {folder}/data
    pretrain_split: train
    synthetic: {{ train_scenes: 2, val_scenes: 1, keyframes: 2, azimuth_steps: 60 }}
"""
ROWS = """\
protocol\tmethod\tbackbone\tpretrain\ttarget\tpercent\trule\tpretrain_seeds\tseeds
finetune\trandom\tspvcnn\t\tstreets\t100\t\t\t0 1
finetune\tppkt\tspvcnn\tstreets\tstreets\t50\tframe_skip\t0 1\t0
"""
COMMANDS = [(name, command) for name, command in main.commands.items() if not command.hidden]


@pytest.fixture
def config(tmp_path):
    (tmp_path / "rows.tsv").write_text(ROWS)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def said(config, *words):
    result = CliRunner().invoke(main, ["--config", str(config), *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def lines_of(command):
    text = (command.epilog or "").partition("Examples:\n")[2].replace("\\\n", "")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("clip2scene")]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_help_has_examples_that_the_command_takes(name, command):
    lines = lines_of(command)
    assert lines, name
    for line in lines:
        context = click.Context(main, info_name="clip2scene")
        words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
        _, (found, *rest), _ = main.make_parser(context).parse_args(words)
        assert found == name
        command.make_context(name, rest, parent=context)
    assert "Examples:\n  " in CliRunner().invoke(main, [name, "--help"]).output


def test_the_help_lists_every_command_once_and_cuts_no_sentence():
    lines = CliRunner().invoke(main, ["--help"]).output.partition("--help ")[2].splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].islower()]
    assert sorted(listed) == sorted(name for name, _ in COMMANDS)
    assert not [line for line in lines if line.endswith("...")]


FILTERS = [
    ("method=ppkt", lambda run: run.method == "ppkt"),
    ("method=ppkt,random stage=finetune", lambda run: run.kind == "finetune"),
    ("stage=finetune percent=50", lambda run: run.kind == "finetune" and run.percent == 50),
    ("stage=finetune pretrain_seed=", lambda run: run.kind == "finetune" and run.method == "random"),
    ("stage=finetune seed=1", lambda run: run.kind == "finetune" and run.seed == 1),
    ("status=finished", lambda run: False),
]


@pytest.mark.parametrize(("words", "wanted"), FILTERS, ids=[words for words, _ in FILTERS])
def test_a_filter_lists_the_runs_whose_fields_have_the_values(config, words, wanted):
    study = Study(load_config(config))
    keys = [key for key, run in study.runs.items() if wanted(run)]
    assert [line.split()[0] for line in said(config, "runs", "--filter", words).splitlines()] == keys
    assert [item["key"] for item in json.loads(said(config, "runs", "--json", "--filter", words))] == keys


def test_a_wrong_filter_is_named_in_one_line(config):
    for words, message in (
        ("metod=ppkt", "--filter: 'metod' is not known, did you mean 'method'?"),
        ("ppkt", "--filter: found 'ppkt'; expected FIELD=VALUE, e.g. method=ppkt"),
    ):
        result = CliRunner().invoke(main, ["--config", str(config), "runs", "--filter", words])
        assert (result.exit_code, result.output) == (2, f"error: {message}\n")


def test_a_run_is_known_by_its_key_and_by_its_long_name(config):
    """By the name that its files and MLflow have; a name of another study's run is none."""
    study = Study(load_config(config))
    for run in study.runs.values():
        assert said(config, "why", run.name) == said(config, "why", run.key)
    other = Run("finetune", key="0123456789ab", method="random").name
    result = CliRunner().invoke(main, ["--config", str(config), "why", other])
    assert result.exit_code == 2
    assert f"{other!r} is not known" in result.output


def test_why_is_the_same_for_a_script(config):
    assert json.loads(said(config, "why", "--json")) == said(config, "why").splitlines()


def completed(config, *words):
    *before, typed = words
    found = ShellComplete(main, {}, "clip2scene", VARIABLE).get_completions(
        ["--config", str(config), *before], typed
    )
    return {item.value for item in found}


def test_names_of_the_study_are_completed(config):
    study = Study(load_config(config))
    key, run = next(iter(study.runs.items()))
    assert completed(config, "explain", key[:6]) == {key}
    assert completed(config, "run", run.name[:-2]) == {run.name}
    assert completed(config, "run", "fine") >= {"finetune"}
    assert completed(config, "table", "ma") == {"main"}
    assert completed(config, "index", "") == {"streets"}
    assert completed(config, "runs", "--stage", "linear") == {"linear_probe"}
    assert completed(config, "comp") == {"completion"}
    assert completed(config, "predict", "x.bin", "--run", key[:6]) == {key}


def test_a_configuration_that_cannot_be_read_completes_nothing(tmp_path):
    assert completed(tmp_path / "absent.yaml", "explain", "") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_asks_the_command(shell):
    script = CliRunner().invoke(main, ["completion", shell]).stdout
    assert f"{VARIABLE}={shell}_complete" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_as_a_user_presses_tab(config):
    """The script is loaded and its function run, as bash does for TAB."""
    line = f"clip2scene --config {config} table ma"
    words = [*line.split()]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = (
        'eval "$(clip2scene completion bash)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
        "_clip2scene_completion clip2scene\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=env, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("main", "")


def test_a_progress_bar_in_a_log_file_writes_every_ten_seconds(config, monkeypatch):
    """The command sets tqdm's own variable, which a user's setting goes before."""
    code = "from tqdm import tqdm; print(tqdm(total=1).mininterval)"
    for value, interval in (("", 10.0), ("3", 3.0)):
        monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
        if value:
            monkeypatch.setenv("TQDM_MININTERVAL", value)
        said(config, "runs")  # its standard error is no terminal here
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert float(done.stdout) == interval
