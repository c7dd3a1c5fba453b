"""Prediction of every point of a validation split by a 3D network."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from clip2scene.machine import refuse_small_shared_memory
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.training.loading import batch_bytes, loaded
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
        Number of the keyframe, its sample, and the class 1..C predicted for each of its points, [N] int64.
    """
    numbers = range(fabric.global_rank, len(samples), fabric.world_size)
    refuse_small_shared_memory(workers, lambda: batch_bytes(samples[0]))
    loader = DataLoader(samples, batch_size=None, sampler=numbers, num_workers=workers)
    with progress_bar(fabric, "evaluate", "frame", len(numbers)) as bar:
        for number, batch in zip(numbers, loaded(loader), strict=True):
            with torch.inference_mode():
                voxels = network(batch.to(fabric.device)).argmax(dim=1) + 1  # [V]
            yield number, batch, voxels.cpu()[batch.inverse].numpy()
            bar.update()
