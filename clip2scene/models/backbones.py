"""The 3D networks, built by the name under which their architecture is registered."""

import pkgutil

from torch import nn

from clip2scene.errors import unknown
from clip2scene.models.architectures import architecture
from clip2scene.sparse import Backend, Geometry

BACKENDS = ("native", "minkowski")


def build_backbone(name: str, in_channels: int, width: float = 1.0, backend: str = "native") -> nn.Module:
    """Build a 3D network without a head.

    Args:
        name: Registered architecture (`clip2scene.models.architectures`).
        in_channels: Channels C of the input features.
        width: Factor on every channel count, which is then rounded to a multiple of 4, at least 4. A width of
            1 is the published network.
        backend: Sparse-convolution backend, one of `BACKENDS`. Weights and results are the same for all.

    Returns:
        A module ``network(coordinates, features)`` that maps voxels [V, 4] int32 (cloud, x, y, z) and their
        features [V, C] to features [V, out_channels].

    Raises:
        InputError: the network or the backend is unknown, or the backend is not installed.
    """
    shape = architecture(name)
    channels = tuple(max(4, 4 * round(channel * width / 4)) for channel in shape.channels)
    return pkgutil.resolve_name(shape.network)(in_channels, channels, shape.layers, _backend(backend))


def _backend(name: str) -> type[Backend]:
    """Return the class of a backend; MinkowskiEngine, an optional extra, is imported only on request."""
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)
    if name == "native":
        return Geometry
    from clip2scene.sparse.minkowski import MinkowskiGeometry

    return MinkowskiGeometry
