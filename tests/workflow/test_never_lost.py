"""Results survive forced and killed jobs, two processes at once, and a store that is away."""

import json
import shutil
import signal
import time

import pandas as pd
import pytest
from checkouts import since

pytestmark = pytest.mark.workflow

STAGES = [
    "synthetic", "index", "subset", "superpixels", "teacher", "text", "encoder", "pretrain",
    "annotation_free", "projection", "finetune", "linear_probe", "predict",
]  # fmt: skip


def test_forced_jobs_cost_receipts_and_compute_nothing(site):
    before = site.history()
    site.snakemake("--forceall")
    assert since(before, site) == set()
    assert before.keys() == site.history().keys()


def test_a_second_run_has_nothing_to_do(site):
    assert "Nothing to be done" in site.snakemake()


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_leaves_nothing_that_is_taken_for_finished(site, stage):
    run = min(site.made(stage), key=lambda run: run["key"])
    folder, data = site.results / "runs" / run["key"], site.folder / "data/nuscenes"
    shutil.rmtree(folder)
    if stage == "synthetic":
        shutil.rmtree(data)
    process = site.start("clip2scene", "run", run["key"])
    while process.poll() is None and not (folder / "run.json").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = process.returncode == -signal.SIGKILL
    state = json.loads((folder / "run.json").read_text())["status"]
    assert state == ("running" if killed else "finished") or state == "finished"
    site.clip2scene("run", run["key"])
    again = json.loads((folder / "run.json").read_text())
    numbers = {"metrics.json", "metrics.jsonl"}  # hold times
    assert {name: again["files"][name] for name in again["files"].keys() - numbers} == {
        name: run["files"][name] for name in run["files"].keys() - numbers
    }
    assert again["products"].keys() == run["products"].keys()
    assert list(folder.rglob(".*")) == []
    if stage == "synthetic":
        assert {path.suffix for path in data.glob(".*")} == {".lock"}


def test_the_same_run_started_twice_at_once_is_computed_once(site):
    (run,) = site.made("pretrain", method="ppkt")
    folder = site.results / "runs" / run["key"]
    shutil.rmtree(folder)
    processes = [site.start("clip2scene", "run", run["key"]) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(len(steps)))
    assert sum("waiting for" in output for output in outputs) == 1


def test_two_workflows_at_once_end_as_if_one_had_come_after_the_other(site):
    """They share the checkout, the results folder and the MLflow store, and differ in their configuration."""
    before = site.history()
    changed = site.folder / "config/changed.yaml"
    changed.write_text(site.config.read_text().replace("minimum_steps: 8", "minimum_steps: 6"))
    own = site.folder / "config/own.yaml"  # another results folder, and the same store
    own.write_text(
        site.config.read_text().replace("minimum_steps: 8", "minimum_steps: 5")
        + "results: other\ntracking: { uri: 'sqlite:///results/mlflow.db' }\n"
    )
    shutil.copytree(site.results / "runs", site.folder / "other/runs")
    commands = [
        ["snakemake", "--cores", "1", "--configfile", str(changed), "--", "results/table_main.csv"],
        ["snakemake", "--cores", "1", "--", "results/table_main.csv"],
        ["snakemake", "--cores", "1", "--configfile", str(own), "--", "other/table_main.csv"],
    ]
    processes = [site.start(*command) for command in commands]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert not any("error: tracking" in output for output in outputs), outputs
    assert {name.split()[0] for name in since(before, site)} == {"finetune", "linear_probe", "predict"}
    tables = [pd.read_csv(site.folder / name / "table_main.csv") for name in ("results", "other")]
    assert len({*tables[0]["study"], *tables[1]["study"]}) == 2
    assert "verified" in site.clip2scene("--config", str(own), "verify", "main")


def test_tables_and_figures_are_made_though_the_store_is_away(site):
    (site.results / "table_main.csv").unlink()
    shutil.rmtree(site.results / "figures")
    for receipt in site.results.glob("receipts/figures-*.json"):
        receipt.unlink()
    site.configure(tracking={"uri": "sqlite:////proc/nowhere/mlflow.db"})
    output = site.snakemake()
    assert (site.results / "table_main.csv").exists()
    assert any((site.results / "figures").glob("*.png"))
    assert "error: tracking.uri: sqlite:////proc/nowhere/mlflow.db: " in output
    assert "Traceback" not in output


def test_clean_is_what_deletes_and_asks_before(site):
    superseded = site.results / "superseded/abcdefabcdef/0123456789ab"
    superseded.mkdir(parents=True)
    (superseded / "checkpoint.pt").write_bytes(b"0" * 2**20)
    before = site.runs()
    listed = site.clip2scene("clean", fails=True)  # nobody answers
    assert "1.0 MiB" in listed
    assert superseded.exists()
    site.clip2scene("clean", "--yes")
    assert not superseded.exists()
    assert site.runs() == before


def test_a_download_is_never_replaced_by_synthetic_data(site):
    site.configure(datasets={"kitti": {"format": "semantickitti", "root": "data/kitti", "synthetic": {}}})
    files = sorted(path for path in (site.folder / "data/kitti").rglob("*"))
    output = site.clip2scene("synthesize", "kitti", fails=True)
    assert "data/kitti: holds sequences, which is no synthetic data set of ours" in output
    assert sorted(path for path in (site.folder / "data/kitti").rglob("*")) == files
