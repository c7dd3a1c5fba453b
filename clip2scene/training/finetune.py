"""Fine-tuning and linear probing: a backbone and a linear classifier on a share of the labels."""

import math
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from clip2scene.config import Config, Finetuning
from clip2scene.datasets.fractions import read_subset
from clip2scene.datasets.index import read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.method.base import Progress
from clip2scene.models.backbones import build_backbone
from clip2scene.models.weights import load_weights, part, read_checkpoint, write_checkpoint
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.run_files import refuse_changed
from clip2scene.runs import Run
from clip2scene.seeding import seed_everything
from clip2scene.task import Task
from clip2scene.training.batch_norm import synchronise
from clip2scene.training.checkpoint import expected_start, load_backbone, require
from clip2scene.training.distributed import gathered
from clip2scene.training.loop import fit, launch, sgd
from clip2scene.training.losses import segmentation_loss
from clip2scene.training.validation import Validation, validation_samples


class Segmenter(nn.Module):
    """A backbone and a linear classifier of its features; label 0 has a logit too, as in SLidR.

    Args:
        backbone: ``backbone(coordinates [V, 4], features [V, F]) -> [V, backbone.out_channels]``.
        classes: C.
        frozen: Linear probing: the backbone gets no gradient, and its batch norm statistics stay fixed.
    """

    def __init__(self, backbone: nn.Module, classes: int, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(not frozen)
        self.head = nn.Linear(backbone.out_channels, classes + 1)
        self.frozen = frozen

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [V, C + 1] of a batch's voxels."""
        return self.head(self.backbone(batch.coordinates, batch.features))

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return cross-entropy + Lovász-softmax over the voxels of all processes.

        A voxel has the label of its first point.
        """
        labels = batch.labels[batch.representative]
        return {"segmentation": segmentation_loss(gathered(self(batch)), gathered(labels))}

    def classify(self, batch: Batch) -> Tensor:
        """Return scores [V, C] of classes 1..C."""
        return self(batch)[:, 1:]


def compute(task: Task) -> None:
    """Fine-tune the network of a run of the stage ``finetune`` or ``linear_probe``: ``checkpoint.pt``.

    Raises:
        InputError: bad input, or a loss that is not finite.
    """
    config, run, record = task.config, task.run, task.record
    data, network = config.datasets[run.target], config.backbones[run.backbone]
    settings, dataset = config.finetuning(run.target, run.backbone), get_dataset(data.format)
    fabric = launch(config, record)
    seed_everything(run.seed, "initialisation")
    model = build_segmenter(config, run)
    if start := task.inputs.get("network"):
        require(start, expected_start(config, run))
        load_backbone(start, model.backbone)
    synchronise(model)
    ids = read_subset(task.inputs["subset"], data.train_split, run.rule or "all", run.percent)
    index, cylindrical = read_index(task.inputs["index"], data.root), network.coordinates == "cylindrical"
    samples = LabelledSamples(
        dataset, index.subset(ids), data.voxel_size, cylindrical, augment=True, seed=run.seed
    )
    held_out = validation_samples(fabric, index, data, config.validation, ids, cylindrical)
    cost = fit(
        fabric,
        model,
        samples,
        sgd(parameter_groups(model, settings, start is not None), settings.optimiser),
        record,
        epochs=_epochs(settings, len(samples)),
        batch_size=settings.batch_size,
        workers=config.workers,
        schedule=settings.optimiser.schedule,
        checkpoint_minutes=config.checkpoint_minutes,
        validation=held_out and Validation(fabric, model, model.classify, held_out, config.validation.every),
    )
    if fabric.is_global_zero:
        write_checkpoint(record.checkpoint, {"state_dict": model.state_dict(), "backbone": run.backbone})
        record.finish({"frames": len(samples), "cost": cost})
    fabric.barrier()  # the next run of this process may read this one


def build_segmenter(config: Config, run: Run) -> Segmenter:
    """Return the network of a fine-tuning, probing or predicting run, at random initialisation."""
    dataset = get_dataset(config.datasets[run.target].format)
    width = config.backbones[run.backbone].width
    backbone = build_backbone(run.backbone, dataset.feature_channels, width, config.backend)
    return Segmenter(backbone, len(dataset.classes), frozen="linear_probe" in (run.kind, run.protocol))


def load_segmenter(config: Config, run: Run, path: Path) -> Segmenter:
    """Return the network that `compute` wrote to `path`.

    Raises:
        InputError: the file holds something else.
    """
    model = build_segmenter(config, run)
    content = read_checkpoint(path)
    weights = part(content, "state_dict", path, "a tuned network (state_dict, backbone)")
    if content.get("backbone") != run.backbone:
        raise InputError(f"{path}: backbone is {content.get('backbone')!r}; expected {run.backbone!r}")
    load_weights(model, weights, path)
    refuse_changed(path)
    return model


def _epochs(settings: Finetuning, samples: int) -> int:
    """Return the number of epochs; a subset too small for the minimum number of steps is repeated."""
    steps = math.ceil(samples / settings.batch_size) * settings.epochs
    return settings.epochs * max(1, math.ceil(settings.minimum_steps / steps))


def parameter_groups(model: Segmenter, settings: Finetuning, pretrained: bool) -> list[dict[str, Any]]:
    """Return the parameters with their learning rates.

    SLidR's ``lr_head`` is the classifier's. Both released codes give it to parameters named ``final.``, of
    which SPVCNN has none (CLIP2Scene @ f37dae7, downstream/lightning_trainer.py:47).
    """
    backbone, head = list(model.backbone.parameters()), list(model.head.parameters())
    if model.frozen:
        return [{"params": head, "lr": settings.probe_learning_rate}]
    if not pretrained:
        return [{"params": [*backbone, *head], "lr": settings.random_learning_rate}]
    return [
        {"params": backbone, "lr": settings.optimiser.learning_rate},
        {"params": head, "lr": settings.head_learning_rate},
    ]
