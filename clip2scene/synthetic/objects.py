"""Shapes of the classes annotated with boxes; each function draws one thing of its kind.

Dimensions, in metres, are typical of the class in nuScenes. The lidar can tell classes apart by shape, the
cameras by texture and colour as well. All three vary within a class.
"""

from collections.abc import Callable

import numpy as np

from clip2scene.synthetic.parts import (
    AXLE,
    DARK,
    LYING,
    PAINT,
    STEEL,
    Colour,
    Rng,
    choose,
    part,
    tilt,
    vary,
    wheels,
)
from clip2scene.synthetic.world import BOX, CONE, CYLINDER, ELLIPSOID, Part, Shape

_SKIN: tuple[Colour, ...] = ((0.85, 0.65, 0.52), (0.62, 0.43, 0.32), (0.38, 0.26, 0.20))


def car(rng: Rng) -> Shape:
    """Draw a saloon, an estate or a van."""
    name, colour = choose(rng, ("white", "black", "silver", "grey", "red", "blue", "green", "beige"))
    length, width, height = rng.uniform(4.1, 5.0), rng.uniform(1.75, 2.0), rng.uniform(1.45, 1.9)
    cabin, shift = (0.52, -0.04) if height < 1.65 else (0.72, -0.10)
    body = 0.56 * height
    parts = [
        part(BOX, (0, 0, 0.22), (length, width, body - 0.12), "car_body", colour),
        part(
            BOX,
            (shift * length, 0, body + 0.1),
            (cabin * length, 0.88 * width, height - body - 0.1),
            "car_cabin",
            colour,
        ),
        *wheels((0.31 * length, -0.31 * length), width - 0.2, 0.66, 0.24),
    ]
    return Shape(tuple(parts), (length, width, height), name)


def truck(rng: Rng) -> Shape:
    """Draw a truck: a cab in front of a cargo box."""
    name, colour = choose(rng, ("white", "red", "blue", "green", "grey", "orange"))
    length, width, height = rng.uniform(6.0, 9.0), rng.uniform(2.3, 2.6), rng.uniform(2.9, 3.6)
    cab = 2.0
    box = vary(rng, PAINT["white"] if rng.random() < 0.6 else PAINT["beige"])
    parts = [
        part(
            BOX, ((length - cab) / 2, 0, 0.45), (cab, 0.95 * width, 0.72 * height - 0.45), "truck_cab", colour
        ),
        part(BOX, (-(cab + 0.3) / 2, 0, 0.9), (length - cab - 0.3, width, height - 0.9), "cargo_box", box),
        part(BOX, (0, 0, 0.55), (length - 0.4, 0.4 * width, 0.35), "metal", DARK),
        *wheels((length / 2 - 1.1, -length / 2 + 1.6), width - 0.3, 0.95, 0.3),
    ]
    return Shape(tuple(parts), (length, width, height), name)


def trailer(rng: Rng) -> Shape:
    """Draw a trailer without a tractor: a long box on legs and rear axles."""
    name, colour = choose(rng, ("silver", "grey", "blue", "beige"))
    length, width, height = rng.uniform(7.5, 11.0), 2.5, rng.uniform(3.3, 3.9)
    parts = [
        part(BOX, (0, 0, 1.15), (length, width, height - 1.15), "trailer_box", colour),
        *wheels((-length / 2 + 1.2, -length / 2 + 2.4, -length / 2 + 3.6), width - 0.35, 1.0, 0.32),
        *[part(BOX, (length / 2 - 2.5, y, 0), (0.15, 0.15, 1.15), "metal", STEEL) for y in (-0.8, 0.8)],
    ]
    return Shape(tuple(parts), (length, width, height), name)


def bus(rng: Rng) -> Shape:
    """Draw a bus: one long box with windows."""
    name, colour = choose(rng, ("red", "blue", "green", "orange"))
    length, width, height = rng.uniform(9.5, 12.5), rng.uniform(2.5, 2.8), rng.uniform(3.0, 3.4)
    parts = [
        part(BOX, (0, 0, 0.3), (length, width, height - 0.3), "bus_side", colour),
        *wheels((length / 2 - 2.4, -length / 2 + 2.8), width - 0.2, 0.95, 0.3),
    ]
    return Shape(tuple(parts), (length, width, height), name)


def construction_vehicle(rng: Rng) -> Shape:
    """Draw an excavator: tracks, a turning body, a rising boom, and an arm that comes down to a bucket."""
    name, colour = choose(rng, ("yellow", "orange"))
    scale = rng.uniform(0.9, 1.2)
    reach = rng.uniform(0.5, 0.9)
    boom, arm = 3.4 * scale, 2.2 * scale
    elbow = 1.0 + boom * np.cos(reach), 1.6 * scale + boom * np.sin(reach)
    fall = -1.2
    wrist = elbow[0] + arm * np.cos(fall), elbow[1] + arm * np.sin(fall)
    parts = [
        *[part(BOX, (0, y, 0), (3.4 * scale, 0.6, 0.9), "tracks", DARK) for y in (-1.0, 1.0)],
        part(BOX, (-0.5, 0, 0.95), (3.2 * scale, 2.4, 1.2), "machine", colour),
        part(BOX, (0.5, 0.7, 2.15), (1.3, 1.0, 1.0 * scale), "car_cabin", colour),
        _arm((1.0, 1.6 * scale), elbow, 0.45, colour),
        _arm(elbow, wrist, 0.35, colour),
        part(BOX, (wrist[0], -0.4, max(wrist[1] - 0.7, 0.05)), (0.8, 1.1, 0.7), "machine", STEEL),
    ]
    return Shape(tuple(parts), (2 * (wrist[0] + 0.4), 2.7, elbow[1] + 0.25), name)


def _arm(start: tuple[float, float], end: tuple[float, float], thick: float, colour: Colour) -> Part:
    """Return a beam in the x-z plane from one joint to another."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    rotation = tilt(float(np.arctan2(end[1] - start[1], end[0] - start[0])))
    centre = ((start[0] + end[0]) / 2, -0.4, (start[1] + end[1]) / 2)
    return Part(BOX, centre, (length / 2, thick / 2, thick / 2), "paint", colour, rotation)


def _rider(rng: Rng, seat: float, helmet: Colour) -> list[Part]:
    shirt, trousers = vary(rng, PAINT["blue"], 0.2), vary(rng, PAINT["black"], 0.05)
    return [
        part(BOX, (0.0, 0, seat - 0.45), (0.35, 0.36, 0.5), "cloth", trousers),
        part(ELLIPSOID, (0.05, 0, seat - 0.02), (0.42, 0.48, 0.72), "cloth", shirt, tilt(-0.35)),
        part(ELLIPSOID, (0.22, 0, seat + 0.58), (0.27, 0.24, 0.29), "paint", helmet),
    ]


def bicycle(rng: Rng) -> Shape:
    """Draw a bicycle: two thin wheels and a frame of tubes; half of them have a rider."""
    name, colour = choose(rng, ("red", "blue", "green", "black", "silver", "yellow"))
    parts = [
        *[part(CYLINDER, (x, 0, 0), (0.70, 0.70, 0.06), "spokes", DARK, AXLE) for x in (-0.53, 0.53)],
        part(BOX, (0.0, 0, 0.72), (0.80, 0.06, 0.07), "paint", colour),
        part(BOX, (0.05, 0, 0.28), (0.72, 0.06, 0.07), "paint", colour, tilt(0.75)),
        part(BOX, (-0.28, 0, 0.35), (0.07, 0.06, 0.60), "paint", colour),
        part(BOX, (0.45, 0, 0.38), (0.07, 0.06, 0.62), "paint", colour),
        part(BOX, (0.42, 0, 1.0), (0.08, 0.56, 0.06), "metal", DARK),
        part(BOX, (-0.28, 0, 0.94), (0.28, 0.16, 0.08), "rubber", DARK),
    ]
    ridden = rng.random() < 0.5
    if ridden:
        parts += _rider(rng, 1.0, _SKIN[rng.integers(3)])
    return Shape(tuple(parts), (1.78, 0.6, 1.85 if ridden else 1.1), name)


def motorcycle(rng: Rng) -> Shape:
    """Draw a motorcycle: two fat wheels, a tank, a seat, an engine; most have a rider with a helmet."""
    name, colour = choose(rng, ("red", "black", "blue", "green", "orange"))
    parts = [
        *[part(CYLINDER, (x, 0, 0), (0.64, 0.64, 0.20), "wheel", DARK, AXLE) for x in (-0.72, 0.72)],
        part(BOX, (0.0, 0, 0.30), (0.75, 0.42, 0.40), "metal", STEEL),
        part(ELLIPSOID, (0.22, 0, 0.62), (0.85, 0.46, 0.46), "paint", colour),
        part(BOX, (-0.50, 0, 0.68), (0.85, 0.34, 0.20), "rubber", DARK),
        part(BOX, (0.66, 0, 0.66), (0.18, 0.34, 0.42), "paint", colour),
        part(BOX, (0.50, 0, 1.08), (0.10, 0.80, 0.08), "metal", DARK),
        part(CYLINDER, (-0.55, -0.26, 0.28), (0.16, 0.16, 0.80), "metal", (0.8, 0.8, 0.82), LYING),
    ]
    ridden = rng.random() < 0.6
    if ridden:
        parts += _rider(rng, 0.95, vary(rng, PAINT["white"] if rng.random() < 0.5 else PAINT["red"]))
    return Shape(tuple(parts), (2.1, 0.82, 1.8 if ridden else 1.2), name)


def pedestrian(rng: Rng) -> Shape:
    """Draw a pedestrian: legs in a stride, a torso, arms and a head."""
    name, shirt = choose(rng, ("red", "white", "blue", "green", "yellow", "black", "grey"))
    height = rng.uniform(1.55, 1.9)
    trousers = vary(rng, PAINT[("black", "blue", "grey", "beige")[rng.integers(4)]])
    stride = rng.uniform(0.0, 0.3)
    legs = 0.48 * height
    parts = [
        *[
            part(
                CYLINDER,
                (sign * stride / 2, sign * 0.1, 0),
                (0.17, 0.17, legs),
                "cloth",
                trousers,
                tilt(-sign * stride),
            )
            for sign in (-1, 1)
        ],
        part(BOX, (0, 0, legs - 0.04), (0.24, 0.40, 0.37 * height), "cloth", shirt),
        *[
            part(CYLINDER, (0.03, y, legs), (0.11, 0.11, 0.34 * height), "cloth", shirt)
            for y in (-0.26, 0.26)
        ],
        part(
            ELLIPSOID, (0, 0, 0.855 * height), (0.21, 0.19, 0.145 * height), "cloth", _SKIN[rng.integers(3)]
        ),
    ]
    return Shape(tuple(parts), (0.65, 0.65, height), name)


def barrier(rng: Rng) -> Shape:
    """Draw a striped movable barrier along y: a massive block, or boards on posts."""
    name, colour = ("red", PAINT["red"]) if rng.random() < 0.65 else ("orange", PAINT["orange"])
    width, height = rng.uniform(1.7, 2.3), rng.uniform(0.85, 1.1)
    foot = part(BOX, (0, 0, 0), (0.55, width, 0.28), "stripes", vary(rng, PAINT["white"]))
    if rng.random() < 0.5:
        parts = [foot, part(BOX, (0, 0, 0.28), (0.25, width, height - 0.28), "stripes", colour)]
    else:
        posts = [
            part(BOX, (0, y, 0), (0.5, 0.1, height), "metal", STEEL) for y in (-0.42 * width, 0.42 * width)
        ]
        boards = [part(BOX, (0, 0, z), (0.1, width, 0.33), "stripes", colour) for z in (0.22, height - 0.35)]
        parts = posts + boards
    return Shape(tuple(parts), (0.55, width, height), name)


def traffic_cone(rng: Rng) -> Shape:
    """Draw an orange traffic cone with white bands on a dark foot."""
    height = rng.uniform(0.7, 1.0)
    parts = [
        part(BOX, (0, 0, 0), (0.42, 0.42, 0.06), "rubber", DARK),
        part(
            CONE,
            (0, 0, 0.05),
            (0.38, 0.38, height - 0.05),
            "cone_bands",
            vary(rng, (0.95, 0.35, 0.05), 0.03),
        ),
    ]
    return Shape(tuple(parts), (0.42, 0.42, height), "orange")


SHAPES: dict[str, Callable[[Rng], Shape]] = {
    "barrier": barrier,
    "bicycle": bicycle,
    "bus": bus,
    "car": car,
    "construction_vehicle": construction_vehicle,
    "motorcycle": motorcycle,
    "pedestrian": pedestrian,
    "traffic_cone": traffic_cone,
    "trailer": trailer,
    "truck": truck,
}
"""Drawing functions of the classes annotated with boxes."""
