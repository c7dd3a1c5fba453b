"""Fine-tuning and linear probing: a backbone and a linear classifier on a fraction of the labels."""

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor, nn

from clip2scene.config import Config, Finetuning
from clip2scene.datasets.fractions import read_subset
from clip2scene.datasets.index import Index, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.metrics import Scores, confusion_matrix
from clip2scene.evaluation.validation import predict, save_prediction, total_scores
from clip2scene.method.base import Progress
from clip2scene.models.backbones import build_backbone
from clip2scene.models.weights import write_checkpoint
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.seeding import seed_everything
from clip2scene.training.checkpoint import load_backbone
from clip2scene.training.loop import fit, launch, sgd
from clip2scene.training.losses import segmentation_loss
from clip2scene.training.record import RunRecord


class Segmenter(nn.Module):
    """A backbone and a linear classifier of its features; label 0 has a logit as well, as in SLidR.

    Args:
        backbone: ``backbone(coordinates [V, 4], features [V, F]) -> [V, backbone.out_channels]``.
        classes: C.
        frozen: Linear probing: the backbone takes no gradient and its batch norms keep their statistics.
    """

    def __init__(self, backbone: nn.Module, classes: int, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(not frozen)
        self.head = nn.Linear(backbone.out_channels, classes + 1)
        self.frozen = frozen

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, a frozen backbone excepted."""
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Logits [V, C + 1] of a batch's voxels."""
        return self.head(self.backbone(batch.coordinates, batch.features))

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Cross-entropy + Lovász-softmax over voxels, each with the label of the point that represents it."""
        return {"segmentation": segmentation_loss(self(batch), batch.labels[batch.representative])}

    def classify(self, batch: Batch) -> Tensor:
        """Scores [V, C] of classes 1..C."""
        return self(batch)[:, 1:]


def finetune(
    config: Config,
    backbone_name: str,
    checkpoint: Path | None,
    dataset_name: str,
    index_path: Path,
    subset_path: Path,
    run: RunRecord,
) -> None:
    """Fine-tune (or, if the run's kind is ``linear_probe``, probe) and evaluate on the validation split.

    Args:
        config: The configuration.
        backbone_name: Key of the configuration's `backbones`.
        checkpoint: Of a pre-training run; None starts from random initialisation.
        dataset_name: Key of the configuration's `datasets`.
        index_path: Its index.
        subset_path: Ids of the labelled keyframes (`clip2scene.datasets.fractions`).
        run: Record of the run; its seed is that of initialisation, order and augmentation.

    Raises:
        InputError: bad input, or a loss that is not finite.
    """
    config = config.on(dataset_name)
    data, backbone_config = config.datasets[dataset_name], config.backbones[backbone_name]
    dataset = get_dataset(data.format)
    index = read_index(index_path, data.root)
    fabric = launch(config, run)
    seed_everything(run.seed, "initialisation")
    backbone = build_backbone(backbone_name, dataset.feature_channels, backbone_config.width, config.backend)
    if checkpoint is not None:
        load_backbone(checkpoint, backbone)
    model = Segmenter(backbone, len(dataset.classes), frozen=run.kind == "linear_probe")

    def samples(part: Index, augment: bool) -> LabelledSamples:
        cylindrical = backbone_config.coordinates == "cylindrical"
        return LabelledSamples(dataset, part, data.voxel_size, cylindrical, augment, run.seed)

    cost = _train(
        fabric, model, samples(index.subset(read_subset(subset_path)), True), config, run, checkpoint
    )
    scores = _evaluate(fabric, model, samples(index.split(data.val_split), False), config, run)
    if fabric.is_global_zero:
        write_checkpoint(run.checkpoint, {"state_dict": model.state_dict(), "backbone": backbone_name})
        run.finish({"scores": scores.to_json(), "cost": cost})


def _train(
    fabric: Fabric,
    model: Segmenter,
    samples: LabelledSamples,
    config: Config,
    run: RunRecord,
    checkpoint: Path | None,
) -> dict[str, float]:
    """Train `model`; a subset too small for the minimum number of steps is passed over more often."""
    settings = config.finetune
    steps = math.ceil(len(samples) / settings.batch_size) * settings.epochs
    repeats = max(1, math.ceil(settings.minimum_steps / steps))
    return fit(
        fabric,
        model,
        samples,
        sgd(parameter_groups(model, settings, checkpoint is not None), settings.optimiser),
        run,
        epochs=settings.epochs * repeats,
        batch_size=settings.batch_size,
        workers=config.workers,
    )


def parameter_groups(model: Segmenter, settings: Finetuning, pretrained: bool) -> list[dict[str, Any]]:
    """Parameters with their learning rates.

    SLidR's ``lr_head`` is for the classifier; both released codes give it to parameters named ``final.``,
    which SPVCNN does not have (CLIP2Scene @ f37dae7, downstream/lightning_trainer.py:47).
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


def _evaluate(
    fabric: Fabric, model: Segmenter, samples: LabelledSamples, config: Config, run: RunRecord
) -> Scores:
    """Scores over all points of the validation split; the first keyframe is kept for pictures."""
    classes = samples.dataset.classes
    confusion = np.zeros((len(classes) + 1,) * 2, np.int64)
    model.eval()
    for number, batch, predicted in predict(fabric, model.classify, samples, config.workers):
        labels = batch.labels.numpy()
        confusion += confusion_matrix(predicted, labels, len(classes))
        if number == 0:
            save_prediction(run.folder / "predictions.npz", batch.points.numpy(), labels, predicted)
    return total_scores(fabric, classes, confusion, f"validation split of {samples.index.root}")
