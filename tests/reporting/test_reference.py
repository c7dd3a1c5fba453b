"""`clip2scene reference` says whether the tables are those of git, and if not, where they begin to differ."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from clip2scene import layout
from clip2scene.cli import main
from clip2scene.errors import InputError
from clip2scene.reporting import reference
from clip2scene.reporting.verify import write_table

TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1 2",
    "tables": "main",
}  # fmt: skip
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0", "tables": "main",
}  # fmt: skip


@pytest.fixture
def study(tmp_path, make_study, finish):
    """A finished study whose table is the reference: 30, 32 and 34 of one row, 30 of the other."""
    made = make_study(tmp_path, TUNED, FREE)
    finish(made)
    write_table(made, "main")
    reference.write(made, tmp_path / "reference")
    return made


@pytest.fixture
def compare(study, tmp_path, finish):
    """Returns the lines of a comparison after the runs were computed again with other scores."""

    def again(percent=None):
        if percent:
            shutil.rmtree(study.config.results / "runs")
            finish(study, percent)
            write_table(study, "main")
        return reference.compare(study, tmp_path / "reference")

    return again


def test_the_same_bytes_are_identical(compare):
    assert compare() == ["identical to the reference"]
    assert compare(lambda run: 30 + 2 * run.seed) == ["identical to the reference"]


def test_a_difference_is_compared_with_the_spread_over_seeds(study, compare):
    """The seeds of fine-tuning have a standard deviation of 2; pre-training has one seed, hence none."""
    changed = {"predict": 1.5, "annotation_free": 0.5}
    lines = compare(lambda run: 30 + 2 * run.seed + changed[run.kind])
    predicted = next(run for run in study.runs.values() if run.kind in changed)
    assert lines[0] == (
        f"4 of {len(study.runs)} runs made other files, first {predicted.kind}: {predicted.title} "
        f"(run {predicted.key}: confusion.npz)"
    )
    tuned = next(line for line in lines if line.startswith("finetune") and ": miou_mean" in line)
    assert tuned.endswith(
        "miou_mean 33.50, reference 32.00 (+1.50), within the standard deviation over seeds, 2.00"
    )
    free = next(line for line in lines if line.startswith("annotation_free") and ": miou_mean" in line)
    assert free.endswith("30.50, reference 30.00 (+0.50), one seed: no spread to compare with")
    differ = "differs from the reference in the mIoU of 2 rows, by up to 1.50"
    assert lines[-1] == f"{differ}; 1 of them within the spread over seeds"


def test_a_difference_beyond_the_spread_is_called_so(compare):
    lines = compare(lambda run: 30 + 2 * run.seed - 3 * (run.kind == "predict"))
    assert "29.00, reference 32.00 (-3.00), beyond the standard deviation" in "\n".join(lines)
    assert "by up to 3.00; 0 of them within" in lines[-1]
    assert any(line.startswith("table_per_class.csv: 15 numbers differ, by up to 3.00") for line in lines)


def test_what_was_made_differs_although_the_table_does_not(study, compare):
    path = layout.run_folder(study.config, next(iter(study.runs))) / "run.json"
    values = json.loads(path.read_text())
    values["products"]["content"] = "another"
    path.write_text(json.dumps(values))
    lines = compare()
    assert f"1 of {len(study.runs)} runs made other files" in lines[0]
    assert lines[-1] == "identical to the reference"


def test_times_are_never_the_same_and_do_not_count(study, tmp_path):
    made = json.loads((tmp_path / "reference/hashes.json").read_text())["runs"]
    assert made.keys() == study.runs.keys()
    assert not {"metrics.json", "metrics.jsonl"} & {name for run in made.values() for name in run["made"]}
    assert any("confusion.npz" in run["made"] for run in made.values())


def test_where_and_how_fast_is_no_difference(study, tmp_path, make_study):
    """The study has another name then, which the table holds; its runs are the same."""
    other = make_study(tmp_path, TUNED, FREE, threads=2)
    assert other.name != study.name
    write_table(other, "main")
    assert reference.compare(other, tmp_path / "reference") == ["identical to the reference"]


def test_other_runs_are_not_compared(study, tmp_path, make_study, finish):
    other = make_study(tmp_path, TUNED | {"seeds": "0 1"}, FREE)
    finish(other)
    write_table(other, "main")
    (line,) = reference.compare(other, tmp_path / "reference")
    assert line.startswith(f"not compared with the reference: study {study.name} has other runs than")


def test_a_reference_that_was_edited_is_refused(compare, tmp_path):
    path = tmp_path / "reference/table_main.csv"
    table = pd.read_csv(path)
    table["miou_mean"] += 1
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match="table_main.csv: its SHA-256 is not the one in hashes.json"):
        compare()


def test_the_command_writes_and_compares(study, tmp_path, monkeypatch, finish):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(study.config.model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        result = CliRunner().invoke(main, ["--config", "config.yaml", "reference", *arguments])
        return result.output.splitlines()[-1], result.exit_code

    missing, code = command()
    assert code == 2
    assert missing.startswith("error: results/reference/hashes.json: no such file")
    assert command("--write") == ("results/reference: written", 0)
    assert command() == ("identical to the reference", 0)
    finish(study, lambda run: 40)
    write_table(study, "main")
    verdict, code = command()
    assert code == 1
    assert verdict.startswith("differs from the reference in the mIoU of 2 rows, by up to 10.00")
