"""`clip2scene verify` finds every difference between a table and the files that its runs wrote."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from clip2scene import layout
from clip2scene.cli import main
from clip2scene.errors import InputError
from clip2scene.reporting.verify import collect, verify, write_table

TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1",
    "tables": "main cross_domain",
}  # fmt: skip
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0",
}  # fmt: skip
TABLES = ("main", "cross_domain", "results")


@pytest.fixture
def study(tmp_path, make_study, finish):
    """A finished study whose tables are written."""
    made = make_study(tmp_path, TUNED, FREE)
    finish(made)
    for table in TABLES:
        write_table(made, table)
    return made


@pytest.fixture
def command(study, tmp_path):
    """Runs `clip2scene verify` on the study; returns its output and its exit code."""
    values = study.config.model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))

    def run(*tables):
        result = CliRunner().invoke(main, ["--config", str(tmp_path / "config.yaml"), "verify", *tables])
        return result.output, result.exit_code

    return run


def folder(study, number=0):
    """Return the folder of a run that fills the first cell."""
    return layout.run_folder(study.config, study.cell(study.experiments[0])[number])


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_what_its_runs_give(study, command, table):
    assert verify(study, table) == []
    assert command(table) == (f"{table}: verified\n", 0)
    assert command() == ("cross_domain: verified\nmain: verified\nresults: verified\n", 0)


def test_a_changed_number_is_named_with_its_line_and_column(study, command):
    path = study.config.results / "table_main.csv"
    before = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert before["miou_mean"][1] == "30.00"
    changed = before.copy()
    changed.loc[1, "miou_mean"] = "30.01"
    changed.to_csv(path, index=False)
    expected = f"{path}: line 3: miou_mean: found '30.01', expected '30.00'"
    assert verify(study, "main") == [expected]
    output, code = command("main")
    assert (output.splitlines(), code) == (["main: 1 differences", expected], 1)
    assert command("cross_domain")[1] == 0


def test_every_csv_of_a_table_is_compared(study):
    """Of the second file of a table, and an empty cell that was filled."""
    path = study.config.results / "table_per_class.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, "bus"] = "50.00"
    table.to_csv(path, index=False)
    assert verify(study, "main") == [f"{path}: line 2: bus: found '50.00', expected ''"]


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("main", "table_main.md"),
        ("cross_domain", "table_cross_domain.md"),
        ("cross_domain", "table_cross_domain.png"),
    ],
)
def test_what_people_read_is_as_it_was_written(study, table, name):
    path = study.config.results / name
    path.write_bytes(path.read_bytes().replace(b"3", b"4", 1))
    expected = [f"{path}: is not as `clip2scene table {table}` wrote it"]
    assert verify(study, table) == expected
    path.unlink()
    assert verify(study, table) == expected


def test_removed_and_added_rows_are_named(study):
    path = study.config.results / "table_main.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    (problem,) = verify(study, "main")
    assert problem.startswith(f"{path}: 1 rows, expected 2")
    path.write_text("".join([*lines, lines[-1]]))
    (problem,) = verify(study, "main")
    assert problem.startswith(f"{path}: 3 rows, expected 2")
    path.unlink()
    assert verify(study, "main") == [f"{path}: no such file"]


def test_one_byte_of_a_confusion_matrix_is_found(study, command):
    """In the middle of the file, where the numbers are; the table is as it was written."""
    path = folder(study) / "confusion.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems = verify(study, "main")
    assert f"{path}: its SHA-256 is not the one in run.json" in problems
    output, code = command("main")
    assert code == 1
    assert str(path) in output
    assert command("cross_domain")[1] == 1  # it rests on the same run


def test_files_of_the_runs_behind_the_table_count_as_well(study):
    """The log of a pre-training is no number of the table, but it is what the table rests on."""
    (pretraining, *_) = (run for run in study.runs_of("main").values() if run.kind == "pretrain")
    log = layout.run_folder(study.config, pretraining) / "metrics.jsonl"
    log.write_text(log.read_text() + "\n")
    assert verify(study, "main") == [f"{log}: its SHA-256 is not the one in run.json"]
    log.unlink()
    assert f"{log}: no such file" in verify(study, "main")


def test_an_edited_description_is_found(study):
    """Its fingerprint is a hash of what it holds; a number elsewhere, such as a time, is not held."""
    path = folder(study) / "run.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"fields": values["fields"] | {"seed": 7}}))
    edited = f"{path}: its fingerprint is not that of what it holds; it was edited"
    assert verify(study, "main") == [edited]
    path.write_text(json.dumps(values | {"settings": values["settings"] | {"epochs": 99}}))
    assert verify(study, "main") == [edited]


def test_a_receipt_of_another_study_is_found(study, command):
    path = layout.shown(study.config, "main")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"study": 12 * "0"}))
    expected = (
        f"{path}: study: found '000000000000'; expected '{study.name}', this one (write the table again)"
    )
    assert verify(study, "main") == [expected]
    assert command("main")[1] == 1


def test_a_removed_run_is_named(study, command):
    gone = folder(study)
    shutil.rmtree(gone)
    problems = verify(study, "main")
    assert problems[0].startswith(f"{gone}: run {gone.name} (predict: finetune, slidr, spvcnn, nuscenes")
    assert problems[0].endswith("is not finished")
    output, code = command()
    assert code == 1
    assert gone.name in output


def test_a_removed_run_that_the_cells_do_not_show_is_named(study):
    """A parent: the numbers can be computed without it, but nobody could say what they rest on."""
    (index, *_) = (run for run in study.runs.values() if run.kind == "index")
    gone = layout.run_folder(study.config, index)
    shutil.rmtree(gone)
    problem, scenes = verify(study, "main")
    assert problem.startswith(f"{gone}: run {index.key} (index: nuscenes")
    assert scenes == f"{gone / 'index.parquet'}: no such file; expected an index (Parquet)"


def test_a_run_that_was_computed_again_is_not_the_table_s(study, write_run, scored):
    """Also where it gives the same number."""
    run = study.cell(study.experiments[0])[1]
    write_run(study, run, {"all": scored(32)}, code="changed")
    path = layout.run_folder(study.config, run)
    assert verify(study, "main") == [f"{path}: run {run.key} is not the one that the table was written from"]
    write_table(study, "main")
    assert verify(study, "main") == []


def test_another_number_of_a_run_is_another_number_of_the_table(study, write_run, scored):
    """60 in place of 32, beside 30: the mean over seeds was 31 and is 45."""
    run = study.cell(study.experiments[0])[1]
    write_run(study, run, {"all": scored(60)}, code="changed")
    problems = verify(study, "main")
    table = study.config.results / "table_main.csv"
    assert f"{table}: line 2: miou_mean: found '31.00', expected '45.00'" in problems


def test_a_table_that_we_did_not_write_is_named(study):
    shown = layout.shown(study.config, "main")
    shown.unlink()
    (problem,) = verify(study, "main")
    assert problem == f"{shown}: no such file; the table was not written by `clip2scene table main`"


def test_a_results_folder_without_tables_is_named(study, command):
    for table in TABLES:
        layout.shown(study.config, table).unlink()
    output, code = command()
    assert (code, output) == (
        2,
        f"error: {study.config.results}: holds no table; write one with `clip2scene table TABLE`\n",
    )
    output, code = command("man")
    assert (code, output) == (2, "error: table: 'man' is not known, did you mean 'main'?\n")


def test_the_receipt_of_a_table_says_of_which_study_and_runs_it_is(study):
    shown = json.loads(layout.shown(study.config, "main").read_text())
    assert (shown["study"], shown["table"]) == (study.name, "main")
    assert shown["runs"].keys() == study.runs_of("main").keys()
    assert set(shown["files"]) == {"table_main.csv", "table_main.md", "table_per_class.csv"}
    for key, fingerprint in shown["runs"].items():
        run = json.loads((layout.run_folder(study.config, key) / "run.json").read_text())
        assert run["fingerprint"] == fingerprint


def test_no_receipt_without_all_runs(study, tmp_path):
    shutil.rmtree(folder(study))
    with pytest.raises(InputError, match=r"\(predict: finetune, slidr.*is not finished"):
        collect(study, "main", tmp_path / "receipt.json")
    assert not (tmp_path / "receipt.json").exists()
