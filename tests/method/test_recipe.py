import subprocess
import sys
from dataclasses import asdict

import pytest

from clip2scene.config import parse_config
from clip2scene.errors import InputError
from clip2scene.method.recipe import RECIPES, get_recipe
from clip2scene.method.specs import CLIP2SCENE


def changed(name, other):
    return {key for key, value in asdict(RECIPES[name]).items() if value != asdict(RECIPES[other])[key]}


SEMANTIC, SPATIAL, SWITCH = "semantic_weight", "spatial_temporal_weight", "self_training_probability"
ABLATIONS = {
    "without_semantic": {SEMANTIC: 0.0},
    "without_spatial_temporal": {SPATIAL: 0.0},
    "without_self_training": {SWITCH: 0.0},
    "baseline": {SPATIAL: 0.0, SWITCH: 0.0},
    "self_training_only": {SWITCH: 1.0},
    "kl_distillation": {"semantic": "kl", SPATIAL: 0.0, SWITCH: 0.0},
    "normalised_images": {"normalise_images": True},
    "raw_images": {"normalise_images": False},
    "normalised_features": {"normalise": True},
    "temperature_0.07": {"temperature": 0.07},
    "temperature_0.5": {"temperature": 0.5},
    "temperature_1": {"temperature": 1.0},
    "fusion_of_points": {"fusion": "points"},
    "fusion_with_pixels": {"fusion": "pixels_and_points"},
    "switch_of_pairs": {"self_training_granularity": "pair"},
}
"""Fields of a recipe that each ending of its name changes."""


def endings():
    for name in RECIPES:
        base, _, ending = name.partition("_")
        if ending and name != "released_scannet":
            yield base, ending


@pytest.mark.parametrize(("base", "ending"), list(endings()))
def test_an_ablation_changes_what_its_name_says_and_nothing_else(base, ending):
    said = dict(ABLATIONS[ending])
    if ending == "kl_distillation" and base == "paper":
        said["temperature"] = 1.0  # equation 1's tau is none of a divergence's
    there = asdict(RECIPES[base])
    assert changed(base, f"{base}_{ending}") == {key for key, value in said.items() if there[key] != value}
    assert asdict(RECIPES[f"{base}_{ending}"]) == there | said
    training = CLIP2SCENE.training
    assert training[f"{base}_{ending}"] == training[base]


def test_every_recipe_has_the_ablations_of_table_3_and_the_choices_that_it_has_not_made():
    for base in ("paper", "released", "fixed"):
        there = asdict(RECIPES[base])
        expected = {e for e, said in ABLATIONS.items() if any(there[k] != v for k, v in said.items())}
        assert {ending for other, ending in endings() if other == base} == expected
    assert {e for base, e in endings() if base == "released"} >= {"normalised_features", "fusion_with_pixels"}
    assert {e for base, e in endings() if base == "fixed"} >= {"raw_images", "switch_of_pairs"}


def test_released_brings_what_its_code_does_beyond_the_losses():
    config = parse_config({"datasets": {"any": {"root": "data"}}}, "test")
    plain = config.pretraining("any", "clip2scene", "paper").model_dump()
    released = config.pretraining("any", "clip2scene", "released").model_dump()
    scannet = config.pretraining("any", "clip2scene", "released_scannet").model_dump()
    optimiser = plain["optimiser"] | {"schedule": "epoch"}
    assert released == scannet == plain | {"augmentation": "cloud", "optimiser": optimiser}
    assert config.pretraining("any", "clip2scene", "released_baseline").model_dump() == released
    mine = {"pretrain": {"by_method": {"clip2scene": {"augmentation": "sample"}}}}
    config = parse_config({"datasets": {"any": {"root": "data"}}, **mine}, "test")
    assert config.pretraining("any", "clip2scene", "released").augmentation == "sample"


def test_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"'fixd'.*did you mean 'fixed'"):
        get_recipe("fixd")


def test_names_of_methods_and_recipes_need_no_torch():
    code = "import sys, clip2scene.method, baselines; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
