"""Pre-training: the interface of a method, and CLIP2Scene itself."""

from clip2scene.method.recipe import RECIPES
from clip2scene.method.spec import MethodSpec

CLIP2SCENE = MethodSpec(
    implementation="clip2scene.method.clip2scene:Clip2Scene",
    needs=frozenset({"images", "sweeps", "teacher", "text"}),
    recipes=tuple(RECIPES),
)
