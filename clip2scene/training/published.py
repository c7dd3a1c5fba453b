"""Pre-training checkpoints from and to the files of valeoai/SLidR and runnanchen/CLIP2Scene."""

from pathlib import Path
from typing import Any

from torch import Tensor, strided

from clip2scene.config import Config
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.files import sha256
from clip2scene.method.spec import method_names, method_spec
from clip2scene.models.backbones import build_backbone
from clip2scene.models.published import Parts, from_published, refuse_heads, to_published
from clip2scene.models.weights import (
    MINIMUM_SHARE,
    listed,
    load_published,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from clip2scene.run_files import refuse_changed
from clip2scene.seeding import seed_everything
from clip2scene.training.checkpoint import describe, read_pretrained


def import_checkpoint(
    config: Config, path: Path, out: Path, method: str, recipe: str, backbone: str, dataset: str
) -> tuple[Parts, list[str]]:
    """Write a published 3D network as a pre-training checkpoint, which every later stage reads.

    Args:
        config: The configuration under which it will be used.
        path: ``model.pt`` of SLidR's or CLIP2Scene's pre-training (``model_points``, ``config``), or a
            Lightning checkpoint of it (``state_dict``). Networks beside the 3D one are not read.
        out: The checkpoint.
        method: Registered method that trained it.
        recipe: Recipe by which the method classifies without labels.
        backbone: Key of the configuration's `backbones` whose architecture it has.
        dataset: Key of the configuration's `datasets` that it was trained on.

    Returns:
        Where its tensors went, and names of the backbone's tensors that it lacks.

    Raises:
        InputError: the file is damaged or holds code, is of another voxel size or other coordinates than the
            configuration's, or fewer than 95 % of its tensors or of the backbone's find their counterpart.
    """
    if method_spec(method).implementation is None:
        others = [name for name in method_names() if method_spec(name).implementation]
        raise InputError(f"method: found {method!r}, which trains no network; expected {' or '.join(others)}")
    checkpoint = read_checkpoint(path)
    what = describe(config, method, backbone, dataset)
    _agree(path, checkpoint.get("config"), what)
    weights = _point_network(checkpoint)
    channels = get_dataset(config.datasets[dataset].format).feature_channels
    seed_everything(0, "import")  # so that what the file lacks has the same values each time
    network = build_backbone(backbone, channels, what["width"])
    try:
        parts = from_published(weights, network, method)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    placed = len(parts.backbone) + len(parts.heads)
    if placed < MINIMUM_SHARE * len(weights):
        raise InputError(
            f"{path}: {placed} of {len(weights)} tensors have a place in {backbone} of width "
            f"{what['width']:g}, expected {MINIMUM_SHARE:.0%}; not: {listed(list(parts.rest))}"
        )
    missing = load_published(network, parts.backbone, path)
    meta = {**what, "recipe": recipe, "source": path.name, "sha256": sha256(path), "random": missing}
    content = {"backbone": network.state_dict(), "method": parts.heads, "meta": meta, "rest": parts.rest}
    write_checkpoint(out, content)
    return parts, missing


def export_checkpoint(path: Path, out: Path) -> None:
    """Write a pre-training checkpoint as the released codes do: SPVCNN as CLIP2Scene's, others as SLidR's.

    Args:
        path: Checkpoint of a pre-training run, or an imported one; that becomes what it was imported from.
        out: ``model_points`` and, of ``config``, the keys that the released fine-tuning checks.

    Raises:
        InputError: `path` is no pre-training checkpoint.
    """
    content = read_pretrained(path)
    meta, channels = content["meta"], 1
    stem = next(iter(build_backbone(meta["backbone"], channels, meta["width"]).state_dict()))
    if isinstance(kernel := content["backbone"].get(stem), Tensor) and kernel.ndim == 3:
        channels = kernel.shape[1]
    network = build_backbone(meta["backbone"], channels, meta["width"])
    load_weights(network, content["backbone"], path)
    refuse_changed(path)
    try:
        refuse_heads(content["method"], network, meta["method"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    trained = {
        name: content["backbone"][name] for name in content["backbone"] if name not in meta.get("random", ())
    }
    parts = Parts(trained, content["method"], content.get("rest", {}))
    weights = to_published(parts, type(network), meta["method"])
    write_checkpoint(out, {"model_points": weights, "config": _settings(meta)})


def _point_network(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of the 3D network, without the prefixes of Lightning and DDP in its names."""
    values = checkpoint.get("model_points", checkpoint.get("state_dict", checkpoint))
    values = values if isinstance(values, dict) else {}
    weights = {
        name: value
        for name, value in values.items()
        if isinstance(value, Tensor) and value.layout == strided and not value.is_meta
    }
    for prefix in ("model_points.", "model.", "module."):
        found = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
        weights = found or weights
    return weights


def _agree(path: Path, published: Any, what: dict[str, Any]) -> None:
    """Compare the settings in a published file, if it has any, with ours, as SLidR's fine-tuning does."""
    for name, value in _settings(what).items():
        if isinstance(published, dict) and published.get(name, value) != value:
            raise InputError(
                f"{path}: trained with {name} {published[name]}; "
                f"the configuration has {value} for {what['backbone']} on {what['dataset']}"
            )


def _settings(what: dict[str, Any]) -> dict[str, Any]:
    """Return the values that ``config`` of a published file must hold (SLidR @ 14729d0,
    downstream/model_builder.py).
    """
    return {
        "voxel_size": what["voxel_size"],
        "cylindrical_coordinates": what["coordinates"] == "cylindrical",
    }
