"""Conversion of 3D network weights between the names and layouts of the released codes and ours.

MinkUNet has MinkowskiEngine's layout (valeoai/SLidR @ 14729d0 model/res16unet.py, runnanchen/CLIP2Scene
@ f37dae7 model/minkunet.py), SPVCNN has torchsparse's (CLIP2Scene @ f37dae7 model/spvcnn.py).
"""

from typing import NamedTuple

from torch import Tensor, nn

from clip2scene.errors import InputError
from clip2scene.models.minkunet import MinkUNet
from clip2scene.models.spvcnn import SPVCNN
from clip2scene.models.weights import refuse_unfit

# linear heads by network and method: our name, the released code's name
_HEADS = {
    (MinkUNet, "slidr"): {"linear": "final"},
    (MinkUNet, "ppkt"): {"linear": "final"},
    (MinkUNet, "clip2scene"): {"semantic": "final", "spatial_temporal": "local_feature"},
    (SPVCNN, "clip2scene"): {"semantic": "point_mapping_global", "spatial_temporal": "point_mapping_local"},
}


class Parts(NamedTuple):
    """Tensors of a trained network.

    Attributes:
        backbone: State dict of our backbone.
        heads: Tensors of the method's linear heads, under our names.
        rest: All other tensors of a published network, unchanged, e.g. its classifier.
    """

    backbone: dict[str, Tensor]
    heads: dict[str, Tensor]
    rest: dict[str, Tensor]


def from_published(weights: dict[str, Tensor], backbone: nn.Module, method: str) -> Parts:
    """Split a published network into backbone, heads and the rest; the inverse of `to_published`.

    Args:
        weights: State dict of the published network.
        backbone: Our network, whose tensors are matched by name.
        method: Method that trained the published network.

    Raises:
        InputError: a tensor of the backbone or of a head has another shape.
    """
    network, parts = type(backbone), Parts({}, {}, dict(weights))
    for name, ours in backbone.state_dict().items():
        if (theirs := _published_name(name, network)) not in weights:
            continue
        value = weights[theirs]
        if name.endswith(".kernel") and value.ndim in (2, 3):
            value = value[None] if value.ndim == 2 else _reorder(value, network)
        if value.shape != ours.shape:
            raise InputError(f"{theirs}: has the shape {list(value.shape)}; expected {list(ours.shape)}")
        parts.backbone[name] = value
        del parts.rest[theirs]
    for ours, theirs in _HEADS.get((network, method), {}).items():
        weight = f"{theirs}.kernel" if network is MinkUNet else f"{theirs}.weight"
        if {weight, f"{theirs}.bias"} <= weights.keys():
            value = parts.rest.pop(weight)
            value = value[0] if value.ndim == 3 and len(value) == 1 else value
            parts.heads[f"{ours}.weight"] = value.T.contiguous() if network is MinkUNet else value
            parts.heads[f"{ours}.bias"] = parts.rest.pop(f"{theirs}.bias").flatten()
    refuse_heads(parts.heads, backbone, method)
    return parts


def refuse_heads(heads: dict[str, Tensor], backbone: nn.Module, method: str) -> None:
    """Raise an InputError for linear heads that do not fit the backbone.

    Args:
        heads: Tensors by our names; others than those of the method's linear heads may be among them.
        backbone: Our network.
        method: Method that trained it.
    """
    for name in _HEADS.get((type(backbone), method), {}):
        if f"{name}.weight" in heads:
            head = {part: heads.get(f"{name}.{part}") for part in ("weight", "bias")}
            weight = head["weight"]
            rows = len(weight) if isinstance(weight, Tensor) and weight.ndim else 0
            expected = nn.Linear(backbone.out_channels, rows, device="meta").state_dict()
            refuse_unfit(expected, head, f"head {name}")


def to_published(parts: Parts, network: type[nn.Module], method: str) -> dict[str, Tensor]:
    """Return the state dict that the released code of `network` and `method` loads.

    Heads that the released code does not have are left out.
    """
    weights = dict(parts.rest)
    for name, value in parts.backbone.items():
        if name.endswith(".kernel"):
            value = value[0] if len(value) == 1 else _reorder(value, network)
        weights[_published_name(name, network)] = value
    for ours, theirs in _HEADS.get((network, method), {}).items():
        if f"{ours}.weight" in parts.heads:
            weight, bias = parts.heads[f"{ours}.weight"], parts.heads[f"{ours}.bias"]
            if network is MinkUNet:  # theirs is a convolution with kernel size 1
                weights |= {f"{theirs}.kernel": weight.T.contiguous(), f"{theirs}.bias": bias[None]}
            else:
                weights |= {f"{theirs}.weight": weight, f"{theirs}.bias": bias}
    return weights


def _reorder(kernel: Tensor, network: type[nn.Module]) -> Tensor:
    """Convert a kernel [K, C_in, C_out] between our order of offsets and the network's; its own inverse.

    Our order is MinkowskiEngine's, x fastest. torchsparse 1.4.0 orders even kernels with z fastest, and odd
    kernels as MinkowskiEngine does (mit-han-lab/torchsparse @ 74099d1, torchsparse/nn/utils/kernel.py).
    """
    if network is not SPVCNN or len(kernel) != 8:
        return kernel
    return kernel.unflatten(0, (2, 2, 2)).transpose(0, 2).flatten(0, 2).contiguous()


def _published_name(name: str, network: type[nn.Module]) -> str:
    """Return the released code's name of a tensor of our `network`."""
    return (_minkowski_name if network is MinkUNet else _torchsparse_name)(name)


def _minkowski_name(name: str) -> str:
    match name.split("."):
        case ["stem", layer, *rest]:
            new = "conv0p1s1" if layer == "0" else "bn0"
        case ["down", level, "conv", layer, *rest]:
            number = int(level) + 1
            new = f"conv{number}p{2 ** int(level)}s2" if layer == "0" else f"bn{number}"
        case ["up", level, "conv", layer, *rest]:
            number = int(level) + 4
            new = f"convtr{number}p{2 ** (4 - int(level))}s2" if layer == "0" else f"bntr{number}"
        case [side, level, "blocks", *rest]:
            new = f"block{int(level) + (1 if side == 'down' else 5)}"
    return ".".join([new, *rest])


_IN_BLOCK = {"conv1": "net.0", "norm1": "net.1", "conv2": "net.3", "norm2": "net.4"}


def _torchsparse_name(name: str) -> str:
    match name.replace(".bn.", ".").split("."):
        case ["stem", block, layer, *rest]:
            new = f"stem.{3 * int(block) + int(layer)}"
        case [side, level, "conv", layer, *rest]:
            new = f"{_stage(side, level)}.0.net.{layer}"
        case [side, level, "blocks", block, layer, *rest]:
            place = f"{int(block) + 1}" if side == "down" else f"1.{block}"
            new = f"{_stage(side, level)}.{place}.{_IN_BLOCK.get(layer, layer)}"
        case _:  # the point transforms
            return name
    return ".".join([new, *rest])


def _stage(side: str, level: str) -> str:
    return f"{'stage' if side == 'down' else 'up'}{int(level) + 1}"
