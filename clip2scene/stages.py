"""From a run of the table of experiments to the function that computes it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from clip2scene import layout
from clip2scene.config import Config
from clip2scene.experiments import Run
from clip2scene.machine import keep_freed_memory, lease_gpu
from clip2scene.training.record import RunRecord
from clip2scene.workflow import Workflow


def compute(workflow: Workflow, key: str) -> None:
    """Compute a run into its folder, unless it is finished; a killed one continues where it was.

    Each stage imports its own libraries: fine-tuning starts without CLIP, the teacher without 3D networks.

    Raises:
        InputError: bad input; the run's folder then holds no ``metrics.json``.
    """
    config, run = workflow.config, workflow.runs[key]
    folder, inputs = layout.run_folder(config, run), workflow.inputs(key)
    record = RunRecord.of(folder, run.kind, run.parameters(config), run.seed, inputs, workflow.code(key))
    if not record.finished:
        keep_freed_memory()
        lease_gpu(config)
        _STAGES[run.kind](workflow, run, record)


def _teacher(workflow: Workflow, run: Run, record: RunRecord) -> None:
    from clip2scene.training.teacher import prepare_teacher

    config = workflow.config
    captions = [layout.captions(config, name) for name in run.pretrain.split()]
    _prepare(workflow, record, partial(prepare_teacher, config.teacher, captions))


def _encoder(workflow: Workflow, run: Run, record: RunRecord) -> None:
    from clip2scene.datasets.index import read_index
    from clip2scene.training.encoder import prepare_encoder

    config, images = workflow.config, []
    for name in run.pretrain.split():
        data = config.datasets[name]
        index = read_index(layout.index(config, name), data.root).split(data.pretrain_split)
        images += [index.root / image for row in index.frames["camera_images"] for image in row]
    _prepare(workflow, record, partial(prepare_encoder, config.image_encoder, images))


def _prepare(
    workflow: Workflow, record: RunRecord, prepare: Callable[[Path, int], list[dict[str, float]]]
) -> None:
    """Run a stage that writes one checkpoint and returns the metrics of its steps, on the CPU."""
    import pandas as pd
    import torch

    torch.set_num_threads(workflow.config.threads)
    record.begin(workflow.config, "cpu")
    record.rewind_log(0)
    steps = pd.DataFrame(prepare(record.checkpoint, record.seed))
    for step, values in enumerate(steps.to_dict("records")):
        record.log({"step": step, **values})
    record.finish(steps.tail(max(1, len(steps) // 10)).mean().to_dict())


def _pretrain(workflow: Workflow, run: Run, record: RunRecord) -> None:
    from clip2scene.method.base import Resources
    from clip2scene.training.pretrain import pretrain

    config, needs = workflow.config, workflow.resources(run)
    superpixels = needs.pop("superpixels", None)
    index = layout.index(config, run.pretrain)
    pretrain(
        config,
        run.method,
        run.recipe,
        run.backbone,
        run.pretrain,
        Resources(**needs),
        index,
        superpixels,
        record,
    )


def _annotation_free(workflow: Workflow, run: Run, record: RunRecord) -> None:
    from clip2scene.evaluation.annotation_free import evaluate_annotation_free

    config = workflow.config
    checkpoint, text = _network(config, run), layout.text(config, run.target)
    index = layout.index(config, run.target)
    evaluate_annotation_free(config, checkpoint, text, run.target, index, record)


def _projection(workflow: Workflow, run: Run, record: RunRecord) -> None:
    from clip2scene.evaluation.projection import evaluate_projection

    config = workflow.config
    text, index = layout.text(config, run.target), layout.index(config, run.target)
    evaluate_projection(config, layout.teacher(config), text, run.target, index, record)


def _finetune(workflow: Workflow, run: Run, record: RunRecord) -> None:
    from clip2scene.training.finetune import finetune

    config = workflow.config
    index = layout.index(config, run.target)
    subset = layout.subset(config, run.target, run.rule, run.percent)
    finetune(config, run.backbone, _network(config, run), run.target, index, subset, record)


def _network(config: Config, run: Run) -> Path | None:
    """The checkpoint that a run starts from; one from elsewhere must be what the table's row says."""
    from clip2scene.training.checkpoint import describe, require

    path = layout.pretrained(config, run)
    if run.recipe in config.checkpoints:
        require(path, describe(config, run.method, run.backbone, run.pretrain))
    return path


_STAGES: dict[str, Callable[[Workflow, Run, RunRecord], None]] = {
    "teacher": _teacher,
    "encoder": _encoder,
    "pretrain": _pretrain,
    "annotation_free": _annotation_free,
    "projection": _projection,
    "finetune": _finetune,
    "linear_probe": _finetune,
}
