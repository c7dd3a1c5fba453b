"""The table shows what the run files hold, beside the number published under the same rule."""

import json
from pathlib import Path

import pandas as pd
import pytest

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.experiments import load_experiments, runs_of
from clip2scene.reporting.tables import read_published, write_tables

PUBLISHED = Path(__file__).parents[2] / "results/published/published.csv"
ROWS = """\
protocol	method	recipe	backbone	pretrain	target	percent	rule	pretrain_seeds	seeds
finetune	slidr		spvcnn	nuscenes	nuscenes	1	frame_skip	0	0 1
finetune	slidr		spvcnn	nuscenes	nuscenes	1	scene_skip	0	0 1
annotation_free	clip2scene	fixed	spvcnn	nuscenes	nuscenes			0
"""


@pytest.fixture
def finished(tmp_path):
    """A configuration whose runs are finished: seed s scored 0.30 + 0.02 s."""
    (tmp_path / "experiments.tsv").write_text(ROWS)

    def make(synthetic: bool) -> Config:
        data = {"root": "data", "synthetic": {} if synthetic else None}
        config = Config(
            experiments=tmp_path / "experiments.tsv",
            results=tmp_path,
            datasets={"nuscenes": data},
            teacher={"pretrained": "train" if synthetic else "openai"},
        )
        classes = get_dataset("nuscenes").classes
        for run in [run for e in load_experiments(config) for run in runs_of(config, e)]:
            miou = 0.30 + 0.02 * run.seed
            scores = {
                "miou": miou,
                "miou_released": 0.5,
                "classes_present": 15,
                "iou": dict.fromkeys(classes, miou),
            }
            scores["iou"]["bus"] = None
            path = layout.metrics(config, run)
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"scores": scores}))
        return config

    return make


def test_numbers_and_published_values(finished, tmp_path):
    write_tables(finished(synthetic=False), "0123456789ab", PUBLISHED)
    table = pd.read_csv(tmp_path / "table_main.csv")
    assert table["miou_mean"].tolist() == pytest.approx([31.0, 31.0, 30.0])
    assert table["miou_std"][0] == pytest.approx(1.41, abs=0.01)  # of 30 and 32, n - 1
    assert table["seeds"].tolist() == [2, 2, 1]
    assert table["published"][0] == 48.2  # CLIP2Scene Table 1
    assert table["difference"][0] == pytest.approx(31.0 - 48.2)
    assert pd.isna(table["published"][1])  # nobody published this backbone under this rule
    assert table["published"][2] == 20.8
    assert table["run_keys"][0].count(" ") == 1
    per_class = pd.read_csv(tmp_path / "table_per_class.csv")
    assert pd.isna(per_class["bus"][0])
    assert per_class["car"][0] == pytest.approx(31.0)


def test_synthetic_data_are_called_so(finished, tmp_path):
    write_tables(finished(synthetic=True), "0123456789ab", PUBLISHED)
    table, text = pd.read_csv(tmp_path / "table_main.csv"), (tmp_path / "table_main.md").read_text()
    assert (table["data"] == "synthetic").all()
    assert table["difference"].isna().all()  # a difference of unlike things means nothing
    assert text.count("**Synthetic data.**") == text.count("\n## ") == 2
    assert "published (real data)" in text


def test_missing_run_is_named(finished, tmp_path):
    config = finished(synthetic=True)
    run = runs_of(config, load_experiments(config)[0])[0]
    layout.metrics(config, run).unlink()
    with pytest.raises(InputError, match=f"{run.key}/metrics.json: no such file"):
        write_tables(config, "", PUBLISHED)
    assert not (tmp_path / "table_main.csv").exists()


def test_published_numbers_have_a_source_and_a_rule():
    numbers = read_published(PUBLISHED)
    assert len(numbers) == 127
    assert (numbers["source"] != "").all()
    drawn = numbers["label_percent"].between(0, 100, inclusive="neither")
    assert ((numbers["fraction_rule"] != "") == drawn).all()
