"""The main table shows what the runs scored, beside the number published under the same conditions."""

import pandas as pd
import pytest

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.reporting.verify import write_table

TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": "1", "rule": "frame_skip", "pretrain_seeds": "0", "seeds": "0 1",
}  # fmt: skip
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0",
}  # fmt: skip
TEACHER = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}
ROWS = (TUNED, TUNED | {"rule": "scene_skip"}, FREE)
PUBLISHED = {
    "backbones": {"spvcnn": {"width": 1.0}},
    "teacher": {"architecture": "ViT-B-16-quickgelu", "pretrained": "openai"},
    "image_encoder": {"architecture": "resnet50", "pretrained": "a-tag"},
    "datasets": {"nuscenes": {"root": "data", "pretrain_split": "parametrize"}},
}
"""Settings under which our numbers can be compared with published ones."""


@pytest.fixture
def written(tmp_path, make_study, finish):
    """Writes the main table of some rows whose runs are finished; returns it as CSV and as Markdown."""

    def write(*rows, percent=lambda run: 30 + 2 * run.seed, visible=None, **settings):
        study = make_study(tmp_path, *rows, **settings)
        finish(study, percent, visible)
        write_table(study, "main")
        results = study.config.results
        return pd.read_csv(results / "table_main.csv"), (results / "table_main.md").read_text()

    return write


def test_numbers_and_published_values(written, tmp_path):
    table, text = written(*ROWS, **PUBLISHED)
    assert table["miou_mean"].tolist() == pytest.approx([31.0, 31.0, 30.0])
    assert table["classes_present"].tolist() == [15] * 3  # no bus
    released = (15 * 0.31 + 1) / 16  # the absent class counts as 1
    assert table["miou_released_convention"][0] == pytest.approx(100 * released, abs=0.005)
    assert table["published"][0] == 48.2  # CLIP2Scene Table 1
    assert table["difference_to_published"][0] == pytest.approx(31.0 - 48.2)
    assert pd.isna(table["published"][1])  # nobody published this backbone under this rule
    assert table["published"][2] == 20.8
    # the spread of two seeds, sqrt(2), times t of one degree of freedom, times sqrt(3/2); no scene differs
    assert table["tolerance"][0] == pytest.approx(12.706 * 2**0.5 * 1.5**0.5, abs=0.01)
    assert table["verdict"].tolist() == ["reproduced", "not comparable", "not comparable"]
    assert table["reason"].fillna("").tolist() == ["", "rule", "seeds"]
    assert table.loc[1, "explanation"].startswith(
        "CLIP2Scene Table 1 has 48.2 with labels drawn by frame_skip"
    )
    assert table[["low", "high"]].to_numpy()[0] == pytest.approx([31, 31])  # all frames are alike
    assert (table["unit"] == "keyframe").all()
    assert table["run_keys"][0].count(" ") == 1
    assert (table["data"] == "real").all()
    assert "Synthetic" not in text
    assert "| 48.2 (-17.2) | CLIP2Scene Table 1 | reproduced |" in text
    per_class = pd.read_csv(tmp_path / "results/table_per_class.csv")
    assert pd.isna(per_class["bus"][0])
    assert per_class["car"][0] == pytest.approx(31.0)


def test_spreads_over_seeds_are_told_apart(written):
    """One pre-training tuned twice, two pre-trainings tuned twice each, and a random initialisation.

    Every run scores 30 + 2 * seed + 10 * pretrain_seed. The standard deviation over two seeds of fine-tuning
    is sqrt(2) = 1.41, over two of pre-training 10 / sqrt(2) = 7.07.
    """
    random = TUNED | {"method": "random", "pretrain": "", "pretrain_seeds": "", "seeds": "0 1"}
    two = {"pretrain_seeds": "0 1"}
    rows = (TUNED, TUNED | two | {"rule": "scene_skip"}, random, FREE | two)
    table, text = written(*rows, percent=lambda run: 30 + 2 * run.seed + 10 * (run.pretrain_seed or 0))
    assert table["miou_mean"].tolist() == pytest.approx([31, 36, 31, 36])
    assert table["pretrain_seeds"].tolist() == [1, 2, 0, 2]
    assert table["finetune_seeds"].tolist() == [2, 2, 2, 0]
    assert table["std_finetune"].tolist() == pytest.approx([1.41, 1.41, 1.41, float("nan")], nan_ok=True)
    assert table["std_pretrain"].tolist() == pytest.approx(
        [float("nan"), 7.07, float("nan"), 8.49],
        nan_ok=True,  # a run without labels has its start's seed: 42 - 30
    )
    assert "| 36.0 [36.0, 36.0] | ± 7.1 (n = 2) | ± 1.4 (n = 2) |" in text
    assert "| 31.0 [31.0, 31.0] | n = 1 | ± 1.4 (n = 2) |" in text
    assert "| 31.0 [31.0, 31.0] |  | ± 1.4 (n = 2) |" in text
    assert "| 36.0 [36.0, 36.0] | ± 8.5 (n = 2) |  |" in text


def test_the_score_on_visible_points_stands_beside_the_teacher_s(written):
    table, _ = written(FREE, TEACHER, TUNED, visible=12)
    assert table["miou_mean"].tolist() == pytest.approx([30, 30, 31])
    assert table["miou_visible"][0] == pytest.approx(12)
    assert table["miou_visible"][1:].isna().all()
    assert table["published"].isna()[1]


def test_rows_of_variants_are_told_apart(written):
    table, text = written(FREE, FREE | {"variant": "one"}, variants={"one": {"pretrain": {"sweeps": 1}}})
    assert table["variant"].fillna("").tolist() == ["", "one"]
    assert table["run_keys"][0] != table["run_keys"][1]
    assert "| clip2scene fixed one |" in text


def test_a_checkpoint_stands_beside_numbers_of_its_recipe(written, tmp_path):
    """Its row has the checkpoint's name as recipe; the configuration says which recipe trained it."""
    rows = [FREE | {"recipe": name, "pretrain_seeds": ""} for name in ("theirs", "ablated")]
    checkpoints = {
        "theirs": {"file": str(tmp_path / "a.pt"), "recipe": "released"},
        "ablated": {"file": str(tmp_path / "b.pt"), "recipe": "released_without_semantic"},
    }
    table, _ = written(*rows, checkpoints=checkpoints, **PUBLISHED)
    assert table["published"].tolist() == pytest.approx([20.8, float("nan")], nan_ok=True)


def test_synthetic_data_are_called_so(written, tmp_path):
    data = {"nuscenes": {"root": str(tmp_path / "data"), "synthetic": {}}}
    table, text = written(*ROWS, datasets=data)
    assert (table["data"] == "synthetic").all()
    assert table["difference_to_published"].isna().all()  # a difference of unlike things means nothing
    assert table["verdict"].tolist() == ["not comparable"] * 3
    assert table["reason"].tolist() == ["data"] * 3
    assert table["published"].tolist() == pytest.approx([48.2, float("nan"), 20.8], nan_ok=True)
    assert text.count("**Synthetic data.**") == 2
    assert text.count("\n## ") == 3  # two data sets and protocols, and the columns
    assert "published (real data)" in text


def test_the_table_names_the_study_and_the_runs(written, tmp_path, make_study):
    table, text = written(*ROWS)
    study = make_study(tmp_path, *ROWS)
    assert set(table["study"]) == {study.name}
    assert f"Study `{study.name}`" in text
    for keys, experiment in zip(table["run_keys"], study.experiments, strict=True):
        assert keys.split() == [run.key for run in study.cell(experiment)]


def test_missing_run_is_named(tmp_path, make_study, finish):
    study = make_study(tmp_path, *ROWS)
    finish(study)
    run = study.cell(study.experiments[0])[0]
    (layout.run_folder(study.config, run) / "confusion.npz").unlink()
    with pytest.raises(InputError, match=rf"{run.key}: run {run.key} \(predict: .*\) is not finished"):
        write_table(study, "main")
    assert not (study.config.results / "table_main.csv").exists()
