"""Pre-training: a registered method trains a 3D network on keyframes and their images."""

from lightning_fabric import Fabric
from torch import Tensor

from clip2scene.datasets.index import Index, read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.method.base import Method, Resources
from clip2scene.method.registry import get_method
from clip2scene.method.spec import method_spec
from clip2scene.models.backbones import build_backbone
from clip2scene.models.prompts import load_text_embeddings
from clip2scene.models.weights import write_checkpoint
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.record import RunRecord
from clip2scene.seeding import seed_everything
from clip2scene.task import Task
from clip2scene.training.batch_norm import synchronise
from clip2scene.training.checkpoint import describe
from clip2scene.training.loop import fit, launch, sgd
from clip2scene.training.validation import Validation, validation_samples


def compute(task: Task) -> None:
    """Pre-train the 3D network of a run of the stage ``pretrain``: ``checkpoint.pt``.

    The checkpoint holds ``backbone``, which fine-tuning starts from; ``method``, the rest of the method's
    state, which annotation-free evaluation reads; and ``meta``, a description (`describe`).

    Raises:
        InputError: bad input, or a loss that is not finite.
    """
    config, run, record = task.config, task.run, task.record
    data, network = config.datasets[run.pretrain], config.backbones[run.backbone]
    settings = config.pretraining(run.pretrain, run.method, run.recipe)
    dataset = get_dataset(data.format)
    index = read_index(task.inputs["index"], data.root)
    samples = PretrainingSamples(
        dataset,
        index.split(data.pretrain_split),
        settings,
        method_spec(run.method).needs,
        data.voxel_size,
        network.coordinates == "cylindrical",
        run.seed,
        task.inputs.get("superpixels"),
    )
    fabric = launch(config, record)
    seed_everything(run.seed, "initialisation")
    backbone = build_backbone(run.backbone, dataset.feature_channels, network.width, config.backend)
    resources = Resources(**{role: task.inputs.get(role) for role in ("teacher", "text", "encoder")})
    method = get_method(run.method)(config, run.recipe, backbone, resources)
    synchronise(method)
    optimiser = sgd([{"params": list(method.parameters())}], settings.optimiser)
    cost = fit(
        fabric,
        method,
        samples,
        optimiser,
        record,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        workers=config.workers,
        schedule=settings.optimiser.schedule,
        checkpoint_minutes=config.checkpoint_minutes,
        validation=_validation(task, fabric, method, index, samples.index.ids),
    )
    if fabric.is_global_zero:
        rest = {
            name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")
        }
        meta = describe(config, run.method, run.backbone, run.pretrain)
        meta |= {"recipe": run.recipe, "seed": run.seed}
        content = {"backbone": method.inherited(), "method": rest, "meta": meta}
        write_checkpoint(record.checkpoint, content)
        record.finish({"losses": last_losses(record), "cost": cost})
    fabric.barrier()


def _validation(
    task: Task, fabric: Fabric, method: Method, index: Index, trained_on: list[str]
) -> Validation | None:
    """Return the validation without annotations of a method that tells the data set's own classes apart."""
    data, settings = task.config.datasets[task.run.pretrain], task.config.validation
    if not settings.every or "text" not in task.inputs:
        return None
    text = load_text_embeddings(task.inputs["text"]).to(fabric.device)
    if len(text) != len(get_dataset(data.format).classes):
        return None
    cylindrical = task.config.backbones[task.run.backbone].coordinates == "cylindrical"
    held_out = validation_samples(fabric, index, data, settings, trained_on, cylindrical)

    def network(batch: Batch) -> Tensor:
        return method.classify(method.backbone(batch.coordinates, batch.features), text)

    return held_out and Validation(fabric, method, network, held_out, settings.every)


def last_losses(run: RunRecord) -> dict[str, float]:
    """Return the means of the losses logged in the last epoch."""
    lines = run.logged()
    last = [line for line in lines if line["epoch"] == lines[-1]["epoch"]]
    names = last[0].keys() - {"step", "epoch", "learning_rate", "samples_per_second", "validation_miou"}
    return {name: sum(line[name] for line in last) / len(last) for name in sorted(names)}
