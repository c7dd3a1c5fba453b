"""The main command, as a user runs it, on the embedded data at its smallest."""

import json
import re

import pandas as pd
import pytest
import yaml
from checkouts import checkout
from mlflow import MlflowClient

from clip2scene.config import load_config
from clip2scene.experiment_table import load_experiments

pytestmark = pytest.mark.workflow


def test_every_experiment_fills_its_cell(finished):
    table = pd.read_csv(finished.results / "table_main.csv")
    config = load_config(finished.config)
    rows = load_experiments(config.model_copy(update={"experiments": finished.folder / config.experiments}))
    assert table["method"].tolist() == [row.method for row in rows if "main" in row.tables]
    assert table["miou_mean"].between(0, 100).all()
    assert table["data"].tolist() == ["synthetic"] * 5 + ["real"]
    assert table.loc[table["method"] == "maskclip_projection", "published"].isna().all()
    for name in ("table_cross_domain.csv", "results.csv", "comparisons.csv", "claims.csv", "report.html"):
        assert (finished.results / name).exists()


def test_tables_equal_mlflow(finished):
    client = MlflowClient(f"sqlite:///{finished.results}/mlflow.db")
    experiment = client.get_experiment_by_name("clip2scene").experiment_id
    everything = client.search_runs([experiment], max_results=1000)
    sent = {run.data.tags["run_key"]: run for run in everything if "run_key" in run.data.tags}
    with_numbers = {path.parent.name for path in finished.results.glob("runs/*/metrics.json")}
    assert sent.keys() == with_numbers
    for row in pd.read_csv(finished.results / "table_main.csv").itertuples():
        scores = [sent[key].data.metrics["mIoU"] for key in row.run_keys.split()]
        assert row.miou_mean == pytest.approx(sum(scores) / len(scores), abs=0.005)
        (parent,) = {sent[key].data.tags["mlflow.parentRunId"] for key in row.run_keys.split()}
        assert client.get_run(parent).data.metrics["mIoU"] == row.miou_mean
        assert {sent[key].data.tags["study"] for key in row.run_keys.split()} == {row.study}


def test_pictures_are_drawn(finished):
    names = {path.stem for path in (finished.results / "figures").glob("*.png")}
    scenes = {f"scene-nuscenes-1-{view}" for view in ("above", "3d", "cameras", "sweeps")}
    assert scenes <= names
    assert any(name.startswith("annotation_free-clip2scene-fixed") for name in names)


def test_nothing_half_written_stays(finished):
    hidden = [path for path in finished.results.rglob(".*") if not path.name.startswith(".snakemake")]
    assert hidden == []
    assert {run["status"] for run in finished.runs().values()} == {"finished"}


def test_a_run_names_what_made_it(finished):
    (run,) = finished.made("pretrain", method="clip2scene")
    assert run["settings"]["recipe"]["temperature"] == 0.07
    assert "clip2scene.method.semantic" in run["code"]
    assert "index: train/sweeps" in run["reads"]
    assert not any(str(finished.folder) in text for text in map(str, (run["settings"], run["reads"])))


def test_the_same_seed_gives_the_same_table_in_another_place(finished, tmp_path):
    config, rows = finished.folder / "config/config.yaml", finished.folder / "config/experiments.tsv"
    other = checkout(tmp_path / "elsewhere", config, rows)
    (other.folder / "data").mkdir()
    (other.folder / "data/kitti").symlink_to(finished.folder / "data/kitti")
    other.configure(results="another/folder", tracking={"uri": "sqlite:///another.db"})
    other.snakemake("another/folder/table_main.csv")
    for name in ("table_main.csv", "table_per_class.csv"):
        first = finished.results / name
        assert first.read_bytes() == (other.folder / "another/folder" / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "sed: unknown key, did you mean seed?"),
        ({"experiments": "absent.tsv"}, "absent.tsv: no such file"),
        ({"backbones": {"spvcn": {}}}, "'spvcn' is not known, did you mean 'spvcnn'?"),
    ],
)
def test_bad_configuration_stops_before_the_first_job(finished, tmp_path, change, message):
    config, rows = finished.folder / "config/config.yaml", finished.folder / "config/experiments.tsv"
    site = checkout(tmp_path / "site", config, rows)
    site.config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | change))
    assert message in site.snakemake(fails=True)
    assert [path.name for path in site.results.iterdir()] == ["published"]


def test_why_says_nothing_and_the_tables_verify(finished):
    assert finished.clip2scene("why").strip() == "nothing"
    tables = ("claims", "cross_domain", "main", "results")
    assert finished.clip2scene("verify").splitlines() == [f"{name}: verified" for name in tables]


def test_a_study_s_files_say_which_configuration_made_the_table(finished):
    study = pd.read_csv(finished.results / "table_main.csv")["study"][0]
    folder = finished.results / "config" / study
    assert (folder / "experiments.tsv").read_bytes() == (
        finished.folder / "config/experiments.tsv"
    ).read_bytes()
    shown = json.loads((finished.results / "receipts/main.json").read_text())
    assert shown["study"] == study
    assert shown["files"].keys() == {"table_main.csv", "table_main.md", "table_per_class.csv"}


def test_a_run_ends_with_its_scores_which_are_those_of_the_table(finished):
    """Of runs that predict, and of one that was trained, whose network another run judges."""
    table = pd.read_csv(finished.results / "table_main.csv")
    single = table[(table["run_keys"].str.len() == 12) & (table["method"] != "maskclip_projection")]
    assert len(single) > 1
    said = finished.clip2scene("run", *single["run_keys"])
    numbers = re.findall(r"mIoU ([\d.]+) %, 95 % interval ([\d.]+) to ([\d.]+) over \w+, all points", said)
    expected = {row.run_keys: (row.miou_mean, row.low, row.high) for row in single.itertuples()}
    found = dict(zip(re.findall(r"^\S+/(\w{12}):", said, re.M), numbers, strict=True))
    for key, values in expected.items():
        assert [float(number) for number in found[key]] == pytest.approx(values, abs=0.06)
    tuned = finished.made("finetune", target="nuscenes", method="random")[0]
    (judge,) = re.findall(r"all points, run (\w+)", finished.clip2scene("run", tuned["key"]))
    assert judge in {run["key"] for run in finished.made("predict", target="nuscenes", method="random")}
    (teacher,) = finished.made("teacher")
    assert "read by " in finished.clip2scene("run", teacher["key"])


def test_the_end_of_make_table_shows_it(finished):
    """Every number of the table stands in the terminal, with where to go next."""
    lines = finished.clip2scene("show").splitlines()
    for row in pd.read_csv(finished.results / "table_main.csv").itertuples():
        assert any(row.method in line and f" {row.miou_mean:.1f} " in line for line in lines), row
    said = "\n".join(lines)
    assert "results/table_main.csv" in said
    assert "results/report.html" in said
    assert "Published numbers are for the real data sets" in said
    assert max(map(len, lines)) <= 120
