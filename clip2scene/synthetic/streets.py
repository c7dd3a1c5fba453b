"""Random streets: centre line, cross-section and ground; `placement` adds the things."""

import numpy as np

from clip2scene.config import Synthetic
from clip2scene.synthetic.categories import CATEGORIES, FLAT, category_id
from clip2scene.synthetic.parts import stack
from clip2scene.synthetic.placement import CROSSING, LANE, PARKING, Layout, place_things
from clip2scene.synthetic.world import Ground, Street, World

Rng = np.random.Generator

_RESOLUTION = 0.15


def make_world(parameters: Synthetic, rng: Rng, seconds: float) -> World:
    """Draw a street long enough for a drive of the given number of seconds."""
    street = Street(rng.uniform(-4, 4), rng.uniform(28, 45), rng.uniform(0, 2 * np.pi))
    speed = float(rng.uniform(5, 8))
    layout = _layout(speed * seconds, rng)
    ground = _ground(street, layout, parameters.without, rng)
    things = tuple(
        thing
        for thing in place_things(layout, speed, parameters.traffic, rng)
        if thing.name not in parameters.without
    )
    elevation, azimuth = rng.uniform(0.6, 1.1), rng.uniform(0, 2 * np.pi)
    sun = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    return World(
        street=street,
        ground=ground,
        things=things,
        parts=stack([thing.shape for thing in things], [category_id(thing.name) for thing in things]),
        ego_lateral=-layout.lane(0),
        ego_speed=speed,
        sun=np.array(sun, dtype=np.float32),
        tint=(1 + rng.normal(0, 0.07, (len(CATEGORIES), 1)) + rng.normal(0, 0.02, (1, 3))).astype(np.float32),
        rain=parameters.rain,
    )


def _layout(drive: float, rng: Rng) -> Layout:
    """Draw a cross-section, for a street long enough for the ego vehicle's drive in metres."""
    stretch = (-55.0, drive + 65.0)
    median, lanes = rng.uniform(1.0, 1.7), 1 + int(rng.random() < 0.6)
    kerb = median + lanes * LANE + PARKING
    walk = kerb + rng.uniform(2.6, 4.0)
    green = walk + rng.uniform(4, 8)
    starts = rng.permutation([rng.uniform(8, 14), rng.uniform(30, 40)])
    works = tuple(tuple(np.arange(start, stretch[1] - 30, 70.0).tolist()) for start in starts)
    crossing = float(rng.choice([rng.uniform(-28, -18), stretch[1] - rng.uniform(15, 30)]))
    return Layout(stretch, median, lanes, kerb, walk, green, crossing, works)


def _ground(street: Street, layout: Layout, without: tuple[str, ...], rng: Rng) -> Ground:
    corner = layout.stretch[0] - 25, -50.0
    x, y = np.meshgrid(
        np.arange(corner[0], layout.stretch[1] + 30, _RESOLUTION), np.arange(corner[1], 50, _RESOLUTION)
    )
    lateral = street.lateral(x, y)
    aside, from_crossing = np.abs(lateral), np.abs(x - layout.crossing)
    crossing = from_crossing < CROSSING
    island = (aside < layout.median) & (from_crossing > CROSSING + 4)
    planted = island & (np.sin(x / 9 + rng.uniform(0, 6)) > 0.75)  # short stretches of grass
    regions = {
        "driveable_surface": np.ones_like(crossing),
        "terrain": ((aside >= layout.walk) & (from_crossing >= CROSSING + 2)) | planted,
        "sidewalk": (aside >= layout.kerb)
        & ~crossing
        & ((aside < layout.walk) | (from_crossing < CROSSING + 2)),
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
    road = category == category_id("driveable_surface")
    marking = _markings(layout, x, lateral, from_crossing) & road
    parking = (aside > layout.kerb - PARKING) & (from_crossing > CROSSING + 4) & road
    layers = height.astype(np.float32), marking.astype(np.uint8), parking.astype(np.uint8)
    return Ground(corner, _RESOLUTION, category, *layers)


def _markings(layout: Layout, x: np.ndarray, lateral: np.ndarray, from_crossing: np.ndarray) -> np.ndarray:
    """Return the painted parts of the road, [Y, X] bool: lane lines, parking line, zebra crossings."""
    aside = np.abs(lateral)
    dashes = np.zeros(x.shape, dtype=bool)
    for number in range(1, layout.lanes):
        dashes |= (np.abs(aside - layout.median - number * LANE) < 0.1) & (x % 6 < 3)
    edge = np.abs(aside - (layout.kerb - PARKING)) < 0.1
    zebra = (np.abs(from_crossing - CROSSING - 2.2) < 1.4) & (lateral % 1.1 < 0.55) & (aside < layout.kerb)
    return ((dashes | edge) & (from_crossing > CROSSING + 4)) | zebra
