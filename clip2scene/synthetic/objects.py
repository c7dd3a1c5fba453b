"""The shapes of the classes: each function draws one thing of its kind, in its own frame.

Parts are given by the centre of their footprint and their bottom; dimensions are full extents in metres and
follow what is typical of the class in nuScenes.
"""

from collections.abc import Callable

import numpy as np

from clip2scene.synthetic.world import BOX, CONE, CYLINDER, ELLIPSOID, Part, Shape

Colour = tuple[float, float, float]
Rng = np.random.Generator

PAINT: dict[str, Colour] = {
    "white": (0.90, 0.90, 0.90),
    "black": (0.07, 0.07, 0.08),
    "silver": (0.62, 0.64, 0.66),
    "grey": (0.35, 0.36, 0.38),
    "red": (0.68, 0.08, 0.09),
    "blue": (0.12, 0.25, 0.58),
    "green": (0.12, 0.38, 0.24),
    "beige": (0.72, 0.64, 0.50),
    "orange": (0.86, 0.42, 0.08),
    "yellow": (0.88, 0.74, 0.14),
}
"""Colours by the names that captions use."""

_DARK: Colour = (0.05, 0.05, 0.055)
_STEEL: Colour = (0.45, 0.46, 0.47)
_SKIN: tuple[Colour, ...] = ((0.85, 0.65, 0.52), (0.62, 0.43, 0.32), (0.38, 0.26, 0.20))
_UPRIGHT = np.eye(3)
_AXLE = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # a cylinder's axis along y
_LYING = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # along x


def _part(
    kind: int,
    place: tuple[float, float, float],
    size: tuple[float, float, float],
    material: str,
    colour: Colour,
    rotation: np.ndarray = _UPRIGHT,
) -> Part:
    """A primitive by the x, y of its centre, its bottom z, and full extents along its own axes."""
    half = tuple(extent / 2 for extent in size)
    rise = float(np.abs(rotation[2]) @ np.array(half))
    return Part(kind, (place[0], place[1], place[2] + rise), half, material, colour, rotation)


def _tilt(angle: float) -> np.ndarray:
    """Rotation about y, nose up by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def _wheels(xs: tuple[float, ...], track: float, diameter: float, width: float) -> list[Part]:
    size = (diameter, diameter, width)
    return [
        _part(CYLINDER, (x, y, 0), size, "wheel", _DARK, _AXLE) for x in xs for y in (-track / 2, track / 2)
    ]


def _choose(rng: Rng, names: tuple[str, ...]) -> tuple[str, Colour]:
    """A named colour, shifted a little."""
    name = names[rng.integers(len(names))]
    return name, _vary(rng, PAINT[name])


def _vary(rng: Rng, colour: Colour, amount: float = 0.05) -> Colour:
    return tuple(np.clip(np.array(colour) + rng.normal(0, amount, 3), 0.02, 1).tolist())


def car(rng: Rng) -> Shape:
    """A saloon, an estate or a van."""
    name, colour = _choose(rng, ("white", "black", "silver", "grey", "red", "blue", "green", "beige"))
    length, width, height = rng.uniform(4.1, 5.0), rng.uniform(1.75, 2.0), rng.uniform(1.45, 1.9)
    cabin, shift = (0.52, -0.04) if height < 1.65 else (0.72, -0.10)
    body = 0.56 * height
    parts = [
        _part(BOX, (0, 0, 0.22), (length, width, body - 0.12), "car_body", colour),
        _part(
            BOX,
            (shift * length, 0, body + 0.1),
            (cabin * length, 0.88 * width, height - body - 0.1),
            "car_cabin",
            colour,
        ),
        *_wheels((0.31 * length, -0.31 * length), width - 0.2, 0.66, 0.24),
    ]
    return Shape(tuple(parts), (length, width, height), name)


def truck(rng: Rng) -> Shape:
    """A cab before a box."""
    name, colour = _choose(rng, ("white", "red", "blue", "green", "grey", "orange"))
    length, width, height = rng.uniform(6.0, 9.0), rng.uniform(2.3, 2.6), rng.uniform(2.9, 3.6)
    cab = 2.0
    box = _vary(rng, PAINT["white"] if rng.random() < 0.6 else PAINT["beige"])
    parts = [
        _part(
            BOX, ((length - cab) / 2, 0, 0.45), (cab, 0.95 * width, 0.72 * height - 0.45), "truck_cab", colour
        ),
        _part(BOX, (-(cab + 0.3) / 2, 0, 0.9), (length - cab - 0.3, width, height - 0.9), "cargo_box", box),
        _part(BOX, (0, 0, 0.55), (length - 0.4, 0.4 * width, 0.35), "metal", _DARK),
        *_wheels((length / 2 - 1.1, -length / 2 + 1.6), width - 0.3, 0.95, 0.3),
    ]
    return Shape(tuple(parts), (length, width, height), name)


def trailer(rng: Rng) -> Shape:
    """A long box on legs and rear axles, with nothing to pull it."""
    name, colour = _choose(rng, ("silver", "grey", "blue", "beige"))
    length, width, height = rng.uniform(7.5, 11.0), 2.5, rng.uniform(3.3, 3.9)
    parts = [
        _part(BOX, (0, 0, 1.15), (length, width, height - 1.15), "trailer_box", colour),
        *_wheels((-length / 2 + 1.2, -length / 2 + 2.4, -length / 2 + 3.6), width - 0.35, 1.0, 0.32),
        *[_part(BOX, (length / 2 - 2.5, y, 0), (0.15, 0.15, 1.15), "metal", _STEEL) for y in (-0.8, 0.8)],
    ]
    return Shape(tuple(parts), (length, width, height), name)


def bus(rng: Rng) -> Shape:
    """One long box of windows."""
    name, colour = _choose(rng, ("red", "blue", "green", "orange"))
    length, width, height = rng.uniform(9.5, 12.5), rng.uniform(2.5, 2.8), rng.uniform(3.0, 3.4)
    parts = [
        _part(BOX, (0, 0, 0.3), (length, width, height - 0.3), "bus_side", colour),
        *_wheels((length / 2 - 2.4, -length / 2 + 2.8), width - 0.2, 0.95, 0.3),
    ]
    return Shape(tuple(parts), (length, width, height), name)


def construction_vehicle(rng: Rng) -> Shape:
    """An excavator: tracks, a turning body, a boom that goes up and an arm that comes down to a bucket."""
    name, colour = _choose(rng, ("yellow", "orange"))
    scale = rng.uniform(0.9, 1.2)
    reach = rng.uniform(0.5, 0.9)
    boom, arm = 3.4 * scale, 2.2 * scale
    elbow = 1.0 + boom * np.cos(reach), 1.6 * scale + boom * np.sin(reach)
    fall = -1.2
    wrist = elbow[0] + arm * np.cos(fall), elbow[1] + arm * np.sin(fall)
    parts = [
        *[_part(BOX, (0, y, 0), (3.4 * scale, 0.6, 0.9), "tracks", _DARK) for y in (-1.0, 1.0)],
        _part(BOX, (-0.5, 0, 0.95), (3.2 * scale, 2.4, 1.2), "machine", colour),
        _part(BOX, (0.5, 0.7, 2.15), (1.3, 1.0, 1.0 * scale), "car_cabin", colour),
        _arm((1.0, 1.6 * scale), elbow, 0.45, colour),
        _arm(elbow, wrist, 0.35, colour),
        _part(BOX, (wrist[0], -0.4, max(wrist[1] - 0.7, 0.05)), (0.8, 1.1, 0.7), "machine", _STEEL),
    ]
    return Shape(tuple(parts), (2 * (wrist[0] + 0.4), 2.7, elbow[1] + 0.25), name)


def _arm(start: tuple[float, float], end: tuple[float, float], thick: float, colour: Colour) -> Part:
    """A beam in the x-z plane from one joint to another."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    rotation = _tilt(float(np.arctan2(end[1] - start[1], end[0] - start[0])))
    centre = ((start[0] + end[0]) / 2, -0.4, (start[1] + end[1]) / 2)
    return Part(BOX, centre, (length / 2, thick / 2, thick / 2), "paint", colour, rotation)


def _rider(rng: Rng, seat: float, helmet: Colour) -> list[Part]:
    shirt, trousers = _vary(rng, PAINT["blue"], 0.2), _vary(rng, PAINT["black"], 0.05)
    return [
        _part(BOX, (0.0, 0, seat - 0.45), (0.35, 0.36, 0.5), "cloth", trousers),
        _part(ELLIPSOID, (0.05, 0, seat - 0.02), (0.42, 0.48, 0.72), "cloth", shirt, _tilt(-0.35)),
        _part(ELLIPSOID, (0.22, 0, seat + 0.58), (0.27, 0.24, 0.29), "paint", helmet),
    ]


def bicycle(rng: Rng) -> Shape:
    """Two thin wheels and a frame of tubes; half of them ridden."""
    name, colour = _choose(rng, ("red", "blue", "green", "black", "silver", "yellow"))
    parts = [
        *[_part(CYLINDER, (x, 0, 0), (0.70, 0.70, 0.06), "spokes", _DARK, _AXLE) for x in (-0.53, 0.53)],
        _part(BOX, (0.0, 0, 0.72), (0.80, 0.06, 0.07), "paint", colour),
        _part(BOX, (0.05, 0, 0.28), (0.72, 0.06, 0.07), "paint", colour, _tilt(0.75)),
        _part(BOX, (-0.28, 0, 0.35), (0.07, 0.06, 0.60), "paint", colour),
        _part(BOX, (0.45, 0, 0.38), (0.07, 0.06, 0.62), "paint", colour),
        _part(BOX, (0.42, 0, 1.0), (0.08, 0.56, 0.06), "metal", _DARK),
        _part(BOX, (-0.28, 0, 0.94), (0.28, 0.16, 0.08), "rubber", _DARK),
    ]
    ridden = rng.random() < 0.5
    if ridden:
        parts += _rider(rng, 1.0, _SKIN[rng.integers(3)])
    return Shape(tuple(parts), (1.78, 0.6, 1.85 if ridden else 1.1), name)


def motorcycle(rng: Rng) -> Shape:
    """Two fat wheels, a tank, a seat, an engine; most of them ridden by someone with a helmet."""
    name, colour = _choose(rng, ("red", "black", "blue", "green", "orange"))
    parts = [
        *[_part(CYLINDER, (x, 0, 0), (0.64, 0.64, 0.20), "wheel", _DARK, _AXLE) for x in (-0.72, 0.72)],
        _part(BOX, (0.0, 0, 0.30), (0.75, 0.42, 0.40), "metal", _STEEL),
        _part(ELLIPSOID, (0.22, 0, 0.62), (0.85, 0.46, 0.46), "paint", colour),
        _part(BOX, (-0.50, 0, 0.68), (0.85, 0.34, 0.20), "rubber", _DARK),
        _part(BOX, (0.66, 0, 0.66), (0.18, 0.34, 0.42), "paint", colour),
        _part(BOX, (0.50, 0, 1.08), (0.10, 0.80, 0.08), "metal", _DARK),
        _part(CYLINDER, (-0.55, -0.26, 0.28), (0.16, 0.16, 0.80), "metal", (0.8, 0.8, 0.82), _LYING),
    ]
    ridden = rng.random() < 0.6
    if ridden:
        parts += _rider(rng, 0.95, _vary(rng, PAINT["white"] if rng.random() < 0.5 else PAINT["red"]))
    return Shape(tuple(parts), (2.1, 0.82, 1.8 if ridden else 1.2), name)


def pedestrian(rng: Rng) -> Shape:
    """Legs in a stride, a torso, arms and a head."""
    name, shirt = _choose(rng, ("red", "white", "blue", "green", "yellow", "black", "grey"))
    height = rng.uniform(1.55, 1.9)
    trousers = _vary(rng, PAINT[("black", "blue", "grey", "beige")[rng.integers(4)]])
    stride = rng.uniform(0.0, 0.3)
    legs = 0.48 * height
    parts = [
        *[
            _part(
                CYLINDER,
                (sign * stride / 2, sign * 0.1, 0),
                (0.17, 0.17, legs),
                "cloth",
                trousers,
                _tilt(-sign * stride),
            )
            for sign in (-1, 1)
        ],
        _part(BOX, (0, 0, legs - 0.04), (0.24, 0.40, 0.37 * height), "cloth", shirt),
        *[
            _part(CYLINDER, (0.03, y, legs), (0.11, 0.11, 0.34 * height), "cloth", shirt)
            for y in (-0.26, 0.26)
        ],
        _part(
            ELLIPSOID, (0, 0, 0.855 * height), (0.21, 0.19, 0.145 * height), "cloth", _SKIN[rng.integers(3)]
        ),
    ]
    return Shape(tuple(parts), (0.65, 0.65, height), name)


def barrier(rng: Rng) -> Shape:
    """A movable barrier with stripes, a massive block or boards on posts; it runs along y."""
    name, colour = ("red", PAINT["red"]) if rng.random() < 0.65 else ("orange", PAINT["orange"])
    width, height = rng.uniform(1.7, 2.3), rng.uniform(0.85, 1.1)
    foot = _part(BOX, (0, 0, 0), (0.55, width, 0.28), "stripes", _vary(rng, PAINT["white"]))
    if rng.random() < 0.5:
        parts = [foot, _part(BOX, (0, 0, 0.28), (0.25, width, height - 0.28), "stripes", colour)]
    else:
        posts = [
            _part(BOX, (0, y, 0), (0.5, 0.1, height), "metal", _STEEL) for y in (-0.42 * width, 0.42 * width)
        ]
        boards = [_part(BOX, (0, 0, z), (0.1, width, 0.33), "stripes", colour) for z in (0.22, height - 0.35)]
        parts = posts + boards
    return Shape(tuple(parts), (0.55, width, height), name)


def traffic_cone(rng: Rng) -> Shape:
    """An orange cone with white bands on a dark foot."""
    height = rng.uniform(0.7, 1.0)
    parts = [
        _part(BOX, (0, 0, 0), (0.42, 0.42, 0.06), "rubber", _DARK),
        _part(
            CONE,
            (0, 0, 0.05),
            (0.38, 0.38, height - 0.05),
            "cone_bands",
            _vary(rng, (0.95, 0.35, 0.05), 0.03),
        ),
    ]
    return Shape(tuple(parts), (0.42, 0.42, height), "orange")


def tree(rng: Rng) -> Shape:
    """A trunk under a crown of two or three ellipsoids, or a conifer."""
    trunk, spread, height = rng.uniform(1.8, 3.0), rng.uniform(2.6, 4.8), rng.uniform(5.5, 9.0)
    green = _vary(rng, (0.20, 0.38, 0.12), 0.05)
    stem = _part(CYLINDER, (0, 0, 0), (0.4, 0.4, trunk + 1.0), "bark", _vary(rng, (0.33, 0.25, 0.18), 0.03))
    if rng.random() < 0.2:
        crown = [_part(CONE, (0, 0, 0.6 * trunk), (spread, spread, height - 0.6 * trunk), "leaves", green)]
    else:
        crown = []
        for _ in range(3):
            x, y = rng.normal(0, 0.22 * spread, 2)
            place, size = (x, y, trunk + rng.uniform(0, 0.8)), 0.78 * spread
            crown.append(_part(ELLIPSOID, place, (size, size, (height - trunk) * 0.85), "leaves", green))
    return Shape((stem, *crown), (spread, spread, height))


def bush(rng: Rng) -> Shape:
    """One or two low ellipsoids of leaves."""
    size, green = rng.uniform(1.0, 2.0), _vary(rng, (0.22, 0.36, 0.13), 0.05)
    places = [rng.uniform(-0.6, 0.6, 2) for _ in range(2)]
    parts = [_part(ELLIPSOID, (x, y, -0.15), (size, size, 0.8 * size), "leaves", green) for x, y in places]
    return Shape(tuple(parts), (2 * size, 2 * size, size))


def hedge(rng: Rng) -> Shape:
    """A clipped wall of leaves along x."""
    length, height = rng.uniform(4, 8), rng.uniform(0.9, 1.8)
    leaves = _part(BOX, (0, 0, 0), (length, 0.9, height), "leaves", _vary(rng, (0.17, 0.33, 0.12), 0.04))
    return Shape((leaves,), (length, 0.9, height))


_WALLS: tuple[Colour, ...] = (
    (0.62, 0.36, 0.28),
    (0.72, 0.66, 0.55),
    (0.58, 0.58, 0.60),
    (0.80, 0.78, 0.74),
    (0.55, 0.46, 0.40),
    (0.66, 0.52, 0.38),
)


def building(rng: Rng) -> Shape:
    """A block with a facade towards y, and a cornice."""
    length, depth = rng.uniform(8, 18), 10.0
    height = float(3.3 * rng.integers(2, 7) + 0.6)
    wall = _vary(rng, _WALLS[rng.integers(len(_WALLS))], 0.04)
    parts = [
        _part(BOX, (0, 0, -0.5), (length, depth, height + 0.5), "facade", wall),
        _part(
            BOX,
            (0, 0, height - 0.1),
            (length + 0.5, depth + 0.5, 0.5),
            "paint",
            _vary(rng, (0.5, 0.48, 0.45)),
        ),
    ]
    return Shape(tuple(parts), (length, depth, height))


def pole(rng: Rng) -> Shape:
    """A street lamp or a traffic sign on a post."""
    if rng.random() < 0.5:
        post = _part(CYLINDER, (0, 0, 0), (0.2, 0.2, 7.0), "metal", _STEEL)
        head = _part(BOX, (0, -0.8, 6.8), (0.3, 1.9, 0.15), "metal", _STEEL)
        return Shape((post, head), (0.3, 1.9, 7.0))
    post = _part(CYLINDER, (0, 0, 0), (0.1, 0.1, 2.8), "metal", _STEEL)
    plate = _part(
        BOX, (0.07, 0, 2.1), (0.06, 0.75, 0.75), "sign", PAINT[("blue", "red", "green")[rng.integers(3)]]
    )
    return Shape((post, plate), (0.2, 0.75, 2.8))


def traffic_light(rng: Rng) -> Shape:
    """A post with a box of lamps at its top."""
    post = _part(CYLINDER, (0, 0, 0), (0.16, 0.16, 3.6), "metal", _DARK)
    lamps = _part(BOX, (0, 0, 2.7), (0.3, 0.35, 1.0), "paint", (0.1, 0.1, 0.08))
    lamp = (0.9, 0.1, 0.08) if rng.random() < 0.5 else (0.1, 0.8, 0.3)
    light = _part(ELLIPSOID, (-0.15, 0, 3.3), (0.12, 0.24, 0.24), "paint", lamp)
    return Shape((post, lamps, light), (0.3, 0.35, 3.7))


def wall(rng: Rng) -> Shape:
    """A low garden wall along x."""
    length, height = rng.uniform(4, 9), rng.uniform(0.8, 1.6)
    part = _part(
        BOX, (0, 0, 0), (length, 0.35, height), "paint", _vary(rng, _WALLS[rng.integers(len(_WALLS))])
    )
    return Shape((part,), (length, 0.35, height))


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
"""How the classes that come as boxes look."""
