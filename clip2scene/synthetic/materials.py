"""Materials of surfaces: their lidar reflectance and their texture in images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clip2scene.synthetic import interiors, texture
from clip2scene.synthetic.categories import category_id
from clip2scene.synthetic.raycast import Surface


@dataclass(frozen=True)
class Material:
    """Lidar and image properties of a surface.

    Attributes:
        reflectance: Share of the lidar's light that returns at normal incidence.
        texture: Function from a `Surface` and its base colours [3, M] to its colours [3, M].
        depth: Mean depth to which lidar rays penetrate before they return, metres (foliage).
    """

    reflectance: float
    texture: Callable[[Surface, np.ndarray], np.ndarray]
    depth: float = 0.0


MATERIALS: dict[str, Material] = {
    "car_body": Material(0.30, texture.car_body),
    "car_cabin": Material(0.08, texture.car_cabin),
    "wheel": Material(0.06, texture.wheel),
    "spokes": Material(0.15, texture.spokes),
    "paint": Material(0.30, texture.plain),
    "metal": Material(0.40, texture.plain),
    "cloth": Material(0.25, texture.plain),
    "rubber": Material(0.06, texture.plain),
    "cargo_box": Material(0.45, texture.cargo_box),
    "trailer_box": Material(0.38, texture.trailer_box),
    "truck_cab": Material(0.30, texture.truck_cab),
    "bus_side": Material(0.28, texture.bus_side),
    "machine": Material(0.35, texture.machine),
    "tracks": Material(0.10, texture.tracks),
    "stripes": Material(0.55, texture.stripes),
    "cone_bands": Material(0.70, texture.cone_bands),
    "leaves": Material(0.35, texture.leaves, depth=0.15),
    "bark": Material(0.25, texture.bark),
    "facade": Material(0.32, texture.facade),
    "sign": Material(0.90, texture.sign),
    "plaster": Material(0.60, interiors.plaster),
    "wallpaper": Material(0.55, interiors.wallpaper),
    "tiles": Material(0.60, interiors.tiles),
    "parquet": Material(0.40, interiors.parquet),
    "carpet": Material(0.35, interiors.carpet),
    "wood": Material(0.40, interiors.wood),
    "fronts": Material(0.40, interiors.fronts),
    "panels": Material(0.40, interiors.panels),
    "pane": Material(0.10, interiors.pane),
    "painting": Material(0.40, interiors.painting),
    "books": Material(0.40, interiors.books),
    "steel": Material(0.50, interiors.steel),
    "fabric": Material(0.30, interiors.fabric),
    "quilt": Material(0.45, interiors.quilt),
    "folds": Material(0.35, interiors.folds),
    "dots": Material(0.45, interiors.dots),
    "stone": Material(0.40, interiors.stone),
    "basin": Material(0.60, interiors.basin),
    "ribs": Material(0.55, interiors.ribs),
}
"""Materials by name; a primitive stores the position of its material in this table."""

NAMES: tuple[str, ...] = tuple(MATERIALS)
REFLECTANCE = np.array([material.reflectance for material in MATERIALS.values()], dtype=np.float32)
DEPTH = np.array([material.depth for material in MATERIALS.values()], dtype=np.float32)

GROUND: dict[int, tuple[float, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    category_id("driveable_surface"): (0.14, texture.asphalt),
    category_id("other_flat"): (0.24, texture.pavers),
    category_id("sidewalk"): (0.30, texture.slabs),
    category_id("terrain"): (0.36, texture.grass),
}
"""Reflectance and texture of each ground category, by lidarseg id."""

MARKING_REFLECTANCE = 0.6
MARKING_COLOUR = (0.88, 0.88, 0.84)
