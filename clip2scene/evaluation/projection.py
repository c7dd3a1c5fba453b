"""Evaluation of the teacher: MaskCLIP's labels, projected onto the points that a camera sees."""

import numpy as np
import torch
from torch import Tensor

from clip2scene.datasets.frame import Frame
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.evaluation.annotation_free import load_text
from clip2scene.evaluation.predictions import Predictions
from clip2scene.models.maskclip import MaskCLIP, load_maskclip, sample_features
from clip2scene.pairing.augmentation import View
from clip2scene.pairing.projection import project
from clip2scene.task import Task
from clip2scene.training.loop import launch
from clip2scene.training.meter import progress_bar


def compute(task: Task) -> None:
    """Predict the validation split of a run of the stage ``projection``: ``confusion.npz``.

    It fills the row ``maskclip_projection`` of the table. Images are whole, not cropped, at their own size or
    at that of the crops from which the student learns (`Teacher.judged_at`). Only labelled points that a
    camera sees are counted: compare with the visible points of annotation-free evaluation.

    Raises:
        InputError: no point that a camera sees has a label.
    """
    config, run, record = task.config, task.run, task.record
    data = config.datasets[run.target]
    dataset = get_dataset(data.format)
    index = read_index(task.inputs["index"], data.root).split(data.val_split)
    fabric = launch(config, record)
    maskclip = load_maskclip(task.inputs["teacher"], image_scale=config.teacher.image_scale)
    maskclip = maskclip.to(fabric.device)
    embeddings = load_text(task.inputs["text"], len(dataset.classes)).to(fabric.device)
    if embeddings.shape[1] != maskclip.embed_dim:
        raise InputError(
            f"{task.inputs['text']}: text embeddings of width {embeddings.shape[1]}; expected "
            f"{maskclip.embed_dim}, as {task.inputs['teacher']}"
        )
    predictions = Predictions(fabric, index, len(dataset.classes), ("visible",))
    numbers = range(fabric.global_rank, len(index), fabric.world_size)
    with progress_bar(fabric, "evaluate", "frame", len(numbers)) as bar:
        for number in numbers:
            frame = load_frame(dataset, index.root, index.frames.iloc[number])
            predicted = project_labels(maskclip, embeddings, frame, config.judged_size(run.target))
            predictions.add("visible", number, predicted, np.where(predicted > 0, frame.labels, 0))
            predictions.keep(record.folder, number, frame.points, frame.labels, predicted)
            bar.update()
    predictions.save(record, f"data set {run.target}, split {data.val_split}")


@torch.inference_mode()
def project_labels(
    maskclip: MaskCLIP, text: Tensor, frame: Frame, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the class that MaskCLIP sees at each point; of several cameras the highest score decides.

    Args:
        maskclip: Teacher.
        text: [C, D] float32 text embeddings.
        frame: Keyframe of N points.
        size: Height and width to which images are resized, pixels; None: as they are.

    Returns:
        [N] int64: 1..C, and 0 where no camera sees the point.
    """
    best = torch.full((len(frame.points),), -torch.inf)
    classes = torch.zeros(len(frame.points), dtype=torch.int64)
    for camera in frame.cameras:
        view = View((0, 0, *camera.size), size or camera.size, mirrored=False)
        point, row, column = project(frame.points, camera)
        point, row, column = map(torch.from_numpy, (point, *view.locate(row, column)))
        image = torch.from_numpy(view.image(camera.image, camera.size).copy()).permute(2, 0, 1)[None]
        features = maskclip(image.to(text.device))  # [1, D, h, w]
        pixel = (index.to(text.device) for index in (torch.zeros_like(point), row, column))
        scores = sample_features(features, *pixel, view.size) @ text.T  # [M, C]
        score, label = (values.cpu() for values in scores.max(dim=1))
        better = score > best[point]
        best[point[better]], classes[point[better]] = score[better], label[better] + 1
    return classes.numpy()
