"""Prediction of a validation split by a fine-tuned network or a linear probe."""

from clip2scene.datasets.index import read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.evaluation.predictions import Predictions
from clip2scene.evaluation.validation import predict
from clip2scene.pairing.samples import LabelledSamples
from clip2scene.task import Task
from clip2scene.training.finetune import load_segmenter
from clip2scene.training.loop import launch


def compute(task: Task) -> None:
    """Predict the validation split of a run of the stage ``predict``: ``confusion.npz``.

    Raises:
        InputError: bad input, or no point of the split has a label.
    """
    config, run, record = task.config, task.run, task.record
    data, network = config.datasets[run.target], config.backbones[run.backbone]
    dataset = get_dataset(data.format)
    index = read_index(task.inputs["index"], data.root).split(data.val_split)
    fabric = launch(config, record)
    model = load_segmenter(config, run, task.inputs["network"]).to(fabric.device).eval()
    cylindrical = network.coordinates == "cylindrical"
    samples = LabelledSamples(dataset, index, data.voxel_size, cylindrical, augment=False, seed=run.seed)
    predictions = Predictions(fabric, index, len(dataset.classes), ("all",))
    for number, batch, predicted in predict(fabric, model.classify, samples, config.workers):
        labels = batch.labels.numpy()
        predictions.add("all", number, predicted, labels)
        predictions.keep(record.folder, number, batch.points.numpy(), labels, predicted)
    predictions.save(record, f"data set {run.target}, split {data.val_split}")
