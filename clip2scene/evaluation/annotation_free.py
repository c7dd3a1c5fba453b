"""Annotation-free evaluation: backbone features against text embeddings of the target's class names."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clip2scene.config import Config
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.evaluation.metrics import confusion_matrix
from clip2scene.evaluation.validation import predict, save_prediction, total_scores
from clip2scene.method.base import Method, Resources
from clip2scene.method.registry import get_method
from clip2scene.models.backbones import build_backbone
from clip2scene.models.prompts import load_text_embeddings
from clip2scene.models.weights import load_weights
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.projection import pair
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.training.checkpoint import read_pretrained
from clip2scene.training.loop import launch
from clip2scene.training.record import RunRecord


def evaluate_annotation_free(
    config: Config, checkpoint: Path, text: Path, dataset_name: str, index_path: Path, run: RunRecord
) -> None:
    """Evaluate a pre-trained method on a validation split without a label having been used.

    ``metrics.json`` gets the scores over all points and, as ``scores_visible``, over the points that a
    camera sees, which are those that the teacher's own labels can be judged on
    (`clip2scene.evaluation.projection`); not where the data set has no images. ``predictions.npz`` gets the
    first keyframe.

    Args:
        config: The configuration.
        checkpoint: Of a pre-training run.
        text: Text embeddings of the target's prompts.
        dataset_name: Key of the target in the configuration.
        index_path: Its index.
        run: Record of this run.

    Raises:
        InputError: the checkpoint does not fit, or its method has no text alignment.
    """
    data = config.datasets[dataset_name]
    dataset = get_dataset(data.format)
    index = read_index(index_path, data.root).split(data.val_split)
    fabric = launch(config, run)
    method, meta = load_method(config, checkpoint, text, dataset.feature_channels)
    method = method.to(fabric.device).eval()
    embeddings = load_text(text, len(dataset.classes)).to(fabric.device)

    def network(batch: Batch) -> Tensor:
        return method.classify(method.backbone(batch.coordinates, batch.features), embeddings)

    cylindrical = meta["coordinates"] == "cylindrical"
    samples = LabelledSamples(dataset, index, data.voxel_size, cylindrical, augment=False, seed=run.seed)
    size = len(dataset.classes) + 1
    everywhere, visible = np.zeros((2, size, size), np.int64)
    for number, batch, classes in predict(fabric, network, samples, config.workers):
        labels = batch.labels.numpy()
        everywhere += confusion_matrix(classes, labels, len(dataset.classes))
        frame = load_frame(dataset, index.root, index.frames.iloc[number], labels=False)
        seen = np.zeros_like(labels)
        seen[pair(frame).point] = 1
        visible += confusion_matrix(classes, labels * seen, len(dataset.classes))
        if number == 0:
            save_prediction(run.folder / "predictions.npz", batch.points.numpy(), labels, classes)
    where = f"data set {dataset_name}, split {data.val_split}"
    scores = {"scores": total_scores(fabric, dataset.classes, everywhere, where)}
    if index.has_images.any():
        seen_by = f"{where}, points that a camera sees"
        scores["scores_visible"] = total_scores(fabric, dataset.classes, visible, seen_by)
    if fabric.is_global_zero:
        run.finish({name: values.to_json() for name, values in scores.items()})


def load_method(config: Config, checkpoint: Path, text: Path, channels: int) -> tuple[Method, dict[str, Any]]:
    """The method of a pre-training checkpoint with its weights, and the checkpoint's ``meta``.

    Args:
        config: The configuration.
        checkpoint: Written by `clip2scene.training.pretrain.pretrain`.
        text: Text embeddings, from which a method knows the width of the joint space.
        channels: Input channels of the backbone.

    Raises:
        InputError: the file is no such checkpoint, or lacks weights that the method has.
    """
    content = read_pretrained(checkpoint)
    meta = content["meta"]
    backbone = build_backbone(meta["backbone"], channels, meta["width"], config.backend)
    load_weights(backbone, content["backbone"], checkpoint)
    method = get_method(meta["method"])(config, meta["recipe"], backbone, Resources(text=text))
    unloaded = method.load_state_dict(content["method"], strict=False).missing_keys
    if missing := [name for name in unloaded if not name.startswith("backbone.")]:
        raise InputError(f"{checkpoint}: lacks {', '.join(missing)} of method {meta['method']}")
    return method, meta


def load_text(path: Path, classes: int) -> Tensor:
    """Text embeddings [C, D].

    Raises:
        InputError: the file holds something else, or another number of classes than `classes`.
    """
    embeddings = load_text_embeddings(path)
    if len(embeddings) != classes:
        raise InputError(f"{path}: text embeddings of {len(embeddings)} classes; expected {classes}")
    return embeddings
