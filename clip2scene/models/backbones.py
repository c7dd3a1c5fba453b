"""The 3D networks by name."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from clip2scene.errors import InputError
from clip2scene.models.minkunet import MinkUNet
from clip2scene.models.spvcnn import SPVCNN
from clip2scene.sparse import Backend, Geometry


@dataclass(frozen=True)
class Architecture:
    """A network's shape: 9 widths (stem, 4 levels down, 4 levels up) and 8 numbers of residual blocks."""

    network: type[MinkUNet] | type[SPVCNN]
    channels: tuple[int, ...]
    layers: tuple[int, ...]


BACKBONES = {
    "spvcnn": Architecture(SPVCNN, (32, 32, 64, 128, 256, 256, 128, 96, 96), (2, 2, 2, 2, 2, 2, 2, 2)),
    "minkunet14a": Architecture(MinkUNet, (32, 32, 64, 128, 256, 128, 128, 96, 96), (1, 1, 1, 1, 1, 1, 1, 1)),
    "res16unet34c": Architecture(
        MinkUNet, (32, 32, 64, 128, 256, 256, 128, 96, 96), (2, 3, 4, 6, 2, 2, 2, 2)
    ),
}
BACKENDS = ("native", "minkowski")


def build_backbone(name: str, in_channels: int, width: float = 1.0, backend: str = "native") -> nn.Module:
    """A 3D network without a head: ``network(coordinates [V, 4], features [V, C]) -> [V, out_channels]``.

    Args:
        name: One of `BACKBONES`.
        in_channels: Channels C of the input features.
        width: Factor on every channel count, which is then rounded to a multiple of 4 and 4 at least; 1 is
            the published network.
        backend: One of `BACKENDS`: who convolves. The weights and the results are the same for all.

    Raises:
        InputError: there is no such network or backend, or the backend is not installed.
    """
    architecture = BACKBONES[_known("backbone", name, BACKBONES)]
    channels = tuple(max(4, 4 * round(channel * width / 4)) for channel in architecture.channels)
    return architecture.network(in_channels, channels, architecture.layers, _backend(backend))


def _backend(name: str) -> type[Backend]:
    """The class of a backend; MinkowskiEngine, an extra, is imported only where it is asked for."""
    if _known("backend", name, BACKENDS) == "native":
        return Geometry
    from clip2scene.sparse.minkowski import MinkowskiGeometry

    return MinkowskiGeometry


def _known(kind: str, name: str, names: Iterable[str]) -> str:
    if name in (names := list(names)):
        return name
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0)[0]
    raise InputError(f"{kind}: {name}: expected one of {', '.join(names)}; did you mean {near}?")
