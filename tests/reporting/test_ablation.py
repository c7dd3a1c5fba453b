"""The ablation table: each row against its base row, with the settings that it changes and nothing else."""

import pandas as pd
import pytest

from clip2scene.reporting.base import read_cells
from clip2scene.reporting.comparisons import bases, changes
from clip2scene.reporting.verify import verify, write_table

FULL = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0 1", "tables": "main ablation",
}  # fmt: skip
ONE_SWEEP = FULL | {"variant": "sweeps_1", "tables": "ablation"}
BASELINE = FULL | {"recipe": "fixed_baseline", "variant": "sweeps_1", "tables": "ablation"}
PROMPTS = BASELINE | {"variant": "sweeps_1_prompts_cityscapes"}
ALONE = FULL | {"recipe": "fixed_without_semantic", "tables": "ablation"}
ROWS = (FULL, ONE_SWEEP, BASELINE, PROMPTS, ALONE)
MIOU = {
    ("fixed", ""): 30, ("fixed", "sweeps_1"): 28, ("fixed_baseline", "sweeps_1"): 20,
    ("fixed_baseline", "sweeps_1_prompts_cityscapes"): 15, ("fixed_without_semantic", ""): 3,
}  # fmt: skip


@pytest.fixture
def study(tmp_path, make_study, finish):
    made = make_study(tmp_path, *ROWS)
    finish(made, lambda run: MIOU[run.recipe, run.variant] + 2 * run.pretrain_seed)
    return made


def test_a_row_s_base_is_the_nearest_row_before_it(study):
    named = [
        (cell.experiment.recipe, base and (base.experiment.recipe, base.experiment.variant))
        for cell, base in bases(study, read_cells(study, "ablation"))
    ]
    assert named == [
        ("fixed", None),
        ("fixed", ("fixed", "")),
        ("fixed_baseline", ("fixed", "sweeps_1")),
        ("fixed_baseline", ("fixed_baseline", "sweeps_1")),
        ("fixed_without_semantic", ("fixed", "")),
    ]


def test_what_a_row_changes_is_what_its_name_says(study):
    full, one, baseline, prompts, alone = study.experiments
    assert changes(study, one, full) == {"pretrain.training.sweeps": (3, 1)}
    assert changes(study, baseline, one) == {
        "pretrain.recipe.self_training_probability": (0.5, 0.0),
        "pretrain.recipe.spatial_temporal_weight": (1.0, 0.0),
    }
    assert changes(study, alone, full) == {"pretrain.recipe.semantic_weight": (1.0, 0.0)}
    assert set(changes(study, prompts, baseline)) >= {"pretrain.training.prompts"}
    assert all("prompts" in name for name in changes(study, prompts, baseline))


def test_differences_to_the_base_row_beside_the_published_ones(study):
    write_table(study, "ablation")
    table = pd.read_csv(study.config.results / "table_ablation.csv", keep_default_na=False)
    assert table["miou_mean"].astype(float).tolist() == [31, 29, 21, 16, 4]
    assert table["difference"].tolist() == ["", "-2.00", "-8.00", "-5.00", "-27.00"]
    for end in ("difference_low", "difference_high"):  # all keyframes are alike
        assert table[end].tolist() == table["difference"].tolist()
    assert table["std_pretrain"].astype(float).tolist() == [1.41] * 5
    assert table["base"][2] == "clip2scene fixed sweeps_1 (spvcnn)"
    assert table["base"][3] == "clip2scene fixed_baseline sweeps_1 (spvcnn)"
    assert table["changes"][1] == "pretrain.training.sweeps: 3 → 1"
    assert table["comparisons"].tolist()[1:] == ["4"] * 4
    assert verify(study, "ablation") == []
    text = (study.config.results / "table_ablation.md").read_text()
    row = (
        "| clip2scene fixed sweeps_1 (spvcnn) | clip2scene fixed (spvcnn) | pretrain.training.sweeps: 3 → 1 |"
    )
    assert row in text


def test_published_differences_are_to_the_same_base(tmp_path, make_study, finish):
    """Table 3 at full width: 18.7 - 20.8, 15.1 - 18.7 and 11.3 - 15.1."""
    settings = {
        "backbones": {"spvcnn": {"width": 1.0}},
        "teacher": {"architecture": "ViT-B-16", "pretrained": "openai"},
        "datasets": {"nuscenes": {"root": str(tmp_path / "data"), "pretrain_split": "parametrize"}},
    }
    made = make_study(tmp_path, *ROWS[:4], **settings)
    finish(made, lambda run: MIOU[run.recipe, run.variant] + run.pretrain_seed)
    write_table(made, "ablation")
    table = pd.read_csv(made.config.results / "table_ablation.csv")
    assert table["published"].tolist() == [20.8, 18.7, 15.1, 11.3]
    assert table["published_difference"][1:].tolist() == pytest.approx([-2.1, -3.6, -3.8])


def test_its_rows_are_compared_with_their_base_alone(study):
    write_table(study, "results")
    found = pd.read_csv(study.config.results / "comparisons.csv")
    assert found["metric"].tolist() == ["ablation_difference"] * 4
