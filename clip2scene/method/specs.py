"""Entry point of CLIP2Scene in the group ``clip2scene.methods``. This module does not import torch."""

from dataclasses import asdict

from clip2scene.method.recipe import RECIPES, training_of
from clip2scene.method.spec import MethodSpec

CLIP2SCENE = MethodSpec(
    implementation="clip2scene.method.clip2scene:Clip2Scene",
    needs=frozenset({"images", "sweeps", "teacher", "text"}),
    recipes={name: asdict(recipe) for name, recipe in RECIPES.items()},
    training={name: training_of(name) for name in RECIPES},
)
