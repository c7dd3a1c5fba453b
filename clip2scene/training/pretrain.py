"""Pre-training: a registered method trains a 3D network on keyframes and their images."""

from pathlib import Path

from clip2scene.config import Config
from clip2scene.datasets.index import read_index
from clip2scene.datasets.registry import get_dataset
from clip2scene.method.base import Resources
from clip2scene.method.registry import get_method
from clip2scene.method.spec import method_spec
from clip2scene.models.backbones import build_backbone
from clip2scene.models.weights import write_checkpoint
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.seeding import seed_everything
from clip2scene.training.checkpoint import describe
from clip2scene.training.loop import fit, launch, sgd
from clip2scene.training.record import RunRecord


def pretrain(
    config: Config,
    method_name: str,
    recipe: str,
    backbone_name: str,
    dataset_name: str,
    resources: Resources,
    index_path: Path,
    superpixels: Path | None,
    run: RunRecord,
) -> None:
    """Pre-train a backbone.

    The checkpoint holds ``backbone``, what fine-tuning starts from; ``method``, the rest of the method's
    state, which annotation-free evaluation reads; and ``meta``, what it is.

    Args:
        config: The configuration.
        method_name: Registered method.
        recipe: Its recipe.
        backbone_name: Key of the configuration's `backbones`.
        dataset_name: Key of the configuration's `datasets`; its `pretrain_split` is used.
        resources: Files that the method reads.
        index_path: The data set's index.
        superpixels: The data set's superpixels, for a method that needs them.
        run: Record of the run; its seed is that of initialisation, order and augmentation.

    Raises:
        InputError: bad input, or a loss that is not finite.
    """
    config = config.on(dataset_name)
    data, backbone_config = config.datasets[dataset_name], config.backbones[backbone_name]
    settings = config.pretrain.of(method_name)
    dataset = get_dataset(data.format)
    index = read_index(index_path, data.root).split(data.pretrain_split)
    samples = PretrainingSamples(
        dataset,
        index,
        settings,
        method_spec(method_name).needs,
        data.voxel_size,
        backbone_config.coordinates == "cylindrical",
        run.seed,
        superpixels,
    )
    fabric = launch(config, run)
    seed_everything(run.seed, "initialisation")
    backbone = build_backbone(backbone_name, dataset.feature_channels, backbone_config.width, config.backend)
    method = get_method(method_name)(config, recipe, backbone, resources)
    optimiser = sgd([{"params": list(method.parameters())}], settings.optimiser)
    cost = fit(fabric, method, samples, optimiser, run, settings.epochs, settings.batch_size, config.workers)
    if fabric.is_global_zero:
        rest = {
            name: value for name, value in method.state_dict().items() if not name.startswith("backbone.")
        }
        what = describe(config, method_name, backbone_name, dataset_name)
        meta = {**what, "recipe": recipe, "seed": run.seed}
        write_checkpoint(run.checkpoint, {"backbone": method.inherited(), "method": rest, "meta": meta})
        run.finish({"losses": last_losses(run), "cost": cost})


def last_losses(run: RunRecord) -> dict[str, float]:
    """Means of the losses that were logged in the last epoch."""
    lines = run.logged()
    last = [line for line in lines if line["epoch"] == lines[-1]["epoch"]]
    names = last[0].keys() - {"step", "epoch", "learning_rate", "samples_per_second"}
    return {name: sum(line[name] for line in last) / len(last) for name in sorted(names)}
