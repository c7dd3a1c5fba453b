"""Stages that train what others start from: CLIP and its text embeddings, the image encoder, 3D networks."""

from pathlib import Path
from typing import Any, ClassVar

from clip2scene.config import Config
from clip2scene.datasets.registry import prompts_of
from clip2scene.errors import InputError, unknown
from clip2scene.method.spec import method_spec
from clip2scene.runs import Product, Run, Source
from clip2scene.stages import base


class Teacher(base.Stage):
    """Trains the CLIP teacher on synthetic images, or takes published weights."""

    function: ClassVar[str] = "clip2scene.training.teacher:compute"
    message: ClassVar[str] = "Prepare the CLIP teacher"
    priority: ClassVar[int] = 2

    @staticmethod
    def run(config: Config, variant: str = "") -> Run:
        """Return the run that the configuration's section `teacher` asks for.

        Raises:
            InputError: the teacher is to be trained on a data set without captions.
        """
        sources = config.teacher.datasets if config.teacher.pretrained == "train" else ()
        made = {name: section.synthetic for name, section in config.datasets.items() if section.synthetic}
        captioned = [name for name, parameters in made.items() if parameters.captioned]
        for name in sources:
            if name not in captioned:
                raise unknown("teacher.datasets: data set with captions", name, captioned)
        return Run("teacher", pretrain=" ".join(sources), seed=config.seed, variant=variant)

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the architecture, the weights or how they are trained, and the arithmetic."""
        values = config.teacher.model_dump(include={"architecture", "pretrained"})
        if config.teacher.pretrained == "train":
            values |= {"training": config.teacher.training.model_dump(), **base.arithmetic(config)}
            values |= {"data": {name: base.data(config, name) for name in run.pretrain.split()}}
        return _by_content(values)

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the captions to train on, or the file of the weights."""
        sources: dict[str, Source] = {}
        for name in run.pretrain.split():
            section = config.datasets[name]
            made = Run("synthetic", target=name, seed=config.seed, variant=run.variant)
            file = section.root / section.version / "captions.parquet"
            sources[f"captions.{name}"] = Product(made, file, ("content",))
        return sources | _weights(config.teacher.pretrained)


class Text(base.Stage):
    """Embeds the class prompts of a data set, or of a set of prompts, with the teacher."""

    function: ClassVar[str] = "clip2scene.models.prompts:compute"
    message: ClassVar[str] = "Embed the class prompts"
    priority: ClassVar[int] = 2

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the prompts, and the arithmetic."""
        return {"prompts": list(prompts_of(config, run)), **base.arithmetic(config)}

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the teacher."""
        return {"teacher": Product(Teacher.run(config, run.variant))}


class Encoder(base.Stage):
    """Trains the self-supervised image encoder without labels, or takes published weights."""

    function: ClassVar[str] = "clip2scene.training.encoder:compute"
    message: ClassVar[str] = "Prepare the self-supervised image encoder"
    priority: ClassVar[int] = 2

    @staticmethod
    def run(config: Config, variant: str = "") -> Run:
        """Return the run that the configuration's section `image_encoder` asks for.

        Raises:
            InputError: the encoder is to be trained on a data set that does not exist.
        """
        sources = config.image_encoder.datasets if config.image_encoder.pretrained == "train" else ()
        for name in sources:
            if name not in config.datasets:
                raise unknown("image_encoder.datasets: data set", name, config.datasets)
        return Run("encoder", pretrain=" ".join(sources), seed=config.seed, variant=variant)

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return the architecture, the weights or how they are trained, and the arithmetic."""
        values = config.image_encoder.model_dump(include={"architecture", "pretrained"})
        if config.image_encoder.pretrained == "train":
            values |= {"training": config.image_encoder.training.model_dump(), **base.arithmetic(config)}
            for name in run.pretrain.split():
                values[f"data.{name}"] = base.data(config, name)
                values[f"split.{name}"] = config.datasets[name].pretrain_split
        return _by_content(values)

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the pre-training images to train on, or the file of the weights."""
        sources: dict[str, Source] = {}
        for name in run.pretrain.split():
            split = config.datasets[name].pretrain_split
            sources[f"index.{name}"] = base.index_product(run, name, split, "images")
        return sources | _weights(config.image_encoder.pretrained)


class Pretrain(base.Stage):
    """Pre-trains a 3D network by a method."""

    function: ClassVar[str] = "clip2scene.training.pretrain:compute"
    message: ClassVar[str] = "Pre-train"
    gpu: ClassVar[bool] = True
    shares_process: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    priority: ClassVar[int] = 1

    def settings(self, config: Config, run: Run) -> dict[str, Any]:
        """Return all that decides the network: data, training, method, recipe, architecture, machine."""
        spec, section = method_spec(run.method), config.datasets[run.pretrain]
        own = config.method(run.method)
        training = config.pretraining(run.pretrain, run.method, run.recipe)
        values = {
            "data": base.data(config, run.pretrain),
            "split": section.pretrain_split,
            "voxel_size": section.voxel_size,
            "training": training.model_dump(exclude={"by_method"}),
            "method": own.model_dump() if own else {},
            "recipe": spec.recipes[run.recipe],
            "network": base.network(config, run),
        }
        if "teacher" in spec.needs:
            values["image_scale"] = config.teacher.image_scale
        return values | base.machine(config)

    def reads(self, config: Config, run: Run) -> dict[str, Source]:
        """Return the pre-training split, and the resources that the method needs."""
        needs, variant = method_spec(run.method).needs, run.variant
        kinds = ["points", *sorted({"images", "sweeps"} & needs)]
        split = config.datasets[run.pretrain].pretrain_split
        prompts = config.pretraining(run.pretrain, run.method, run.recipe).prompts
        texts = {"prompts": prompts} if prompts else {"target": run.pretrain}
        available: dict[str, Source] = {
            "teacher": Product(Teacher.run(config, variant)) if {"teacher", "text"} & needs else None,
            "text": Product(Run("text", **texts, variant=variant), "text.pt"),
            "encoder": Product(Encoder.run(config, variant)) if "encoder" in needs else None,
            "superpixels": Product(
                Run("superpixels", method=run.method, target=run.pretrain, variant=variant),
                "superpixels.arrow",
            ),
        }
        index = base.index_product(run, run.pretrain, split, *kinds)
        return {"index": index} | {role: available[role] for role in sorted(available.keys() & needs)}

    def code(self, config: Config, run: Run) -> tuple[str, ...]:
        """Return the modules of the data set, the network and the method."""
        method = method_spec(run.method).implementation.partition(":")[0]
        return (*base.reader(config, run.pretrain), base.backbone_module(run), method)


def _weights(pretrained: str) -> dict[str, Source]:
    """Return the file of the weights, if `pretrained` names one rather than a tag."""
    return {"weights": Path(pretrained)} if Path(pretrained).is_file() else {}


def _by_content(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which a local file of weights is not known by its path: it is read and hashed."""
    return values | {"pretrained": "file"} if Path(values["pretrained"]).is_file() else values


def pretraining(run: Run) -> Run:
    """Return the pre-training that a run starts from.

    Raises:
        InputError: it starts from none.
    """
    if run.pretrain_seed is None:
        raise InputError(f"{run.title}: starts from no pre-training")
    return Run(
        "pretrain", method=run.method, recipe=run.recipe, backbone=run.backbone, pretrain=run.pretrain,
        seed=run.pretrain_seed, variant=run.variant,
    )  # fmt: skip
