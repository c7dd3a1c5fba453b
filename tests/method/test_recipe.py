import subprocess
import sys
from dataclasses import asdict

import pytest

from clip2scene.errors import InputError
from clip2scene.method.recipe import RECIPES, get_recipe


def changed(name, other):
    return {key for key, value in asdict(RECIPES[name]).items() if value != asdict(RECIPES[other])[key]}


def test_ablations_change_what_table_3_takes_away():
    assert changed("paper", "paper_without_semantic") == {"semantic_weight"}
    assert changed("paper", "paper_without_spatial_temporal") == {"spatial_temporal_weight"}
    assert changed("paper", "paper_without_self_training") == {"self_training_probability"}


def test_unknown_recipe_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"'fixd'.*did you mean 'fixed'"):
        get_recipe("fixd")


def test_names_of_methods_and_recipes_need_no_torch():
    code = "import sys, clip2scene.method, baselines; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
