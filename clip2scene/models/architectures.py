"""The 3D networks as they register under the entry point group ``clip2scene.backbones``. Imports no torch."""

from dataclasses import dataclass

from clip2scene.registry import entry

GROUP = "clip2scene.backbones"


@dataclass(frozen=True)
class Architecture:
    """Shape of a 3D network.

    Attributes:
        network: ``module:Class``; built as ``Class(in_channels, channels, layers, backend)``.
        channels: 9 widths: stem, 4 levels down, 4 levels up.
        layers: 8 numbers of residual blocks.
    """

    network: str
    channels: tuple[int, ...]
    layers: tuple[int, ...]


_UNET = "clip2scene.models.minkunet:MinkUNet"
SPVCNN = Architecture(
    "clip2scene.models.spvcnn:SPVCNN", (32, 32, 64, 128, 256, 256, 128, 96, 96), (2, 2, 2, 2, 2, 2, 2, 2)
)
MINKUNET14A = Architecture(_UNET, (32, 32, 64, 128, 256, 128, 128, 96, 96), (1, 1, 1, 1, 1, 1, 1, 1))
RES16UNET34C = Architecture(_UNET, (32, 32, 64, 128, 256, 256, 128, 96, 96), (2, 3, 4, 6, 2, 2, 2, 2))


def architecture(name: str) -> Architecture:
    """Return the architecture registered as `name`.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    return entry(GROUP, "backbone", name).load()
