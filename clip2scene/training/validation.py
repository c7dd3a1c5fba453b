"""Validation while a network is trained: mIoU on a few labelled keyframes."""

import sys
from collections.abc import Callable, Collection

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from clip2scene.config import DatasetConfig
from clip2scene.config import Validation as Settings
from clip2scene.datasets.index import Index
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.confusion import confusion_matrix
from clip2scene.evaluation.metrics import Scores
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import LabelledSamples

SPLIT = "verifying"
"""SLidR's split for choices between runs: 100 of nuScenes' 700 training scenes."""


class Validation:
    """Measures a network every few steps, on all processes together.

    It draws no random number and leaves batch norm statistics alone, so a run ends with the same weights
    whether it is validated or not.

    Args:
        fabric: Device and processes; all of them must call `after` at the same steps.
        module: Module in training; it is in evaluation mode while it is measured.
        network: Scores [V, C] of classes 1..C for the voxels of a batch.
        samples: Labelled keyframes.
        every: Steps between two validations.
    """

    def __init__(
        self,
        fabric: Fabric,
        module: nn.Module,
        network: Callable[[Batch], Tensor],
        samples: LabelledSamples,
        every: int,
    ) -> None:
        self._fabric, self._module, self._network, self._samples = fabric, module, network, samples
        self._every, self._classes = every, samples.dataset.classes

    def after(self, steps: int) -> dict[str, float]:
        """Return what is measured after `steps` steps: ``validation_miou``, or nothing if it is not time."""
        if steps % self._every:
            return {}
        self._module.eval()
        size = len(self._classes) + 1
        counts = np.zeros((size, size), np.int64)
        for number in range(self._fabric.global_rank, len(self._samples), self._fabric.world_size):
            batch = self._samples[number]
            with torch.no_grad():
                voxels = self._network(batch.to(self._fabric.device)).argmax(dim=1) + 1
            counts += confusion_matrix(
                voxels.cpu()[batch.inverse].numpy(), batch.labels.numpy(), len(self._classes)
            )
        self._module.train()
        total = self._fabric.all_reduce(torch.from_numpy(counts), reduce_op="sum").cpu().numpy()
        return {"validation_miou": Scores(self._classes, total).miou}


def validation_samples(
    fabric: Fabric,
    index: Index,
    data: DatasetConfig,
    settings: Settings,
    trained_on: Collection[str],
    cylindrical: bool,
) -> LabelledSamples | None:
    """Return the keyframes on which a network is validated while it is trained, evenly spaced in time.

    They are those of the split `SPLIT`, unless it shares keyframes with the split for evaluation (as that of
    SemanticKITTI does); then those of the training split. Keyframes that the network learns from are left out
    where others are left. Nothing of the split for evaluation is ever used.

    Args:
        fabric: Processes, of which the first says on standard error which keyframes these are.
        index: Every keyframe of the data set.
        data: The data set.
        settings: Number of keyframes; nothing is done where `every` is 0.
        trained_on: Identifiers of the keyframes that the network learns from.
        cylindrical: True for cylindrical voxels.

    Returns:
        The samples; None if validation is off, or no such keyframe has a label.
    """
    if not settings.every:
        return None
    frames = index.frames[index.frames["labels"].notna()]
    splits = frames["splits"].map(set)
    final = splits.map(lambda names: data.val_split in names)
    of_split = splits.map(lambda names: SPLIT in names)
    name = SPLIT if of_split.any() and not (of_split & final).any() else data.train_split
    chosen = splits.map(lambda names: name in names) & ~final
    learnt = frames["id"].isin(list(trained_on))
    unseen = (chosen & ~learnt).any()
    frames = frames[chosen & ~learnt] if unseen else frames[chosen]
    if frames.empty:
        if fabric.is_global_zero:
            found = f"no labelled keyframe in {SPLIT} or {data.train_split} of {data.root}"
            print(f"warning: validation: {found}; the run is not validated on its way", file=sys.stderr)
        return None
    places = np.linspace(0, len(frames) - 1, min(settings.frames, len(frames))).round().astype(int)
    samples = index.subset(frames["id"].iloc[places])
    if fabric.is_global_zero:
        seen = "does not learn from" if unseen else "also learns from, as there are no others"
        print(f"validation: {len(samples)} keyframes of {name}, which the run {seen}", file=sys.stderr)
    return LabelledSamples(
        get_dataset(index.format), samples, data.voxel_size, cylindrical, augment=False, seed=0
    )
