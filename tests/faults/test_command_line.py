"""Faults on the command line and in what Snakemake reads: each ends in one line and a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from clip2scene.cli import main

ROOT = Path(__file__).parents[2]
SMALL = """\
experiments: {folder}/f.tsv
results: {folder}/results
datasets:
  streets:
    root: {folder}/data
    synthetic: {{ train_scenes: 2, val_scenes: 1, keyframes: 2, azimuth_steps: 60 }}
"""
ROWS = "protocol\tmethod\tbackbone\ttarget\tpercent\tseeds\nfinetune\trandom\tspvcnn\tstreets\t100\t0\n"


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "f.tsv").write_text(ROWS)
    (tmp_path / "f.yaml").write_text(SMALL.format(folder=tmp_path))
    return tmp_path / "f.yaml"


def refused(config: Path, *words: str) -> str:
    result = CliRunner().invoke(main, ["--config", str(config), *words])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    return result.output.removeprefix("error: ").rstrip("\n")


COMMANDS = [
    ("runz", "command: 'runz' is not known, did you mean 'run'?"),
    ("check_data", "command: 'check_data' is not known, did you mean 'check-data'?"),
    ("runs --stge x", "No such option '--stge'. Did you mean '--stage'?; see `"),
    ("runs --stage finetun", "--stage: 'finetun' is not known, did you mean 'finetune'?"),
    ("run", "Missing argument 'NAMES...'; see `"),
    ("run finetun", "run, stage or table: 'finetun' is not known, did you mean 'finetune'?"),
    ("run finetune --part 1", "--part: found '1', expected K-of-N, K at most N, e.g. 1-of-100"),
    ("run finetune --part 3-of-2", "--part: found '3-of-2', expected K-of-N, K at most N"),
    ("run finetune --part 1-of-2", "is a run of the stage finetune, which has no parts"),
    ("why finetun", "run, stage or table: 'finetun' is not known, did you mean 'finetune'?"),
    ("index street", "f.yaml: datasets: 'street' is not known, did you mean 'streets'?"),
    ("check-data street", "f.yaml: datasets: 'street' is not known, did you mean 'streets'?"),
    ("synthesize street", "f.yaml: datasets: 'street' is not known, did you mean 'streets'?"),
    ("text-embeddings street", "f.yaml: datasets: 'street' is not known, did you mean 'streets'?"),
    ("table mian", "table: 'mian' is not known, did you mean 'main'?"),
    ("verify mian", "table: 'mian' is not known, did you mean 'main'?"),
    ("superpixels streets --method slid", "method that needs superpixels: 'slid' is not known, did you mean"),
    ("subset streets frame_skip", "Missing argument 'PERCENT'; see `"),
    ("subset streets frame_skip abc", "percent: found 'abc', expected a number from 0.001 to 100"),
    ("subset streets frame_skip nan", "percent: found nan, expected a number from 0.001 to 100"),
    ("subset streets frame_skip inf", "percent: found inf, expected a number from 0.001 to 100"),
    ("subset streets frame_skip 0", "percent: found 0, expected a number from 0.001 to 100"),
    ("subset streets frame_skip 1e-30", "percent: found 1e-30, expected a number from 0.001 to 100"),
    ("subset streets frame_skip 101", "percent: found 101, expected a number from 0.001 to 100"),
    ("subset streets frame_skip 75", "frame_skip cannot draw 75 % of the labels, as it takes every n-th"),
    ("subset streets frame_skip 66", "frame_skip cannot draw 66 % of the labels, as it takes every n-th"),
    ("subset streets scene_skp 50", "rule: 'scene_skp' is not known, did you mean 'scene_skip'?"),
    ("subset streets all 50", "percent: found 50, expected 100 with the rule all"),
    ("subset streets file:absent.txt 50", "absent.txt: no such file; expected a text file with a"),
    ("import-checkpoint a b --method slid --backbone spvcnn --dataset streets", "did you mean 'slidr'?"),
    ("import-checkpoint a b --method random --backbone spvcnn --dataset streets", "pre-trains nothing"),
    ("import-checkpoint a b --method slidr --backbone spvcn --dataset streets", "did you mean 'spvcnn'?"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_what_is_wrong_is_named_in_one_line(config, words, said):
    assert said in refused(config, *words.split())


@pytest.mark.parametrize("number", ["0", "-1", "100000", "1.5", "two"])
@pytest.mark.parametrize(
    "command",
    ["synthesize streets", "check-data --thorough", "superpixels streets", "run finetune"],
)
def test_a_wrong_number_of_processes_is_refused(config, command, number):
    assert refused(config, *command.split(), "--processes", number).startswith("--processes: ")


def test_a_configuration_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "absent.yaml"
    assert refused(path, "runs") == f"{path}: no such file; expected a YAML file in UTF-8"
    assert refused(tmp_path, "runs") == f"{tmp_path}: is a folder; expected a YAML file in UTF-8"


def test_a_configuration_without_a_name_is_refused():
    result = CliRunner().invoke(main, ["--config", "", "runs"])
    assert (result.exit_code, result.output) == (
        2, "error: --config: found an empty path; expected a YAML file\n"
    )  # fmt: skip


def test_help_and_what_is_right_still_work(config):
    for words in (["--help"], ["run", "--help"], ["--version"], ["--config", str(config), "runs"]):
        result = CliRunner().invoke(main, words)
        assert (result.exit_code, "error:" in result.output) == (0, False), result.output
    assert "\nData:\n" in CliRunner().invoke(main, []).output  # the first section of commands


@pytest.mark.parametrize("module", ["clip2scene", "clip2scene.cli"])
def test_modules_work_like_the_command(module, config):
    command = [sys.executable, "-m", module, "--config", str(config), "runs"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "finetune" in run.stdout
    wrong = subprocess.run([*command[:3], "runz"], cwd=ROOT, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: command: 'runz' is not known, did you mean 'run'?\n",
    )


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 13, 0)])
@pytest.mark.parametrize("start", ["import clip2scene.__main__", "from clip2scene.cli import main"])
def test_other_versions_of_python_are_refused_before_anything_is_imported(version, start):
    """The check itself holds nothing that an older Python cannot read."""
    code = f"import sys; sys.version_info = {version}; sys.path.insert(0, {str(ROOT)!r}); {start}"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    found = ".".join(map(str, version))
    assert (run.returncode, run.stderr) == (2, f"error: found Python {found}; expected Python 3.11 or 3.12\n")


def snakemake(config: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake on this checkout's Snakefile, without jobs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["snakemake", "--dry-run", "--cores", "1", "--nolock", *words]
    env = os.environ | {"PATH": path, "CLIP2SCENE_CONFIG": str(config)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def one_line(run: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a failed run of Snakemake printed."""
    lines = [
        line for line in run.stderr.splitlines() if not line.startswith("Using workflow specific profile")
    ]
    assert run.returncode != 0
    assert len(lines) == 1, run.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("f.yaml", "streets:", "seeds:", "f.tsv: line 2: target: 'streets' is not known, did you"),
        ("f.yaml", "results:", "result:", "f.yaml: result: unknown key, did you mean results?"),
        ("f.yaml", "results:", "threads: 1\nthreads: 2\nresults:", "f.yaml: line 3: threads: is given twice"),
        ("f.tsv", "finetune", "finetun", "f.tsv: line 2: protocol: 'finetun' is not known, did you"),
    ],
)  # fmt: skip
def test_snakemake_ends_in_one_line_too(config, file, old, new, said):
    path = config.parent / file
    path.write_text(path.read_text().replace(old, new, 1))
    line = one_line(snakemake(config))
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; expected a YAML file in UTF-8"),
        (b"", "is empty; expected a mapping of configuration keys"),
        (b"- a\n", "expected a mapping of configuration keys, found list"),
        (b"a: [1\n", "line 2"),
        ("a: 1\n".encode("utf-16"), "expected a YAML file in UTF-8"),
        (b"a: \xe9\n", "expected a YAML file in UTF-8"),
    ],
    ids=["missing", "empty", "list", "broken", "UTF-16", "Latin-1"],
)  # fmt: skip
def test_snakemake_names_a_configuration_that_cannot_be_read(tmp_path, content, said):
    """Snakemake's own --configfile ends in a traceback here, before it comes to the Snakefile."""
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_bytes(content)
    line = one_line(snakemake(path))
    assert line.startswith("error: ")
    assert "own.yaml: " in line
    assert said in line


def test_snakemake_takes_the_configuration_from_its_own_option_first(config):
    run = snakemake(
        "absent.yaml", "--configfile", str(config), "--", f"{config.parent}/results/table_main.csv"
    )
    assert run.returncode == 0, run.stderr


def test_a_results_folder_that_is_a_file_is_named(config):
    (config.parent / "results").write_text("")
    run = snakemake(config)
    assert f"error: {config}: results: " in run.stderr.replace(os.path.relpath(config, ROOT), str(config))
    assert "is a file; expected a folder" in run.stderr
    assert "Traceback" not in run.stderr
    said = refused(config, "run", "finetune", "--parents")
    assert said.startswith(str(config.parent / "results"))


def test_snakemake_lists_jobs_for_any_results_folder(config):
    values = yaml.safe_load(config.read_text())
    folder = config.parent / 'it\'s a&b $HOME "q" é *[1] (x;'
    config.write_text(yaml.safe_dump(values | {"results": str(folder)}))
    run = snakemake(config, "--printshellcmds")
    assert run.returncode == 0, run.stderr
    assert "table_main" in run.stdout + run.stderr
