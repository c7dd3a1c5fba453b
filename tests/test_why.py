"""`clip2scene why` names the one thing that changed: a setting, a module, a file, an input, a download."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import clip2scene.study
from clip2scene import layout
from clip2scene.cli import main
from clip2scene.compute import adopt, compute
from clip2scene.config import load_config
from clip2scene.datasets.identity import MARKER
from clip2scene.provenance import code_of
from clip2scene.record import RunRecord
from clip2scene.runs import Run
from clip2scene.study import Study
from clip2scene.why import why

COLUMNS = ("protocol", "method", "recipe", "backbone", "pretrain", "target", "percent", "rule", "seeds")
ROWS = (
    "finetune	random		spvcnn		nuscenes	50	frame_skip	0",
    "finetune	slidr	theirs	spvcnn	nuscenes	nuscenes	100		0",
)


@pytest.fixture
def data(tiny_root, tmp_path):
    """A copy of the tiny data set, as if downloaded, that a test may change."""
    return Path(shutil.copytree(tiny_root, tmp_path / "data", ignore=shutil.ignore_patterns(MARKER)))


@pytest.fixture
def study(data, tmp_path):
    """A finished study: index and subsets are computed, networks and predictions are made up."""
    (tmp_path / "experiments.tsv").write_text("\n".join(["\t".join(COLUMNS), *ROWS]) + "\n")
    (tmp_path / "theirs.pt").write_text("weights")
    values = {
        "experiments": str(tmp_path / "experiments.tsv"),
        "results": str(tmp_path / "results"),
        "datasets": {"nuscenes": {"root": str(data), "version": "v1.0-tiny", "pretrain_split": "train"}},
        "checkpoints": {"theirs": str(tmp_path / "theirs.pt")},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    made = reread(tmp_path)
    for run in made.runs.values():
        make(made, run)
    return reread(tmp_path)


def reread(folder: Path, **changes) -> Study:
    """Return the study as a new process reads it, with some keys of the configuration changed."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return Study(load_config(path))


def make(study: Study, run: Run) -> None:
    if run.kind in ("index", "subset"):
        compute(study, run)
        return
    record = RunRecord(layout.run_folder(study.config, run), run.kind, run.seed, study.identity(run))
    record.begin(study.config, "cpu")
    (record.folder / ("confusion.npz" if run.kind == "predict" else "checkpoint.pt")).write_text(run.key)
    record.finish()


def explain(study: Study) -> dict[str, str]:
    """Return the reasons by run: ``kind`` of the random row's runs, ``kind theirs`` of the other's."""
    found = {}
    for line in why(study, study.runs):
        key, _, words = line.partition("  ")
        run = study.runs[key]
        prefix = f"{run.kind}: {run.title}: "
        assert words.startswith(prefix)
        name = f"{run.kind} {run.recipe}" if run.kind != "subset" else f"subset {run.percent:g} %"
        found[name.strip()] = words.removeprefix(prefix)
    return found


def run_of(study: Study, kind: str, recipe: str = "") -> Run:
    (run,) = (run for run in study.runs.values() if (run.kind, run.recipe) == (kind, recipe))
    return run


def change_code(monkeypatch, module: str) -> None:
    """Let a module look as if it had been edited."""

    def changed(*modules: str) -> dict[str, str]:
        code = dict(code_of(*modules))
        return code | ({module: "edited"} if module in code else {})

    monkeypatch.setattr(clip2scene.study, "code_of", changed)


def test_nothing_is_to_be_done(study, tmp_path):
    assert explain(study) == {}
    assert all(study.finished(run) for run in study.runs.values())


def test_before_the_first_run(study):
    shutil.rmtree(study.config.results)
    assert set(explain(study).values()) == {"it was never computed"}
    assert len(explain(study)) == len(study.runs) == 7


def test_a_changed_setting_is_named_with_both_values(study, tmp_path):
    before = {name: run_of(study, "finetune", name).key for name in ("", "theirs")}
    found = explain(reread(tmp_path, finetune={"epochs": 77, "optimiser": {"momentum": 0.5}}))
    assert found.keys() == {"finetune", "predict", "finetune theirs", "predict theirs"}
    assert found["finetune"] == (
        f"it was never computed; run {before['']} is there with another "
        "setting tuning.epochs (2 → 77), setting tuning.optimiser.momentum (0.9 → 0.5)"
    )
    assert before["theirs"] in found["finetune theirs"]
    predicted = run_of(study, "predict").key
    assert found["predict"] == (
        f"it was never computed; run {predicted} is there, of another seed or from other runs"
    )


def test_the_nearest_run_is_the_one_with_the_fewest_differences(study, tmp_path):
    middle = reread(tmp_path, finetune={"epochs": 77})
    for run in middle.runs.values():
        make(middle, run)
    found = explain(reread(tmp_path, finetune={"epochs": 77, "batch_size": 5}))
    assert found["finetune"] == (
        f"it was never computed; run {run_of(middle, 'finetune').key} is there with another "
        "setting tuning.batch_size (2 → 5)"
    )


def test_a_changed_module_is_named(study, tmp_path, monkeypatch):
    change_code(monkeypatch, "clip2scene.training.finetune")
    tuned = run_of(study, "finetune").key
    found = explain(reread(tmp_path))
    assert found.keys() == {"finetune", "predict", "finetune theirs", "predict theirs"}
    assert found["finetune"] == "code has changed: clip2scene.training.finetune"
    assert found["predict"].startswith(f"it reads the network of {tuned}")


def test_a_module_that_only_predicts_leaves_the_networks(study, tmp_path, monkeypatch):
    change_code(monkeypatch, "clip2scene.evaluation.tuned")
    found = explain(reread(tmp_path))
    assert found == dict.fromkeys(
        ("predict", "predict theirs"), "code has changed: clip2scene.evaluation.tuned"
    )


def test_a_missing_file_is_named(study, tmp_path):
    run = run_of(study, "finetune")
    path = layout.run_folder(study.config, run) / "checkpoint.pt"
    path.unlink()
    found = explain(reread(tmp_path))
    assert found == {"finetune": f"{path} is missing", "predict": f"it reads the network of {run.key}"}


def test_a_run_that_was_killed_is_named(study, tmp_path):
    path = layout.run_folder(study.config, run_of(study, "finetune")) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    found = explain(reread(tmp_path))
    assert found["finetune"] == "it was not finished"
    assert found.keys() == {"finetune", "predict"}


def test_a_changed_input_is_named(study, tmp_path):
    """A file from outside: the checkpoint that a row starts from."""
    (tmp_path / "theirs.pt").write_text("other weights")
    found = explain(reread(tmp_path))
    tuned = run_of(study, "finetune", "theirs").key
    assert found == {
        "finetune theirs": "what it reads has changed: network",
        "predict theirs": f"it reads the network of {tuned}",
    }


def test_a_missing_input_is_named(study, tmp_path):
    (tmp_path / "theirs.pt").unlink()
    found = explain(reread(tmp_path))
    assert found["finetune theirs"].startswith(f"{tmp_path / 'theirs.pt'}: no such file")


def test_a_changed_result_of_another_run_is_named(study, tmp_path):
    """A network that was trained again, and came out otherwise."""
    run = run_of(study, "finetune")
    record = RunRecord(layout.run_folder(study.config, run), run.kind, run.seed, study.identity(run))
    (record.folder / "checkpoint.pt").write_text("other weights")
    record.finish()
    assert explain(reread(tmp_path)) == {"predict": "what it reads has changed: network: checkpoint.pt"}


@pytest.mark.parametrize("change", ["added", "removed", "size"])
def test_files_that_were_added_to_a_download_are_seen(study, data, tmp_path, change):
    """After the index is built again, what does not read these files stays as it is."""
    sweep = next((data / "sweeps/LIDAR_TOP").iterdir())
    match change:
        case "added":
            (data / "samples/LIDAR_TOP/new.bin").write_text("new")
        case "removed":
            sweep.unlink()
        case "size":
            sweep.write_bytes(sweep.read_bytes()[:-20])
    found = explain(reread(tmp_path))
    index = run_of(study, "index").key
    assert found["index"] == "files were added to the data set, removed, or changed in size"
    assert f"it reads the index of {index}" in found["subset 50 %"]
    again = reread(tmp_path)
    compute(again, again.runs[index])
    assert explain(reread(tmp_path)) == {}  # neither labels nor points of keyframes have changed


def test_changed_labels_are_named_by_those_that_read_them(study, data, tmp_path):
    """Of validation keyframes: subsets and networks stay, predictions do not."""
    again = reread(tmp_path)
    index = run_of(study, "index")
    val = [path for path in (data / "lidarseg/v1.0-tiny").iterdir() if "synthetic-0003" in path.name]
    for path in val:
        path.write_bytes(path.read_bytes()[:-1])
    assert val
    compute(again, index)
    assert explain(reread(tmp_path)) == dict.fromkeys(
        ("predict", "predict theirs"), "what it reads has changed: index: val/labels"
    )


def test_an_earlier_result_that_would_come_back_is_announced(study, tmp_path, monkeypatch):
    """The code was edited, the run computed, and the edit taken back."""
    change_code(monkeypatch, "clip2scene.evaluation.tuned")
    edited, run = reread(tmp_path), run_of(study, "predict")
    adopt(edited.config, run, edited.identity(run).fingerprint)
    make(edited, run)
    assert explain(reread(tmp_path)).keys() == {"predict theirs"}
    monkeypatch.setattr(clip2scene.study, "code_of", code_of)
    found = explain(reread(tmp_path))
    assert found["predict"] == (
        "code has changed: clip2scene.evaluation.tuned; "
        "an earlier result has what is asked for now, and would come back"
    )


def test_nothing_is_changed_by_asking(study, tmp_path, monkeypatch):
    def content():
        files = sorted(path for path in study.config.results.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = content()
    change_code(monkeypatch, "clip2scene.training.finetune")
    assert explain(reread(tmp_path))
    assert content() == before


@pytest.fixture
def command(tmp_path):
    def run(*names):
        result = CliRunner().invoke(main, ["--config", str(tmp_path / "config.yaml"), "why", *names])
        return result.output, result.exit_code

    return run


def test_the_command_says_nothing(study, command):
    assert command() == ("nothing\n", 0)
    assert command("main", "subset", run_of(study, "finetune").key) == ("nothing\n", 0)


def test_the_command_explains_runs_and_what_they_read(study, command):
    run = run_of(study, "finetune")
    folder = layout.run_folder(study.config, run)
    (folder / "checkpoint.pt").unlink()
    output, code = command("predict")
    assert code == 0
    assert [line.partition(" ")[0] for line in output.splitlines()] == [run.key, run_of(study, "predict").key]
    assert command(run.key)[0] == f"{run.key}  finetune: {run.title}: {folder / 'checkpoint.pt'} is missing\n"
    assert command("index")[0] == "nothing\n"


def test_an_unknown_name_is_named(study, command):
    output, code = command("predic")
    assert code == 2
    assert "'predic' is not known, did you mean 'predict'?" in output
