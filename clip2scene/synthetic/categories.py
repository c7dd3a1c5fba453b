"""nuScenes' 32 lidarseg categories, and the 16 benchmark classes that the synthetic streets use."""

CATEGORIES: tuple[str, ...] = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
"""Category names; the position of a name is its lidarseg id (category.json of nuScenes-lidarseg)."""

CLASSES: dict[str, str] = {
    "barrier": "movable_object.barrier",
    "bicycle": "vehicle.bicycle",
    "bus": "vehicle.bus.rigid",
    "car": "vehicle.car",
    "construction_vehicle": "vehicle.construction",
    "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "trailer": "vehicle.trailer",
    "truck": "vehicle.truck",
    "driveable_surface": "flat.driveable_surface",
    "other_flat": "flat.other",
    "sidewalk": "flat.sidewalk",
    "terrain": "flat.terrain",
    "manmade": "static.manmade",
    "vegetation": "static.vegetation",
}
"""The 16 classes of nuScenes-lidarseg, each with the category that the generator assigns to it."""

THINGS: tuple[str, ...] = tuple(CLASSES)[:10]
"""Classes annotated with boxes; all others are stuff."""

SCENERY: dict[str, str] = {
    "tree": "vegetation",
    "bush": "vegetation",
    "hedge": "vegetation",
    "wall": "manmade",
    "post": "manmade",
    "building": "manmade",
    "traffic_light": "manmade",
}
"""Kinds of things that are finer than the 16 classes, each with its class."""

FLAT: tuple[str, ...] = ("driveable_surface", "other_flat", "sidewalk", "terrain")
"""Classes drawn on the ground map."""

_PROMPTS = {"construction_vehicle": "construction vehicle", "driveable_surface": "driveable surface"}


def category_id(name: str) -> int:
    """Return the lidarseg id of one of the 16 classes."""
    return CATEGORIES.index(CLASSES[name])


def prompt(name: str) -> str:
    """Return a class name as the paper's prompts spell it.

    Source: CLIP2Scene, utils/prompt_engineering.py, nuScenes.
    """
    return _PROMPTS.get(name, name)
