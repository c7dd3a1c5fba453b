"""How good the teacher is: MaskCLIP's labels, projected onto the points that a camera sees."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clip2scene.config import Config
from clip2scene.datasets.frame import Frame
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.annotation_free import load_text
from clip2scene.evaluation.metrics import confusion_matrix
from clip2scene.evaluation.validation import save_prediction, total_scores
from clip2scene.models.maskclip import MaskCLIP, load_maskclip, sample_features
from clip2scene.pairing.images import read_image
from clip2scene.pairing.projection import project
from clip2scene.training.loop import launch
from clip2scene.training.meter import progress_bar
from clip2scene.training.record import RunRecord


def evaluate_projection(
    config: Config, teacher: Path, text: Path, dataset_name: str, index_path: Path, run: RunRecord
) -> None:
    """Evaluate MaskCLIP's labels on a validation split: the row ``maskclip_projection`` of the table.

    Images are whole, not cropped. The scores are over the labelled points that a camera sees, and are to be
    compared with ``scores_visible`` of annotation-free evaluation. ``predictions.npz`` gets the first
    keyframe.

    Args:
        config: The configuration.
        teacher: The CLIP checkpoint.
        text: Text embeddings of the target's prompts.
        dataset_name: Key of the target in the configuration.
        index_path: Its index.
        run: Record of this run.
    """
    data = config.datasets[dataset_name]
    dataset = get_dataset(data.format)
    index = read_index(index_path, data.root).split(data.val_split)
    fabric = launch(config, run)
    maskclip = load_maskclip(teacher, image_scale=config.teacher.image_scale).to(fabric.device)
    embeddings = load_text(text, len(dataset.classes)).to(fabric.device)
    confusion = np.zeros((len(dataset.classes) + 1,) * 2, np.int64)
    numbers = range(fabric.global_rank, len(index), fabric.world_size)
    with progress_bar(fabric, "evaluate", "frame", len(numbers)) as bar:
        for number in numbers:
            frame = load_frame(dataset, index.root, index.frames.iloc[number])
            classes = project_labels(maskclip, embeddings, frame)
            confusion += confusion_matrix(
                classes, np.where(classes > 0, frame.labels, 0), len(dataset.classes)
            )
            if number == 0:
                save_prediction(run.folder / "predictions.npz", frame.points, frame.labels, classes)
            bar.update()
    where = f"data set {dataset_name}, split {data.val_split}, points that a camera sees"
    scores = total_scores(fabric, dataset.classes, confusion, where)
    if fabric.is_global_zero:
        run.finish({"scores": scores.to_json()})


@torch.inference_mode()
def project_labels(maskclip: MaskCLIP, text: Tensor, frame: Frame) -> np.ndarray:
    """The class that MaskCLIP sees at each point; of several cameras, the one with the highest score.

    Args:
        maskclip: The teacher.
        text: [C, D] text embeddings.
        frame: A keyframe of N points.

    Returns:
        [N] int64: 1..C, and 0 where no camera sees the point.
    """
    best = torch.full((len(frame.points),), -torch.inf)
    classes = torch.zeros(len(frame.points), dtype=torch.int64)
    for camera in frame.cameras:
        point, row, column = map(torch.from_numpy, project(frame.points, camera))
        image = torch.from_numpy(read_image(camera.image).copy()).permute(2, 0, 1)[None]  # [1, 3, H, W]
        features = maskclip(image.to(text.device))  # [1, D, h, w]
        pixel = (index.to(text.device) for index in (torch.zeros_like(point), row, column))
        scores = sample_features(features, *pixel, camera.size) @ text.T  # [M, C]
        score, label = (values.cpu() for values in scores.max(dim=1))
        better = score > best[point]
        best[point[better]], classes[point[better]] = score[better], label[better] + 1
    return classes.numpy()
