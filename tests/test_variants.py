"""Variants change what they name and nothing else, in the whole configuration and as a stage resolves it."""

import csv
from pathlib import Path

import pytest

from clip2scene.config import Config, load_config, parse_config
from clip2scene.config_variants import PRESETS
from clip2scene.datasets.vocabulary import PROMPT_SETS
from clip2scene.errors import InputError
from clip2scene.experiment_table import load_experiments
from clip2scene.method.recipe import RECIPES
from clip2scene.runs import flat

ROOT = Path(__file__).parents[1]
SAID = {
    "sweeps_1": {"sweeps": 1},
    "sweeps_5": {"sweeps": 5},
    "merged_sweeps": {"merge_sweeps": True},
    "sweeps_1_prompts_semantickitti": {"sweeps": 1, "prompts": "semantickitti"},
    "sweeps_1_prompts_cityscapes": {"sweeps": 1, "prompts": "cityscapes"},
    "sweeps_1_prompts_all": {"sweeps": 1, "prompts": "all"},
    "teacher_at_crop_size": {},
}
"""Changes that each preset makes to the pre-training of CLIP2Scene."""


@pytest.fixture(scope="module", params=["config.yaml", "paper.yaml"])
def config(request):
    return load_config(ROOT / "config" / request.param).model_copy(
        update={"experiments": ROOT / "config/experiments.tsv"}
    )


def differences(one: Config, other: Config) -> dict[str, object]:
    before, after = (flat(each.model_dump(mode="json", exclude={"variants"})) for each in (one, other))
    return {key: after.get(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_what_it_names_and_nothing_else(config, name):
    expected = {f"pretrain.{key}": value for key, value in SAID[name].items()}
    if name == "teacher_at_crop_size":
        expected = {"teacher.judged_at": "crop"}
    assert differences(config, config.varied(name)) == expected


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("recipe", ["paper", "released", "fixed"])
def test_nothing_stronger_undoes_a_preset(config, name, recipe):
    """A recipe, `by_method` and the data set's own settings prevail over the section `pretrain`."""
    base = config.pretraining("nuscenes", "clip2scene", recipe).model_dump()
    varied = config.varied(name).pretraining("nuscenes", "clip2scene", recipe).model_dump()
    assert {key: value for key, value in varied.items() if base[key] != value} == SAID[name]


def test_the_baseline_of_table_3_has_the_full_methods_sweeps_or_one(config):
    assert config.pretraining("nuscenes", "clip2scene").sweeps == 3
    assert config.pretraining("nuscenes", "clip2scene").prompts == ""


def test_the_teacher_is_judged_as_it_is_or_as_the_student_sees(config):
    assert config.judged_size("nuscenes") is None
    crop = config.pretraining("nuscenes", "clip2scene").crop.size
    assert config.varied("teacher_at_crop_size").judged_size("nuscenes") == crop


def test_every_row_that_a_paper_published_names_what_exists():
    with (ROOT / "results/published/published.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} <= {"", *PRESETS}
    recipes = {recipe for row in rows if row["method"] == "clip2scene" for recipe in row["recipes"].split()}
    assert recipes <= set(RECIPES)
    assert {row["variant"] for row in rows if row["table"] == "ablation"} - {""} == set(SAID) - {
        "teacher_at_crop_size"
    }


def test_a_configuration_may_give_another_meaning_to_a_name():
    values = {"datasets": {"any": {"root": "data"}}, "variants": {"sweeps_1": {"pretrain": {"sweeps": 2}}}}
    config = parse_config(values, "f.yaml")
    assert config.varied("sweeps_1").pretrain.sweeps == 2
    assert config.varied("sweeps_5").pretrain.sweeps == 5


def test_prompt_sets():
    values = {"datasets": {"any": {"root": "data"}}, "pretrain": {"prompts": "cityscape"}}
    with pytest.raises(InputError, match=r"f.yaml: pretrain.prompts: .*'cityscapes'.*found 'cityscape'"):
        parse_config(values, "f.yaml")
    for name in PROMPT_SETS:
        assert parse_config(values | {"pretrain": {"prompts": name}}, "f.yaml").pretrain.prompts == name
    sizes = {name: len(prompts) for name, prompts in PROMPT_SETS.items()}
    assert sizes == {"nuscenes": 16, "semantickitti": 19, "scannet": 20, "cityscapes": 19, "all": 33}
    assert all(len(set(prompts)) == len(prompts) for prompts in PROMPT_SETS.values())


@pytest.mark.parametrize("name", ["config.yaml", "paper.yaml"])
def test_tables_of_experiments_name_what_exists(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_config(f"config/{name}")
    assert load_experiments(config)


def test_on_real_data_fixed_is_chosen_on_scenes_that_no_table_reports():
    config = load_config(ROOT / "config/paper.yaml")
    varied = config.varied("verifying")
    assert differences(config, varied) == {
        "datasets.nuscenes.train_split": "parametrize", "datasets.nuscenes.val_split": "verifying",
    }  # fmt: skip
    assert varied.datasets["nuscenes"].pretrain_split == "parametrize"  # which holds none of `verifying`
