"""Streets from a seed: lanes, kerbs, houses and greens, and everything that stands and moves there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from clip2scene.config import Synthetic
from clip2scene.errors import InputError
from clip2scene.synthetic import objects
from clip2scene.synthetic.categories import CATEGORIES, CLASSES, FLAT, category_id
from clip2scene.synthetic.materials import NAMES
from clip2scene.synthetic.world import Ground, Primitives, Shape, Street, Thing, World

Rng = np.random.Generator

_START, _END = -55.0, 90.0
"""Stretch of the street that holds things, metres; the ego vehicle starts at 0."""
_LANE, _PARKING, _CROSSING = 3.5, 2.6, 5.0
_RESOLUTION = 0.15


@dataclass(frozen=True)
class Layout:
    """The cross-section of a street, offsets to either side of its centre line in metres.

    Attributes:
        median: Where the traffic island in the middle ends.
        lanes: Lanes in each direction.
        kerb: Where the parking strip ends and the sidewalk begins.
        walk: Where the sidewalk ends and the green begins.
        green: Where the houses begin.
        crossing: Centre of a crossing street along this one, half width `_CROSSING`.
        works: Where road works take the parking strip, along the street on the right and on the left.
    """

    median: float
    lanes: int
    kerb: float
    walk: float
    green: float
    crossing: float
    works: tuple[float, float]

    def lane(self, number: int) -> float:
        """Middle of a lane, counted from the median."""
        return self.median + _LANE * (number + 0.5)


def check(parameters: Synthetic) -> None:
    """Check what the types cannot.

    Raises:
        InputError: `without` names something that is none of the 16 classes, or the driveable surface.
    """
    for name in parameters.without:
        if name not in CLASSES or name == "driveable_surface":
            valid = ", ".join(sorted(set(CLASSES) - {"driveable_surface"}))
            raise InputError(f"synthetic.without: {name!r} cannot be left out; expected names among {valid}")


def make_world(parameters: Synthetic, rng: Rng) -> World:
    """Draw a street."""
    street = Street(rng.uniform(-4, 4), rng.uniform(28, 45), rng.uniform(0, 2 * np.pi))
    layout = _layout(rng)
    ground = _ground(street, layout, parameters.without, rng)
    speed = float(rng.uniform(5, 8))
    things = tuple(
        thing
        for thing in _things(layout, speed, parameters.traffic, rng)
        if thing.name not in parameters.without
    )
    elevation, azimuth = rng.uniform(0.6, 1.1), rng.uniform(0, 2 * np.pi)
    sun = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    return World(
        street=street,
        ground=ground,
        things=things,
        parts=_stack(things),
        ego_lateral=-layout.lane(0),
        ego_speed=speed,
        sun=np.array(sun, dtype=np.float32),
        tint=(1 + rng.normal(0, 0.07, (len(CATEGORIES), 1)) + rng.normal(0, 0.02, (1, 3))).astype(np.float32),
        rain=parameters.rain,
    )


def _layout(rng: Rng) -> Layout:
    median, lanes = rng.uniform(1.0, 1.7), 1 + int(rng.random() < 0.6)
    kerb = median + lanes * _LANE + _PARKING
    walk = kerb + rng.uniform(2.6, 4.0)
    works = rng.permutation([rng.uniform(8, 14), rng.uniform(30, 40)])
    crossing = float(rng.choice([rng.uniform(-28, -18), rng.uniform(60, 75)]))
    return Layout(median, lanes, kerb, walk, walk + rng.uniform(4, 8), crossing, tuple(works.tolist()))


def _ground(street: Street, layout: Layout, without: tuple[str, ...], rng: Rng) -> Ground:
    x, y = np.meshgrid(np.arange(-80, 120, _RESOLUTION), np.arange(-50, 50, _RESOLUTION))
    lateral = street.lateral(x, y)
    aside, from_crossing = np.abs(lateral), np.abs(x - layout.crossing)
    road = from_crossing < _CROSSING
    island = (aside < layout.median) & (from_crossing > _CROSSING + 4)
    planted = island & (np.sin(x / 9 + rng.uniform(0, 6)) > 0.75)  # short stretches of grass on the island
    regions = {
        "driveable_surface": np.ones_like(road),
        "terrain": ((aside >= layout.walk) & (from_crossing >= _CROSSING + 2)) | planted,
        "sidewalk": (aside >= layout.kerb)
        & ~road
        & ((aside < layout.walk) | (from_crossing < _CROSSING + 2)),
        "other_flat": island & ~planted,
    }
    category = np.zeros(x.shape, dtype=np.uint8)
    for name in FLAT:
        if name not in without:
            category[regions[name]] = category_id(name)
    bumps = 0.16 + 0.10 * np.sin(x / 1.9 + rng.uniform(0, 6)) * np.sin(y / 1.5 + rng.uniform(0, 6))
    bumps += 0.06 * np.clip(aside - layout.walk, 0, 8)
    heights = {"driveable_surface": 0.0, "other_flat": 0.14, "sidewalk": 0.16, "terrain": bumps}
    height = np.zeros(x.shape, dtype=np.float32)
    for name in FLAT:
        height = np.where(category == category_id(name), heights[name], height)
    marking = _markings(layout, x, lateral, from_crossing) & (category == category_id("driveable_surface"))
    return Ground((-80.0, -50.0), _RESOLUTION, category, height.astype(np.float32), marking.astype(np.uint8))


def _markings(layout: Layout, x: np.ndarray, lateral: np.ndarray, from_crossing: np.ndarray) -> np.ndarray:
    """Where the road is painted: lane lines, the line of the parking strip, zebra crossings."""
    aside = np.abs(lateral)
    dashes = np.zeros(x.shape, dtype=bool)
    for number in range(1, layout.lanes):
        dashes |= (np.abs(aside - layout.median - number * _LANE) < 0.1) & (x % 6 < 3)
    edge = np.abs(aside - (layout.kerb - _PARKING)) < 0.1
    zebra = (np.abs(from_crossing - _CROSSING - 2.2) < 1.4) & (lateral % 1.1 < 0.55) & (aside < layout.kerb)
    return ((dashes | edge) & (from_crossing > _CROSSING + 4)) | zebra


def _deck(rng: Rng, **counts: int) -> Iterator[str]:
    """Names without end, shuffled in rounds, so that the rare ones come as often as they should."""
    names = [name for name, count in counts.items() for _ in range(count)]
    while True:
        yield from rng.permutation(names).tolist()


def _row(
    rng: Rng,
    stretch: tuple[float, float],
    gap: tuple[float, float],
    draw: Callable[[], tuple[str, Shape]],
    lateral: Callable[[], float],
    yaw: float = 0.0,
    speed: float = 0.0,
) -> list[Thing]:
    """Things one behind the other, lengthwise along the street, with random gaps in metres."""
    things, along = [], stretch[0] + rng.uniform(*gap)
    while True:
        name, shape = draw()
        if along + shape.size[0] > stretch[1]:
            return things
        things.append(Thing(name, shape, along + shape.size[0] / 2, lateral(), yaw, speed))
        along += shape.size[0] + rng.uniform(*gap)


def _things(layout: Layout, ego_speed: float, traffic: float, rng: Rng) -> list[Thing]:
    things = [thing for side in (-1, 1) for thing in _roadside(layout, side, rng)]
    things += [thing for side in (-1, 1) for thing in _road_works(layout, side, rng)]
    if traffic > 0:
        things += _traffic(layout, ego_speed, traffic, rng)
        for side in (-1, 1):
            things += _kerbside(layout, side, traffic, rng)
    return things


def _traffic(layout: Layout, ego_speed: float, density: float, rng: Rng) -> list[Thing]:
    """Moving vehicles; those of a lane share its speed."""
    deck = _deck(rng, car=6, truck=2, trailer=1, bus=1, motorcycle=3, bicycle=3)

    def draw() -> tuple[str, Shape]:
        name = next(deck)
        return name, objects.SHAPES[name](rng)

    things, gap = [], (5 / density, 13 / density)
    for number in range(layout.lanes):
        centre, speed = layout.lane(number), float(rng.uniform(5, 9))
        place = lambda centre=centre: centre + rng.normal(0, 0.15)  # noqa: E731
        things += _row(rng, (_START, _END), gap, draw, place, np.pi, -speed)
        if number > 0:
            away = lambda centre=centre: -centre + rng.normal(0, 0.15)  # noqa: E731
            things += _row(rng, (_START, _END), gap, draw, away, 0.0, rng.uniform(0.3, 0.6) * ego_speed)
    own = lambda: -layout.lane(0) + rng.normal(0, 0.1)  # noqa: E731
    things += _row(rng, (9.0, _END), gap, draw, own, 0.0, ego_speed)
    return things + _row(rng, (_START, -6.0), gap, draw, own, 0.0, ego_speed)


def _kerbside(layout: Layout, side: int, density: float, rng: Rng) -> list[Thing]:
    """Parked vehicles (not where the road works are, nor near the crossing) and people on the sidewalk."""
    parked = _deck(rng, car=8, truck=2, trailer=2, bus=1, motorcycle=3, bicycle=4)
    walking = _deck(rng, pedestrian=7, bicycle=2, motorcycle=1)

    def draw(deck: Iterator[str]) -> Callable[[], tuple[str, Shape]]:
        def one() -> tuple[str, Shape]:
            name = next(deck)
            return name, objects.SHAPES[name](rng)

        return one

    yaw = 0.0 if side < 0 else np.pi
    strip = lambda: side * (layout.kerb - _PARKING / 2 + rng.normal(0, 0.08))  # noqa: E731
    row = _row(rng, (_START, _END), (1.5 / density, 8 / density), draw(parked), strip, yaw)
    start = layout.works[side > 0]
    free = [
        thing
        for thing in row
        if _clear(thing, layout.crossing, _CROSSING + 4) and _clear(thing, start + 10, 11)
    ]
    people = []
    for direction in (-1, 0, 1):
        lateral = lambda: side * rng.uniform(layout.kerb + 0.9, layout.walk - 0.3)  # noqa: E731
        facing = rng.uniform(0, 2 * np.pi) if direction == 0 else (0.0 if direction > 0 else np.pi)
        row = _row(
            rng, (_START, _END), (3 / density, 12 / density), draw(walking), lateral, facing, direction * 1.2
        )
        people += [thing for thing in row if thing.name == "pedestrian" or direction == 0]
    return free + people


def _road_works(layout: Layout, side: int, rng: Rng) -> list[Thing]:
    """An excavator in the parking strip behind barriers, with cones before, after and along it."""
    start, line = layout.works[side > 0], layout.kerb - _PARKING
    middle = side * (layout.kerb - _PARKING / 2)
    turn = float(rng.uniform(-0.4, 0.4)) + np.pi * int(rng.integers(2))
    digger = objects.construction_vehicle(rng)
    things = [Thing("construction_vehicle", digger, start + 12, middle + side * 0.3, turn)]
    fence = [
        (float(place), side * (line + 0.1), np.pi / 2) for place in np.arange(start + 5, start + 19, 2.4)
    ]
    for along, lateral, yaw in [*fence, (start + 4, middle, 0.0), (start + 19.5, middle, 0.0)]:
        yaw = yaw + rng.normal(0, 0.06)
        things.append(Thing("barrier", objects.barrier(rng), along, lateral, yaw))
    for place in np.arange(start, start + 22, 1.8):
        lateral = line - 0.45 + rng.normal(0, 0.12)
        things.append(Thing("traffic_cone", objects.traffic_cone(rng), float(place), side * lateral))
    return things


def _roadside(layout: Layout, side: int, rng: Rng) -> list[Thing]:
    """Posts and trees at the kerb, the green, and the houses behind it."""
    away = 0.0 if side > 0 else np.pi
    plants = _deck(rng, tree=4, bush=4, hedge=2, wall=1)
    kinds = {"tree": objects.tree, "bush": objects.bush, "hedge": objects.hedge, "wall": objects.wall}

    def grow() -> tuple[str, Shape]:
        kind = next(plants)
        return ("manmade" if kind == "wall" else "vegetation"), kinds[kind](rng)

    stretch = (_START, _END)
    kerb = lambda: side * (layout.kerb + 0.4)  # noqa: E731
    green = lambda: side * rng.uniform(layout.walk + 1.0, layout.green - 1.0)  # noqa: E731
    front = lambda: side * (layout.green + 5.2 + rng.uniform(0, 1.5))  # noqa: E731
    things = _row(
        rng, stretch, (9, 16), lambda: ("manmade", objects.pole(rng)), kerb, np.pi if side > 0 else 0.0
    )
    things += _row(rng, stretch, (10, 22), lambda: ("vegetation", objects.tree(rng)), kerb)
    things += _row(rng, stretch, (0.5, 4), grow, green)
    things += _row(
        rng, (_START - 15, _END + 20), (0.5, 7), lambda: ("manmade", objects.building(rng)), front, away
    )
    light = Thing(
        "manmade", objects.traffic_light(rng), layout.crossing + side * (_CROSSING + 1), side * layout.kerb
    )
    return [light] + [thing for thing in things if _clear(thing, layout.crossing, _CROSSING)]


def _clear(thing: Thing, along: float, half: float) -> bool:
    """Whether a thing leaves a stretch of the street free."""
    return abs(thing.along - along) > half + thing.shape.size[0] / 2


def _stack(things: tuple[Thing, ...]) -> Primitives:
    """The parts of all things as arrays, each in its thing's frame."""
    parts = [(owner, thing, part) for owner, thing in enumerate(things) for part in thing.shape.parts]
    return Primitives(
        kind=np.array([part.kind for _, _, part in parts], dtype=np.int8),
        centre=np.array([part.centre for _, _, part in parts], dtype=np.float32).reshape(-1, 3),
        axes=np.array([part.rotation for _, _, part in parts], dtype=np.float32).reshape(-1, 3, 3),
        half=np.array([part.half for _, _, part in parts], dtype=np.float32).reshape(-1, 3),
        material=np.array([NAMES.index(part.material) for _, _, part in parts], dtype=np.int16),
        colour=np.array([part.colour for _, _, part in parts], dtype=np.float32).reshape(-1, 3),
        owner=np.array([owner for owner, _, _ in parts], dtype=np.int32),
        category=np.array([category_id(thing.name) for _, thing, _ in parts], dtype=np.uint8),
    )
