"""Placement of everything that stands or moves on a street."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clip2scene.synthetic import objects, scenery
from clip2scene.synthetic.world import Shape, Thing

Rng = np.random.Generator
Range = tuple[float, float]

LANE, PARKING, CROSSING = 3.5, 2.6, 5.0
"""Widths of a lane and of the parking strip, and half the width of the crossing street, metres."""


@dataclass(frozen=True)
class Layout:
    """Cross-section of a street and positions along it, metres.

    The cross-section is the same on both sides of the centre line; its edges are distances from that line.

    Attributes:
        stretch: Start and end of the part of the street that holds things; the ego vehicle starts at 0.
        median: Outer edge of the traffic island in the middle.
        lanes: Number of lanes in each direction.
        kerb: Outer edge of the parking strip, where the sidewalk begins.
        walk: Outer edge of the sidewalk, where the green begins.
        green: Outer edge of the green, where the houses begin.
        crossing: Position of the crossing street's centre along this street; its half width is `CROSSING`.
        works: Start positions of the road works in the parking strip, on the right and on the left.
    """

    stretch: Range
    median: float
    lanes: int
    kerb: float
    walk: float
    green: float
    crossing: float
    works: tuple[tuple[float, ...], tuple[float, ...]]

    def lane(self, number: int) -> float:
        """Return the distance from the centre line to a lane's middle, metres; lane 0 is the innermost."""
        return self.median + LANE * (number + 0.5)


_SHAPES = objects.SHAPES | {
    "tree": scenery.tree,
    "bush": scenery.bush,
    "hedge": scenery.hedge,
    "wall": scenery.wall,
    "post": scenery.post,
    "building": scenery.building,
}
"""Drawing function of each kind of thing."""


def place_things(layout: Layout, ego_speed: float, traffic: float, rng: Rng) -> list[Thing]:
    """Place everything on a street.

    Args:
        layout: Cross-section of the street.
        ego_speed: Speed of the ego vehicle, metres per second; vehicles in its lane keep pace with it.
        traffic: Density of vehicles and people, relative to the default street; 0 for none.
        rng: Generator for all random choices.
    """
    things = []
    for side in (-1, 1):
        things += _roadside(layout, side, rng)
        things += _road_works(layout, side, rng)
        if traffic > 0:
            things += _excavators(layout, side, rng)
            things += _parked(layout, side, traffic, rng)
            things += _people(layout, side, traffic, rng)
    return things + (_traffic(layout, ego_speed, traffic, rng) if traffic > 0 else [])


def _deck(rng: Rng, **counts: int) -> Iterator[tuple[str, Shape]]:
    """Yield kinds and shapes endlessly in shuffled rounds, so that rare kinds keep their intended rate."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    while True:
        for kind in rng.permutation(kinds).tolist():
            yield kind, _SHAPES[kind](rng)


def _row(
    rng: Rng,
    deck: Iterator[tuple[str, Shape]],
    stretch: Range,
    gap: Range,
    lateral: Range,
    yaw: float = 0.0,
    speed: float = 0.0,
) -> list[Thing]:
    """Line things up along a stretch of the street; `gap` and `lateral` are ranges in metres."""
    things, along = [], stretch[0] + rng.uniform(*gap)
    while True:
        kind, shape = next(deck)
        length = shape.size[0]
        if along + length > stretch[1]:
            return things
        things.append(Thing(kind, shape, along + length / 2, rng.uniform(*sorted(lateral)), yaw, speed))
        along += length + rng.uniform(*gap)


def _traffic(layout: Layout, ego_speed: float, density: float, rng: Rng) -> list[Thing]:
    """Place moving vehicles; all vehicles of a lane have the same speed."""
    deck = _deck(rng, car=6, truck=2, trailer=1, bus=1, motorcycle=3, bicycle=3)
    # no buses or trailers beside the ego vehicle: they would hide one side of it for seconds
    beside = _deck(rng, car=4, truck=1, motorcycle=2, bicycle=2)
    gap = (5 / density, 13 / density)
    things = []
    for number in range(layout.lanes):
        near, far = layout.lane(number) - 0.25, layout.lane(number) + 0.25
        things += _row(rng, deck, layout.stretch, gap, (near, far), np.pi, -rng.uniform(5, 9))
        if number > 0:  # beside the ego vehicle's lane
            things += _row(
                rng, beside, layout.stretch, gap, (-far, -near), 0.0, rng.uniform(0.3, 0.6) * ego_speed
            )
    own = (-layout.lane(0) - 0.2, -layout.lane(0) + 0.2)
    # ahead of and behind the ego vehicle
    for stretch in ((9.0, layout.stretch[1]), (layout.stretch[0], -6.0)):
        things += _row(rng, deck, stretch, gap, own, 0.0, ego_speed)
    return things


def _parked(layout: Layout, side: int, density: float, rng: Rng) -> list[Thing]:
    """Place vehicles in the parking strip, clear of road works and of the crossing."""
    deck = _deck(rng, car=8, truck=2, trailer=2, bus=1, motorcycle=3, bicycle=4)
    middle = side * (layout.kerb - PARKING / 2)
    yaw = 0.0 if side < 0 else np.pi
    row = _row(rng, deck, layout.stretch, (1.5 / density, 8 / density), (middle - 0.15, middle + 0.15), yaw)
    taken = [(layout.crossing, CROSSING + 4), *((start + 10, 11.0) for start in layout.works[side > 0])]
    return [thing for thing in row if all(_clear(thing, *stretch) for stretch in taken)]


def _people(layout: Layout, side: int, density: float, rng: Rng) -> list[Thing]:
    """Place people who walk in either direction, and people who stand among bicycles and motorcycles."""
    lateral = (side * (layout.kerb + 0.9), side * (layout.walk - 0.3))
    gap = (3 / density, 12 / density)
    standing = _deck(rng, pedestrian=7, bicycle=2, motorcycle=1)
    people = _row(rng, standing, layout.stretch, gap, lateral, rng.uniform(0, 2 * np.pi))
    for yaw, speed in ((0.0, 1.2), (np.pi, -1.2)):
        people += _row(rng, _deck(rng, pedestrian=1), layout.stretch, gap, lateral, yaw, speed)
    return people


def _road_works(layout: Layout, side: int, rng: Rng) -> list[Thing]:
    """Place barriers around parts of the parking strip, and cones along them."""
    line, middle = side * (layout.kerb - PARKING), side * (layout.kerb - PARKING / 2)
    things = []
    for start in layout.works[side > 0]:
        fence = [(along, line + side * 0.1, np.pi / 2) for along in np.arange(start + 5, start + 19, 2.4)]
        for along, lateral, yaw in [*fence, (start + 4, middle, 0.0), (start + 19.5, middle, 0.0)]:
            barrier = objects.barrier(rng)
            things.append(Thing("barrier", barrier, float(along), lateral, yaw + rng.normal(0, 0.06)))
        for along in np.arange(start, start + 22, 1.8):
            lateral = line - side * 0.45 + rng.normal(0, 0.12)
            things.append(Thing("traffic_cone", objects.traffic_cone(rng), float(along), lateral))
    return things


def _excavators(layout: Layout, side: int, rng: Rng) -> list[Thing]:
    """Place an excavator at each road-works site."""
    lateral = side * (layout.kerb - PARKING / 2 + 0.3)
    return [
        Thing(
            "construction_vehicle",
            objects.construction_vehicle(rng),
            start + 12,
            lateral,
            rng.uniform(-0.4, 0.4) + rng.choice([0, np.pi]),
        )
        for start in layout.works[side > 0]
    ]


def _roadside(layout: Layout, side: int, rng: Rng) -> list[Thing]:
    """Place posts and trees at the kerb, plants and walls on the green, houses, and traffic lights."""
    kerb = (side * (layout.kerb + 0.4),) * 2
    green = (side * (layout.walk + 1.0), side * (layout.green - 1.0))
    front = (side * (layout.green + 5.2), side * (layout.green + 6.7))
    inwards = np.pi if side > 0 else 0.0
    wide = (layout.stretch[0] - 15, layout.stretch[1] + 20)
    things = _row(rng, _deck(rng, post=1), layout.stretch, (9, 16), kerb, inwards)
    things += _row(rng, _deck(rng, tree=1), layout.stretch, (10, 22), kerb)
    things += _row(rng, _deck(rng, tree=4, bush=4, hedge=2, wall=1), layout.stretch, (0.5, 4), green)
    things += _row(rng, _deck(rng, building=1), wide, (0.5, 7), front, inwards)
    things = [thing for thing in things if _clear(thing, layout.crossing, CROSSING)]
    corner = layout.crossing + side * (CROSSING + 1)
    return [*things, Thing("traffic_light", scenery.traffic_light(rng), corner, side * layout.kerb)]


def _clear(thing: Thing, along: float, half: float) -> bool:
    """Return whether a thing stays off a stretch of the street, `half` metres to either side of `along`."""
    return abs(thing.along - along) > half + thing.shape.size[0] / 2
