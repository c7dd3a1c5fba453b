"""Annotation-free evaluation: backbone features against text embeddings of the target's class names."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clip2scene.config import Config
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.evaluation.predictions import Predictions
from clip2scene.evaluation.validation import predict
from clip2scene.method.base import Method, Resources
from clip2scene.method.registry import get_method
from clip2scene.models.backbones import build_backbone
from clip2scene.models.prompts import load_text_embeddings
from clip2scene.models.weights import load_weights
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.projection import pair
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.run_files import refuse_changed
from clip2scene.task import Task
from clip2scene.training.checkpoint import expected_start, read_pretrained, require
from clip2scene.training.loop import launch


def compute(task: Task) -> None:
    """Predict the validation split of a run of the stage ``annotation_free``: ``confusion.npz``.

    It holds all points and, where the data set has images, the points that a camera sees: the teacher's own
    labels can be judged on those alone (`clip2scene.evaluation.projection`).

    Raises:
        InputError: the checkpoint does not fit, or its method has no text alignment.
    """
    config, run, record = task.config, task.run, task.record
    data = config.datasets[run.target]
    dataset = get_dataset(data.format)
    index = read_index(task.inputs["index"], data.root).split(data.val_split)
    fabric = launch(config, record)
    checkpoint, text = task.inputs["network"], task.inputs["text"]
    require(checkpoint, expected_start(config, run))
    method, meta = load_method(config, checkpoint, text, dataset.feature_channels)
    method = method.to(fabric.device).eval()
    embeddings = load_text(text, len(dataset.classes)).to(fabric.device)

    def network(batch: Batch) -> Tensor:
        return method.classify(method.backbone(batch.coordinates, batch.features), embeddings)

    cylindrical = meta["coordinates"] == "cylindrical"
    samples = LabelledSamples(dataset, index, data.voxel_size, cylindrical, augment=False, seed=run.seed)
    point_sets = ("all", "visible") if index.has_images.any() else ("all",)
    predictions = Predictions(fabric, index, len(dataset.classes), point_sets)
    for number, batch, predicted in predict(fabric, network, samples, config.workers):
        labels = batch.labels.numpy()
        predictions.add("all", number, predicted, labels)
        if "visible" in point_sets:
            frame = load_frame(dataset, index.root, index.frames.iloc[number], labels=False)
            seen = np.zeros_like(labels)
            seen[pair(frame).point] = 1
            predictions.add("visible", number, predicted, labels * seen)
        predictions.keep(record.folder, number, batch.points.numpy(), labels, predicted)
    predictions.save(record, f"data set {run.target}, split {data.val_split}")


def load_method(config: Config, checkpoint: Path, text: Path, channels: int) -> tuple[Method, dict[str, Any]]:
    """Return the method of a pre-training checkpoint with its weights, and the checkpoint's ``meta``.

    Args:
        config: The configuration.
        checkpoint: Written by `clip2scene.training.pretrain.compute`.
        text: Text embeddings, which tell a method the width of the joint space.
        channels: Input channels of the backbone.

    Raises:
        InputError: the file is no such checkpoint, lacks weights that the method has, or was trained with
            texts of another width.
    """
    content = read_pretrained(checkpoint)
    meta = content["meta"]
    backbone = build_backbone(meta["backbone"], channels, meta["width"], config.backend)
    method = get_method(meta["method"])(config, meta["recipe"], backbone, Resources(text=text))
    weights = {f"backbone.{name}": value for name, value in content["backbone"].items()} | content["method"]
    # modules that training alone uses are not built here
    own = method.state_dict()
    width = load_text_embeddings(text).shape[1]
    for name, value in content["method"].items():
        trained = value.shape[:1] if isinstance(value, Tensor) else ()
        if name in own and own[name].shape[:1] == (width,) and len(trained) and trained != (width,):
            raise InputError(
                f"{text}: text embeddings of width {width}; expected {trained[0]}, as {name} of {checkpoint}"
            )
    load_weights(method, {name: value for name, value in weights.items() if name in own}, checkpoint)
    refuse_changed(checkpoint)
    return method, meta


def load_text(path: Path, classes: int) -> Tensor:
    """Read text embeddings [C, D] float32.

    Raises:
        InputError: the file holds something else, or another number of classes than `classes`.
    """
    embeddings = load_text_embeddings(path)
    if len(embeddings) != classes:
        raise InputError(f"{path}: text embeddings of {len(embeddings)} classes; expected {classes}")
    refuse_changed(path)
    return embeddings
