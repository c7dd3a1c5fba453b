"""CLIP2Scene (Chen et al., CVPR 2023): CLIP's semantics distilled into a 3D network through pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip2scene.blockwise import normalise_
from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.method.base import Method, Progress, Resources
from clip2scene.method.recipe import get_recipe
from clip2scene.method.self_training import switch_labels
from clip2scene.method.semantic import divergence, semantic_loss
from clip2scene.method.spatial_temporal import pixel_disagreement, spatial_temporal_loss
from clip2scene.models.maskclip import load_maskclip, sample_features
from clip2scene.models.prompts import load_text_embeddings
from clip2scene.pairing.batch import Batch
from clip2scene.precision import in_float32


class Clip2Scene(Method):
    """A 3D backbone with linear maps into CLIP's joint space, trained against a frozen MaskCLIP teacher.

    The semantic and the spatial-temporal loss each have their own linear map ("different learnable linear
    layers", paper 3.3). The released SPVCNN calls them ``point_mapping_global`` (semantic) and
    ``point_mapping_local`` (spatial-temporal), the released MinkUNet ``final`` and ``local_feature``.

    Annotation-free evaluation uses the semantic map, or the spatial-temporal one in a recipe without the
    semantic loss. A recipe with `agreement` ``pixels`` also maps the teacher's values linearly
    (``image_mapping_local``), during training only.
    """

    def __init__(self, config: Config, recipe: str, backbone: nn.Module, resources: Resources) -> None:
        """Build the linear maps and load the texts and, if given, the teacher.

        Args:
            config: Configuration.
            recipe: Key of `clip2scene.method.recipe.RECIPES`.
            backbone: 3D network to pre-train.
            resources: Text embeddings, and the teacher unless the method is only evaluated.

        Raises:
            InputError: there is no such recipe, or the text embeddings are not the teacher's.
        """
        super().__init__(config, recipe, backbone, resources)
        self.recipe = get_recipe(recipe)
        self.backbone = backbone
        self.register_buffer("text", load_text_embeddings(resources.text), persistent=False)  # [C, D]
        sizes = backbone.out_channels, self.text.shape[1]
        self.semantic = nn.Linear(*sizes) if self.recipe.semantic_weight else None
        self.spatial_temporal = nn.Linear(*sizes) if self.recipe.spatial_temporal_weight else None
        if resources.teacher:
            choices = self.recipe.normalise_images, config.teacher.image_scale, self.recipe.teacher_gelu
            self.teacher = load_maskclip(resources.teacher, *choices)
            if self.teacher.embed_dim != sizes[1]:
                raise InputError(
                    f"{resources.text}: text embeddings have {sizes[1]} channels; expected "
                    f"{self.teacher.embed_dim}, as {resources.teacher} has"
                )
            if self.recipe.agreement == "pixels":
                self.image_mapping = nn.Linear(self.teacher.value_channels, sizes[1])

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the semantic and the spatial-temporal loss over the point-pixel pairs of all sweeps."""
        if len(batch.pair_point) == 0:
            raise InputError(f"frames {', '.join(batch.ids)}: no point falls into any image")
        recipe, losses = self.recipe, {}
        # Many pairs share a voxel, so the linear maps run once per paired voxel instead of once per pair.
        voxel, of_pair = torch.unique(batch.inverse[batch.pair_point], return_inverse=True)
        # before the teacher: the backbone's kernel maps wait for what a GPU has been given
        features = self.backbone(batch.coordinates, batch.features).index_select(0, voxel)
        values = self.teacher.values(batch.images)
        pixels = self.at_pixels(self.teacher.to_joint_space(values), batch)
        pixels = normalise_(pixels) if recipe.normalise else pixels
        labels = similarity(pixels, self.text).argmax(dim=1)  # [M], pseudo labels

        if self.semantic is not None:
            scores = similarity(self.embed(self.semantic, features), self.text).index_select(
                0, of_pair
            )  # [M, C]
            if recipe.semantic == "kl":
                loss = divergence(
                    scores, similarity(F.normalize(pixels, dim=1), self.text), recipe.temperature
                )
            else:
                loss = semantic_loss(scores, switch_labels(labels, scores, recipe, progress), recipe)
            losses["semantic"] = recipe.semantic_weight * loss
        if self.spatial_temporal is not None:
            points = self.embed(self.spatial_temporal, features)  # [V, D]
            if recipe.agreement == "pixels":
                pixels = self.image_mapping(self.at_pixels(values, batch))
                loss = pixel_disagreement(points.index_select(0, of_pair), pixels)
            else:
                cell = batch.grid_cell[batch.pair_point]
                loss = spatial_temporal_loss(points, pixels, labels, self.text, cell, recipe, of_pair)
            losses["spatial_temporal"] = recipe.spatial_temporal_weight * loss
        return losses

    @staticmethod
    def at_pixels(maps: Tensor, batch: Batch) -> Tensor:
        """Sample image feature maps [L, C, h, w] at the pixel of each pair; returns [M, C] float32."""
        pixel = batch.pair_image, batch.pair_row, batch.pair_column
        return sample_features(maps.float(), *pixel, batch.images.shape[-2:])

    def embed(self, linear: nn.Linear, features: Tensor) -> Tensor:
        """Map backbone features [V, F] to CLIP's joint space; returns [V, D] float32.

        They are L2-normalised if the recipe says so.
        """
        points = linear(features).float()
        return normalise_(points) if self.recipe.normalise else points

    def classify(self, features: Tensor, text: Tensor) -> Tensor:
        """Return dot products [V, C] of embedded features [V, F] with texts [C, D]; there is no class 0."""
        linear = self.semantic if self.semantic is not None else self.spatial_temporal
        return similarity(self.embed(linear, features), text)


@in_float32
def similarity(features: Tensor, text: Tensor) -> Tensor:
    """Return dot products [N, C] of features [N, D] with the texts [C, D] of C classes."""
    return features @ text.T
