"""The main command, as a user runs it, on the embedded data at its smallest: minutes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from clip2scene.config import load_config
from clip2scene.experiments import load_experiments
from clip2scene.workflow import Workflow

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.workflow


def snakemake(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in the checkout, with this interpreter's commands on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["snakemake", "--cores", "all", *arguments, "--configfile", str(config)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def configuration(folder: Path, **changes) -> Path:
    """The smallest experiment, with everything it writes in `folder`."""
    values = yaml.safe_load((Path(__file__).parent / "smallest.yaml").read_text())
    values["experiments"] = "tests/workflow/smallest.tsv"
    values["results"] = str(folder / "results")
    values["datasets"]["nuscenes"]["root"] = str(folder / "data")
    values["tracking"] = {"uri": f"sqlite:///{folder}/mlflow.db"}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the main command has run."""
    folder = tmp_path_factory.mktemp("workflow")
    config = configuration(folder)
    run = snakemake(config, str(folder / "results/table_main.csv"), str(folder / "results/figures"))
    assert run.returncode == 0, run.stdout + run.stderr
    return folder, config


def test_every_experiment_fills_its_cell(finished):
    folder, config = finished
    table = pd.read_csv(folder / "results/table_main.csv")
    experiments = load_experiments(load_config(config))
    assert table["method"].tolist() == [experiment.method for experiment in experiments]
    assert table["miou_mean"].between(0, 100).all()
    assert (table["data"] == "synthetic").all()
    assert table.loc[table["method"] == "maskclip_projection", "published"].isna().all()


def test_tables_equal_run_files_and_mlflow(finished):
    folder, config = finished
    workflow = Workflow(load_config(config))
    client = MlflowClient(workflow.config.tracking.uri)
    experiment = client.get_experiment_by_name(workflow.config.tracking.experiment).experiment_id
    sent = {run.data.tags["run_key"]: run for run in client.search_runs([experiment], max_results=1000)}
    assert sent.keys() == workflow.runs.keys()
    for row in pd.read_csv(folder / "results/table_main.csv").itertuples():
        scores = []
        for key in row.run_keys.split():
            metrics = json.loads((folder / "results/runs" / key / "metrics.json").read_text())
            scores.append(100 * metrics["scores"]["miou"])
            assert sent[key].data.metrics["final/scores/miou"] == metrics["scores"]["miou"]
            assert sent[key].data.tags["config"] == row.config
        assert row.miou_mean == pytest.approx(sum(scores) / len(scores), abs=0.005)


def test_pictures_are_drawn(finished):
    folder, _ = finished
    names = {path.stem.rpartition("-")[0] for path in (folder / "results/figures").glob("*.png")}
    assert {
        "annotation_free-clip2scene-fixed",
        "pretrain-clip2scene-fixed",
        "label-fractions",
        "pixels",
    } <= names


def test_nothing_runs_twice(finished):
    folder, config = finished
    run = snakemake(config, "--dry-run", str(folder / "results/table_main.csv"))
    assert "Nothing to be done" in run.stdout + run.stderr


def test_a_changed_setting_runs_only_what_it_bears_on(finished, tmp_path):
    folder, _ = finished
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["finetune"]["epochs"] += 1
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(values))
    run = snakemake(changed, "--dry-run", str(folder / "results/table_main.csv"))
    stats = (run.stdout + run.stderr).partition("Job stats:")[2].partition("Reasons:")[0]
    jobs = set(re.findall(r"^(\w+) +\d+$", stats, re.M))
    assert jobs & {"finetune", "table_main"} == {"finetune", "table_main"}
    assert not jobs & {
        "synthetic_nuscenes",
        "teacher",
        "image_encoder",
        "pretrain",
        "evaluate",
        "superpixels",
    }


def test_the_same_seed_gives_the_same_table(finished, tmp_path):
    folder, _ = finished
    config = configuration(tmp_path)
    run = snakemake(config, str(tmp_path / "results/table_main.csv"))
    assert run.returncode == 0, run.stdout + run.stderr
    for name in ("table_main.csv", "table_per_class.csv"):
        first, second = (root / "results" / name for root in (folder, tmp_path))
        assert without_config(first) == without_config(second)


def without_config(path: Path) -> list[str]:
    """Lines of a table without the configuration's hash, which covers the folders of results and data."""
    return [
        line.rpartition(",")[0] if path.stem == "table_main" else line
        for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "sed: unknown key, did you mean seed?"),
        ({"experiments": "absent.tsv"}, "absent.tsv: no such file"),
        ({"backbones": {"spvcn": {}}}, "did you mean 'spvcn'?"),
    ],
)
def test_bad_configuration_stops_before_the_first_job(tmp_path, change, message):
    run = snakemake(configuration(tmp_path, **change), str(tmp_path / "results/table_main.csv"))
    assert run.returncode != 0
    assert message in run.stdout + run.stderr
    assert not (tmp_path / "results").exists()
