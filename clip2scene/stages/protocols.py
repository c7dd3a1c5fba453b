"""Protocols: how a pre-trained network is judged, and the prediction in which each of them ends."""

from dataclasses import replace
from typing import Any, ClassVar

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import TEACHER, Experiment
from clip2scene.method.spec import method_spec
from clip2scene.runs import Product, Run, Source
from clip2scene.stages import base
from clip2scene.stages.training import Teacher, pretraining


class Finetune(base.Protocol):
    """Fine-tunes a 3D network and a linear classifier on a share of the labels."""

    function: ClassVar[str] = "clip2scene.training.finetune:compute"
    message: ClassVar[str] = "Fine-tune"
    gpu: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    shares_process: ClassVar[bool] = True

    def cell(self, config: Config, experiment: Experiment) -> list[Run]:
        """Return the predictions of the networks tuned from every seed of pre-training with every seed."""
        tuned = Run("predict", protocol=self.name, **_fields(experiment))
        starts = experiment.pretrain_seeds or (None,)
        return [
            replace(tuned, pretrain_seed=start, seed=seed) for start in starts for seed in experiment.seeds
        ]

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return all that decides the tuned network: data, tuning, architecture, machine."""
        section = config.datasets[run.target]
        return {
            "data": base.data(config, run.target),
            "voxel_size": section.voxel_size,
            "tuning": config.finetuning(run.target, run.backbone).model_dump(exclude={"by_backbone"}),
            "network": base.network(config, run),
            **base.machine(config),
        }

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the labelled keyframes and the pre-trained network."""
        split = config.datasets[run.target].train_split
        subset = Run("subset", target=run.target, percent=run.percent, rule=run.rule, variant=run.variant)
        return {
            "index": base.index_product(run, run.target, split),  # the subset says what of it is read
            "subset": Product(subset, "subset.json", ("points", "labels")),
            **_start(config, run),
        }

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the modules of the data set and the network."""
        return (*base.reader(config, run.target), base.backbone_module(run))


class LinearProbe(Finetune):
    """Trains a linear classifier on a frozen 3D network."""

    message: ClassVar[str] = "Train a linear probe"


class Predict(base.Stage):
    """Predicts a validation split with a tuned network: a confusion matrix a keyframe."""

    function: ClassVar[str] = "clip2scene.evaluation.tuned:compute"
    message: ClassVar[str] = "Predict"
    gpu: ClassVar[bool] = True
    shares_process: ClassVar[bool] = True

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the validation data, the architecture and the machine."""
        return _validation(config, run) | {"network": base.network(config, run)}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the validation split and the tuned network."""
        tuned = replace(run, kind=run.protocol, protocol="")
        return {"index": _labelled(config, run), "network": Product(tuned)}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the modules of the data set and the network."""
        return (*base.reader(config, run.target), base.backbone_module(run))


class AnnotationFree(base.Protocol):
    """Predicts a validation split without a label: features against text embeddings of the class names."""

    function: ClassVar[str] = "clip2scene.evaluation.annotation_free:compute"
    message: ClassVar[str] = "Predict without labels"
    gpu: ClassVar[bool] = True
    shares_process: ClassVar[bool] = True
    labelled: ClassVar[bool] = False

    def check(self, config: Config, experiment: Experiment) -> None:
        """Raise an InputError if the method does not align points with text."""
        if experiment.method != TEACHER and "text" not in method_spec(experiment.method).needs:
            raise InputError(
                f"method {experiment.method} does not align points with text, so that it cannot be judged "
                "without labels"
            )

    def cell(self, config: Config, experiment: Experiment) -> list[Run]:
        """Return a prediction for every seed of pre-training; or the teacher's own labels."""
        if experiment.method == TEACHER:
            return [Run("projection", **_fields(experiment))]
        run = Run(self.name, **_fields(experiment))
        starts = experiment.pretrain_seeds or (None,)
        return [replace(run, pretrain_seed=seed, seed=seed or 0) for seed in starts]

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the validation data, the architecture and the machine."""
        return _validation(config, run) | {"network": base.network(config, run)}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the validation split, the target's text embeddings and the pre-trained network."""
        text = Product(Run("text", target=run.target, variant=run.variant), "text.pt")
        return {"index": _labelled(config, run, "images"), "text": text, **_start(config, run)}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the modules of the data set, the network and the method."""
        method = method_spec(run.method).implementation.partition(":")[0]
        return (*base.reader(config, run.target), base.backbone_module(run), method)


class Projection(base.Stage):
    """Predicts a validation split by the teacher alone: MaskCLIP's labels, projected onto the points."""

    function: ClassVar[str] = "clip2scene.evaluation.projection:compute"
    message: ClassVar[str] = "Predict with the teacher"
    gpu: ClassVar[bool] = True
    shares_process: ClassVar[bool] = True

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the validation data, the scale of the images and the machine."""
        values = _validation(config, run) | {"image_scale": config.teacher.image_scale}
        return values | {"image_size": config.judged_size(run.target)}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the validation split, the teacher and the target's text embeddings."""
        text = Product(Run("text", target=run.target, variant=run.variant), "text.pt")
        teacher = Product(Teacher.run(config, run.variant))
        return {"index": _labelled(config, run, "images"), "teacher": teacher, "text": text}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the module of the data set."""
        return base.reader(config, run.target)


def _fields(e: Experiment) -> dict[str, Any]:
    """Return what a run takes over from its experiment."""
    return {
        "method": e.method, "recipe": e.recipe, "backbone": e.backbone, "pretrain": e.pretrain,
        "target": e.target, "percent": e.percent, "rule": e.rule, "variant": e.variant,
    }  # fmt: skip


def _start(config: Config, run: Run) -> dict[str, Source]:
    """Return the network that a run starts from: a pre-training's, a file's, or none."""
    if run.pretrain_seed is not None:
        return {"network": Product(pretraining(run))}
    return {"network": config.checkpoints[run.recipe].file} if run.recipe in config.checkpoints else {}


def _validation(config: Config, run: Run) -> dict[str, Any]:
    """Return the settings of what a run predicts, and of the machine."""
    section = config.datasets[run.target]
    values = {
        "data": base.data(config, run.target),
        "split": section.val_split,
        "voxel_size": section.voxel_size,
    }
    return values | base.machine(config)


def _labelled(config: Config, run: Run, *kinds: str) -> Product:
    """Return the validation split: its points and labels, and `kinds` more."""
    return base.index_product(
        run, run.target, config.datasets[run.target].val_split, "points", "labels", *kinds
    )
