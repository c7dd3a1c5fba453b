"""The choices that the paper, its released code and a sound reading of both make differently (no torch)."""

from dataclasses import dataclass, replace
from typing import Literal

from clip2scene.errors import unknown


@dataclass(frozen=True)
class Recipe:
    """Every choice in CLIP2Scene's losses.

    Attributes:
        semantic: ``eq1``: equation 1 as printed, a contrast between the points of a class and all others,
            summed over classes. ``cross_entropy``: of each point over classes, mean over pairs.
            ``weighted_cross_entropy``: the same, rare classes weighted up.
        temperature: tau of the semantic loss.
        normalise: L2-normalise point and pixel features, so that their scalar products are cosines.
        normalise_images: Give the teacher images as it was trained on (mean, standard deviation), not in
            0..1.
        teacher_gelu: Run the teacher's ViT with GELU, as MaskCLIP does, not with the QuickGELU that it was
            trained with.
        agreement: What points agree with in the spatial-temporal loss: the fused feature of their ``cells``,
            equations 2 to 4, or a linear map of their own ``pixels``, 1 - cosine, mean over pairs; then the
            choices from fusion to `cell_cap` have no part.
        fusion: ``pixels_and_points``: equations 3 and 4. ``points``: attention and fused feature over points
            only.
        attention_text: Whose text attends: each pair's own (``pair``, equation 4), or that of the first pair
            of the cell (``first``).
        attention_temperature: lambda of equation 4.
        reduction: Of the spatial-temporal loss. ``sum_per_cell``: equation 2, summed over pairs, divided by
            the number of cells. ``mean``: over pairs. ``padded_mean``: over `cell_cap` slots a cell, of which
            each that no pair fills counts 1 - sigmoid(0).
        cell_cap: Only this many pairs of a cell are kept, the first; None keeps all.
        semantic_weight, spatial_temporal_weight: Factors on the two losses; at 0 a loss is not computed.
        self_training_start: Switchable self-training runs from this share of the epochs on.
        self_training_probability: Probability of a label being the network's own; 0 turns self-training off.
        self_training_granularity: Whether all labels of a ``batch`` switch together, or each ``pair`` by
            itself.
    """

    semantic: Literal["eq1", "cross_entropy", "weighted_cross_entropy"]
    temperature: float
    normalise: bool
    normalise_images: bool
    teacher_gelu: bool
    fusion: Literal["pixels_and_points", "points"]
    attention_text: Literal["pair", "first"]
    reduction: Literal["sum_per_cell", "mean", "padded_mean"]
    self_training_start: float
    agreement: Literal["cells", "pixels"] = "cells"
    attention_temperature: float = 1.0
    cell_cap: int | None = None
    semantic_weight: float = 1.0
    spatial_temporal_weight: float = 1.0
    self_training_probability: float = 0.5
    self_training_granularity: Literal["batch", "pair"] = "batch"


PAPER = Recipe(
    semantic="eq1",
    temperature=0.5,
    normalise=True,
    normalise_images=True,
    teacher_gelu=True,
    fusion="pixels_and_points",
    attention_text="pair",
    reduction="sum_per_cell",
    self_training_start=10 / 20,
)
"""Equations 1 to 4 as printed, self-training "after 10 epochs" of 20. Where the paper is silent (loss
weights, probability and granularity of self-training) it follows the released code. The paper does not say
that point features are normalised, but its scalar products are with CLIP's unit vectors, and without it
equation 1, whose positives are not in the denominator, has no lower bound: features then grow without end (to
1e14 in 200 steps at the released learning rate, in a toy problem)."""

RELEASED = Recipe(
    semantic="cross_entropy",
    temperature=1.0,
    normalise=False,
    normalise_images=False,
    teacher_gelu=True,
    fusion="points",
    attention_text="first",
    reduction="padded_mean",
    cell_cap=8,
    self_training_start=11 / 20,
)
"""What runnanchen/CLIP2Scene @ f37dae7 computes (pretrain/lightning_trainer.py ``loss_nuscenes``,
model/fusionNet.py) where it does not crash: self-training at ``epoch > 10`` of 20, counted from 0. Its
self-training on points without a pixel is left out, as its result is overwritten there before it is used."""

RELEASED_SCANNET = replace(RELEASED, agreement="pixels", self_training_start=10 / 30)
"""What it computes on ScanNet (``scannet_loss``): no cells, but a cosine with the pixel's own values, through
a linear map that learns too (model/maskclip_model.py ``image_mapping_local``); self-training at ``epoch >=
10`` of 30."""

FIXED = Recipe(
    semantic="weighted_cross_entropy",
    temperature=0.07,
    normalise=True,
    normalise_images=True,
    teacher_gelu=False,
    fusion="pixels_and_points",
    attention_text="pair",
    reduction="mean",
    self_training_start=10 / 20,
)
"""The paper's structure with well-posed reductions. Equation 1 contrasts the points of a batch under one
text and never the texts of one point, which is what evaluation compares; so the contrast is over classes,
as in the released code, with rare classes weighted up, which the sum over classes of equation 1 does and
the released mean over points does not. Equation 2 is a mean over pairs (so that its scale does not depend
on how many share a cell). Cosines lie in -1..1, and at the paper's tau of 0.5 no two logits differ by
more than 4, so tau is SLidR's 0.07. (Annotation-free mIoU on the embedded data after 320 steps, one seed:
equation 1 with the positives in the denominator 16.5, the mean over points 19.8, over classes 25.0, the
weights used here 27.2.)"""


def _with_ablations(name: str, recipe: Recipe) -> dict[str, Recipe]:
    """A recipe and what Table 3 takes from it, one loss or self-training at a time."""
    return {
        name: recipe,
        f"{name}_without_semantic": replace(recipe, semantic_weight=0.0),
        f"{name}_without_spatial_temporal": replace(recipe, spatial_temporal_weight=0.0),
        f"{name}_without_self_training": replace(recipe, self_training_probability=0.0),
        f"{name}_baseline": replace(recipe, spatial_temporal_weight=0.0, self_training_probability=0.0),
        f"{name}_self_training_only": replace(recipe, self_training_probability=1.0),
    }


RECIPES = (
    _with_ablations("paper", PAPER)
    | _with_ablations("released", RELEASED)
    | {"released_scannet": RELEASED_SCANNET}
    | _with_ablations("fixed", FIXED)
)
"""Recipes by name, those of the paper's ablation (Table 3; its numbers of sweeps are set in the
configuration)."""


def get_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name not in RECIPES:
        raise unknown("recipe of method clip2scene", name, RECIPES)
    return RECIPES[name]
