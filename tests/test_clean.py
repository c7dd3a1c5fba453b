"""`clip2scene clean` deletes superseded results and unused runs, and nothing else, after it was told to."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import clip2scene.study
from clip2scene import layout
from clip2scene.clean import removable, size
from clip2scene.cli import main
from clip2scene.compute import compute
from clip2scene.config import load_config
from clip2scene.provenance import code_of
from clip2scene.runs import Run
from clip2scene.study import Study

COLUMNS = ("protocol", "method", "backbone", "target", "percent", "rule", "seeds")
HALF = "finetune	random	spvcnn	nuscenes	50	frame_skip	0"
ALL = "finetune	random	spvcnn	nuscenes	100		0"
THEIRS = (
    "logs/job.log", "table_main.csv", "table_main.md", "figures/scan.png", "mlflow.db", "receipts/main.json",
    "runs/notes.txt", "runs/my-copy/checkpoint.pt", "runs/0123456789ab/checkpoint.pt", "superseded/notes.txt",
    "config/study/experiments.tsv",
)  # fmt: skip
"""Files in the results folder that are no runs of ours: `runs/0123456789ab` has no run.json."""


def read(folder: Path, *rows: str) -> Study:
    """Return the study of these rows, as a new process reads it."""
    (folder / "experiments.tsv").write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")
    return Study(load_config(folder / "config.yaml"))


@pytest.fixture
def study(tiny_root, tmp_path, monkeypatch):
    """A results folder with an index, which has a superseded result, and two subsets, one of them unused."""
    values = {
        "experiments": str(tmp_path / "experiments.tsv"),
        "results": str(tmp_path / "results"),
        "datasets": {"nuscenes": {"root": str(tiny_root), "version": "v1.0-tiny"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with monkeypatch.context() as patch:
        before = read(tmp_path, HALF, ALL)
        patch.setattr(clip2scene.study, "code_of", lambda *modules: {**code_of(*modules), "earlier": "code"})
        compute(before, only(before, "index"))
    made = read(tmp_path, HALF, ALL)
    for run in made.runs.values():
        if run.kind in ("index", "subset"):
            compute(made, run)
    return read(tmp_path, HALF)


def only(study: Study, kind: str) -> Run:
    (run,) = (run for run in study.runs.values() if run.kind == kind)
    return run


@pytest.fixture
def clean(study, tmp_path):
    """Runs the command with an answer to its question; returns its output and its exit code."""

    def run(*arguments: str, answer: str = "") -> tuple[str, int]:
        command = ["--config", str(tmp_path / "config.yaml"), "clean", *arguments]
        result = CliRunner().invoke(main, command, input=answer)
        return result.output, result.exit_code

    return run


def files(study: Study) -> dict[Path, bytes]:
    results = study.config.results
    found = (path for path in results.rglob("*") if path.is_file() and path.parent.name != "locks")
    return {path.relative_to(results): path.read_bytes() for path in found}


@pytest.fixture
def foreign(study):
    """Puts files into the results folder that are no runs."""
    for name in THEIRS:
        path = study.config.results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs")


@pytest.fixture
def unused(study, tmp_path):
    """The folders that may be deleted: the superseded index, the subset that no row asks for."""
    everything = read(tmp_path, HALF, ALL)
    (subset,) = (
        run for key, run in everything.runs.items() if run.kind == "subset" and key not in study.runs
    )
    read(tmp_path, HALF)
    (index,) = layout.superseded(study.config, only(study, "index")).iterdir()
    return index, layout.run_folder(study.config, subset)


def test_what_is_superseded_or_unused_is_listed_with_its_size(study, clean, unused):
    index, subset = unused
    found = removable(study, everything=False)
    assert found == {index: "superseded result", subset: "subset: nuscenes 100.0 0"}
    output, _ = clean(answer="n\n")
    lines = output.splitlines()
    for path, line in zip(unused, lines, strict=False):
        bytes_ = sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
        assert size(path) == bytes_ > 1000
        assert line.split()[:3] == [f"{bytes_ / 2**20:.1f}", "MiB", str(path)]
    assert "superseded result" in lines[0]
    assert "subset" in lines[1]
    assert lines[2].strip() == f"{sum(map(size, unused)) / 2**20:.1f} MiB in 2 folders"
    assert "Delete them?" in lines[3]


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "no\n"])
def test_nothing_is_deleted_without_a_yes(study, clean, answer):
    before = files(study)
    clean(answer=answer)
    assert files(study) == before


@pytest.mark.parametrize(("arguments", "answer"), [((), "y\n"), (("--yes",), "")])
@pytest.mark.usefixtures("foreign")
def test_after_a_yes_only_these_are_deleted(study, clean, unused, arguments, answer):
    """The study's runs stay, and so does all that is no run of ours."""
    gone = [path.relative_to(study.config.results) for path in unused]
    expected = {
        path: content
        for path, content in files(study).items()
        if not any(path.is_relative_to(folder) for folder in gone)
    }
    assert set(map(Path, THEIRS)) <= expected.keys()
    output, code = clean(*arguments, answer=answer)
    assert code == 0, output
    assert files(study) == expected
    assert study.finished(only(study, "index"))
    assert study.finished(only(study, "subset"))


def test_twice_there_is_nothing_left_to_delete(study, clean):
    clean("--yes")
    assert clean("--yes") == (f"{study.config.results}: nothing to delete\n", 0)


@pytest.mark.usefixtures("foreign")
def test_all_deletes_the_study_s_own_runs_too(study, clean, unused):
    output, code = clean("--all", answer="y\n")
    assert code == 0
    assert "in 4 folders" in output
    left = files(study)
    assert not [path for path in left if path.name == "run.json"]
    assert set(map(Path, THEIRS)) <= left.keys()


def test_a_run_that_was_killed_is_listed_with_the_others(study, clean, unused):
    """It is no run of this study, so that nothing would ever finish it."""
    _, subset = unused
    description = subset / "run.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"status": "running"}))
    assert str(subset) in clean(answer="n\n")[0]


def test_a_folder_whose_description_is_another_run_s_stops_everything(study, clean, unused):
    """Somebody has copied or renamed it: better to ask."""
    _, subset = unused
    copy = subset.with_name("abcdefabcdef")
    shutil.copytree(subset, copy)
    before = files(study)
    output, code = clean("--yes")
    assert code == 2
    assert f"{copy / 'run.json'}: describes run {subset.name}; expected abcdefabcdef" in output
    assert files(study) == before


def test_a_results_folder_that_is_not_there(study, clean):
    shutil.rmtree(study.config.results)
    assert clean("--yes") == (f"{study.config.results}: nothing to delete\n", 0)
