"""A published number stands beside ours only if all that it depends on agrees."""

from pathlib import Path

import pytest

from clip2scene.errors import InputError
from clip2scene.experiments import Experiment
from clip2scene.method.recipe import RECIPES
from clip2scene.method.spec import method_names, method_spec
from clip2scene.models.architectures import architecture
from clip2scene.reporting.published import published, read_published

PUBLISHED = Path(__file__).parents[2] / "results/published/published.csv"
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": [0],
}  # fmt: skip
TUNED = {
    "protocol": "finetune", "method": "slidr", "backbone": "spvcnn", "pretrain": "nuscenes",
    "target": "nuscenes", "percent": 1, "rule": "frame_skip", "pretrain_seeds": [0], "seeds": [0],
}  # fmt: skip


@pytest.fixture(scope="module")
def numbers():
    return read_published(PUBLISHED)


def beside(numbers, values, width=1.0, synthetic=False):
    experiment = Experiment(**values)
    return published(experiment, experiment.recipe, width, synthetic, numbers)


@pytest.mark.parametrize("recipe", ["paper", "released", "fixed"])
def test_recipes_that_compute_what_was_published(numbers, recipe):
    assert beside(numbers, FREE | {"recipe": recipe}) == (20.8, "CLIP2Scene Table 2")


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"paper", "released", "fixed"}))
def test_other_recipes_do_not_stand_beside_the_method_s_own_number(numbers, recipe):
    """An ablation has its number in Table 3, or none that is clear."""
    value, source = beside(numbers, FREE | {"recipe": recipe})
    if recipe.endswith("_without_self_training"):
        assert (value, source) == (18.8, "CLIP2Scene Table 3")
    else:
        assert (value, source) == (None, "")


def test_ablations_need_their_variant_too(numbers):
    """Table 3's baseline has one sweep, its prompts are nuScenes' or others."""
    ablated = FREE | {"recipe": "fixed_baseline"}
    assert beside(numbers, ablated | {"variant": "sweeps_1"}) == (15.1, "CLIP2Scene Table 3")
    assert beside(numbers, ablated) == (None, "")
    assert beside(numbers, FREE | {"variant": "sweeps_1"}) == (18.7, "CLIP2Scene Table 3")
    assert beside(numbers, FREE | {"variant": "sweeps_5"}) == (20.6, "CLIP2Scene Table 3")
    assert beside(numbers, FREE | {"variant": "mine"}) == (None, "")
    assert beside(numbers, TUNED) == (48.2, "CLIP2Scene Table 1")
    assert beside(numbers, TUNED | {"variant": "sweeps_1"}) == (None, "")


@pytest.mark.parametrize(("width", "synthetic", "value"), [
    (1.0, False, 48.2), (0.5, False, None), (0.125, True, 48.2), (1.0, True, 48.2),
])  # fmt: skip
def test_networks_of_another_width_are_not_compared_on_real_data(numbers, width, synthetic, value):
    """On synthetic data the number only shows which cell this is."""
    assert beside(numbers, TUNED, width, synthetic)[0] == value


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "linear_probe"}, {"backbone": "minkunet14a"}, {"target": "scannet"},
        {"pretrain": "semantickitti"}, {"percent": 2}, {"rule": "scene_skip"}, {"percent": 100, "rule": ""},
    ],
)  # fmt: skip
def test_every_condition_counts(numbers, change):
    """Each of these has another number, or none."""
    assert beside(numbers, TUNED | change)[0] != 48.2


def test_scannet_has_its_own_released_recipe(numbers):
    rooms = FREE | {"backbone": "minkunet14a", "pretrain": "scannet", "target": "scannet"}
    assert beside(numbers, rooms | {"recipe": "released_scannet"})[0] == 25.08
    assert beside(numbers, rooms | {"recipe": "released"}) == (None, "")


def test_numbers_that_are_not_clear_stand_beside_nothing(numbers):
    """Those of another work's repetition, and those of a table that contradicts itself."""
    for recipe in ("fixed_without_semantic", "fixed_without_spatial_temporal", "fixed_self_training_only"):
        assert beside(numbers, FREE | {"recipe": recipe}) == (None, "")
    ours = numbers.assign(confidence="primary")
    assert beside(ours, FREE | {"recipe": "fixed_without_semantic"})[0] == 16.8


def test_the_teacher_has_no_published_number(numbers):
    row = {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"}
    assert beside(numbers, row) == (None, "")


def test_published_numbers_have_a_source_and_a_rule(numbers):
    assert len(numbers) == 127
    assert (numbers["source"] != "").all()
    drawn = numbers["label_percent"].between(0, 100, inclusive="neither")
    assert ((numbers["fraction_rule"] != "") == drawn).all()


def test_numbers_of_our_methods_name_our_recipes_and_networks(numbers):
    """A recipe that is renamed would lose its numbers silently; README.md names the ones to come."""
    to_come = {f"{name}_kl_distillation" for name in ("paper", "released", "fixed")}
    ours = numbers[numbers["method"].isin(method_names())]
    assert len(ours) > 60
    for row in ours.itertuples():
        assert set(row.recipes.split() or [""]) - to_come <= set(method_spec(row.method).recipes), row
        assert architecture(row.backbone)


HEADER = PUBLISHED.read_text().splitlines()[0]
ROW = "main,finetune,random,,,spvcnn,,nuscenes,{percent},frame_skip,mIoU,{value},a paper,primary"


def table(folder, *rows, header=HEADER):
    lines = [header, *(ROW.format(**({"percent": 1, "value": 42.2} | row)) for row in rows)]
    (folder / "published.csv").write_text("\n".join(lines) + "\n")
    return folder / "published.csv"


@pytest.mark.parametrize("value", ["2080", "100.1", "-1", "unknown", "", "4²", "nan"])
@pytest.mark.parametrize("column", ["value", "percent"])
def test_what_is_no_percentage_is_named_with_its_line(tmp_path, column, value):
    """As an editor counts lines: the header is the first."""
    path = table(tmp_path, {"value": 1}, {"percent": 5}, {column: value})
    name = {"value": "value", "percent": "label_percent"}[column]
    with pytest.raises(InputError, match=rf"published.csv: line 4: {name}: expected a number from 0 to 100"):
        read_published(path)


@pytest.mark.parametrize("value", ["0", "100", "20.8", "1e1"])
def test_percentages_are_read(tmp_path, value):
    assert read_published(table(tmp_path, {"value": value}))["value"].tolist() == [float(value)]


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        read_published(tmp_path / "absent.csv")
    header = HEADER.replace("recipes", "recipe").replace("variant", "variants")
    with pytest.raises(InputError, match=r"published.csv: columns recipes, variant are missing"):
        read_published(table(tmp_path, {}, header=header))


def test_the_first_of_several_numbers_is_the_method_s_own(numbers):
    """20.8 is printed in Tables 2 and 3."""
    both = numbers[(numbers["value"] == 20.8) & (numbers["method"] == "clip2scene")]
    assert both["source"].tolist() == ["CLIP2Scene Table 2", "CLIP2Scene Table 3"]
