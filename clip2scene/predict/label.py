"""Labels and scores of a trained network for every point of scans that have neither labels nor images."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clip2scene.datasets.frame import Frame
from clip2scene.machine import refuse_small_shared_memory
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import _sample as voxelised
from clip2scene.predict.network import Network
from clip2scene.training.loading import batch_bytes, loaded

TEMPERATURE = 10.0
"""Factor of similarities in `relevancy` (LERF, lerf/encoders/openclip_encoder.py)."""


class Clouds(torch.utils.data.Dataset[Batch]):
    """Frames as a network sees them: one cloud each, neither augmented nor labelled."""

    def __init__(self, network: Network, count: int, read: Callable[[int], Frame], root: Path) -> None:
        """Store where the frames come from.

        Args:
            network: Decides the voxels.
            count: Number of frames.
            read: Returns a frame, given its number.
            root: Folder of the frames, for messages.
        """
        self._voxels, self._count = (network.voxel_size, network.cylindrical), count
        self._read, self._root = read, root

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        """Return a frame as a Batch of one.

        Raises:
            InputError: its points lie in one voxel, or too far away.
        """
        frame = self._read(number)
        return voxelised(frame, frame.points, *self._voxels, self._root)


def scores_of(network: Network, clouds: Clouds, workers: int = 0) -> Iterator[Tensor]:
    """Yield the scores [N, C] float32 of each frame's points for classes 1..C.

    Args:
        network: The network.
        clouds: The frames.
        workers: Loader processes.
    """
    refuse_small_shared_memory(workers, lambda: batch_bytes(clouds[0]))
    for batch in loaded(DataLoader(clouds, batch_size=None, num_workers=workers)):
        with torch.inference_mode():
            voxels = network.score(batch.to(network.device))  # [V, C]
        yield voxels.float().cpu()[batch.inverse]


def classes_of(scores: Tensor) -> np.ndarray:
    """Return the class 1..C with the highest score of each point, [N] uint8, given scores [N, C]."""
    return (scores.argmax(dim=1) + 1).to(torch.uint8).numpy()


def relevancy(words: Tensor, prompts: Tensor, rivals: np.ndarray) -> np.ndarray:
    """Return how much better each word fits each point than the names of the classes do.

    A similarity alone ranks points badly: some points are similar to every text. LERF (Kerr et al., ICCV
    2023, section 3.3) therefore compares a word with four phrases ("object", "things", "stuff", "texture"),
    each by a softmax at temperature 1/10, and keeps the worst comparison. Here a word is compared with the
    prompts of the classes, all in one softmax, as in CLIP's zero-shot classifier. A word that means the same
    as a prompt then shares with it instead of being ruled out by it.

    Args:
        words: [N, W] similarities of the words.
        prompts: [N, C] similarities of the prompts.
        rivals: [W, C] bool, prompts that each word competes with: those that are not the word itself.

    Returns:
        [N, W] float32, 0 to 1.
    """
    own, others = torch.exp(TEMPERATURE * words), torch.exp(TEMPERATURE * prompts)
    return (own / (own + others @ torch.from_numpy(rivals).float().T)).numpy()


def top_points(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the `count` points that fit each word best, the best first.

    Args:
        scores: [N, W], see `relevancy`.
        count: How many; all points if there are fewer.

    Returns:
        [W, count] int64. Of equal points, which lie in one voxel, the first in the file comes first.
    """
    return np.argsort(-scores.T, axis=1, kind="stable")[:, :count]
