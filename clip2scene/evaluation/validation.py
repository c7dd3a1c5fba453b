"""What a network predicts for every point of a validation set, and what that scores."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from clip2scene.errors import InputError
from clip2scene.evaluation.metrics import Scores
from clip2scene.files import atomic
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.training.meter import progress_bar


def predict(
    fabric: Fabric, network: Callable[[Batch], Tensor], samples: LabelledSamples, workers: int = 0
) -> Iterator[tuple[int, Batch, np.ndarray]]:
    """Predict keyframe by keyframe; of several processes, each takes its share.

    Args:
        fabric: Device and processes.
        network: Scores [V, C] of classes 1..C for the voxels of a batch; it has no score for class 0, which
            therefore is never predicted.
        samples: The validation set.
        workers: Loader processes.

    Yields:
        The keyframe's number, its sample, and the class 1..C predicted for each of its points, [N] int64.
    """
    numbers = range(fabric.global_rank, len(samples), fabric.world_size)
    loader = DataLoader(samples, batch_size=None, sampler=numbers, num_workers=workers)
    with progress_bar(fabric, "evaluate", "frame", len(numbers)) as bar:
        for number, batch in zip(numbers, loader, strict=True):
            with torch.inference_mode():
                voxels = network(batch.to(fabric.device)).argmax(dim=1) + 1  # [V]
            yield number, batch, voxels.cpu()[batch.inverse].numpy()
            bar.update()


def total_scores(fabric: Fabric, classes: tuple[str, ...], confusion: np.ndarray, where: str) -> Scores:
    """The scores of all processes together.

    Args:
        fabric: Device and processes.
        classes: Names of classes 1..C.
        confusion: [C + 1, C + 1] int64, of this process.
        where: What was evaluated, for the message.

    Raises:
        InputError: not one point that was to be scored has a label.
    """
    total = fabric.all_reduce(torch.from_numpy(confusion), reduce_op="sum")
    scores = Scores(classes, total.cpu().numpy())
    if scores.points == 0:
        raise InputError(f"{where}: no point has a label, nothing to evaluate")
    return scores


def save_prediction(path: Path, points: np.ndarray, labels: np.ndarray, prediction: np.ndarray) -> None:
    """Write points [N, 3], labels [N] and predicted classes [N] to an ``.npz`` file, for pictures."""
    with atomic(path) as temporary:
        np.savez_compressed(temporary, points=points, labels=labels, prediction=prediction)
