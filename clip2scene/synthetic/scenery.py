"""Shapes of the roadside: plants, houses, posts and walls."""

from clip2scene.synthetic.parts import DARK, PAINT, STEEL, Colour, Rng, part, vary
from clip2scene.synthetic.world import BOX, CONE, CYLINDER, ELLIPSOID, Shape


def tree(rng: Rng) -> Shape:
    """Draw a tree: a trunk under a crown of three ellipsoids, or a conifer."""
    trunk, spread, height = rng.uniform(1.8, 3.0), rng.uniform(2.6, 4.8), rng.uniform(5.5, 9.0)
    green = vary(rng, (0.20, 0.38, 0.12), 0.05)
    stem = part(CYLINDER, (0, 0, 0), (0.4, 0.4, trunk + 1.0), "bark", vary(rng, (0.33, 0.25, 0.18), 0.03))
    if rng.random() < 0.2:
        crown = [part(CONE, (0, 0, 0.6 * trunk), (spread, spread, height - 0.6 * trunk), "leaves", green)]
    else:
        crown = []
        for _ in range(3):
            x, y = rng.normal(0, 0.22 * spread, 2)
            place, size = (x, y, trunk + rng.uniform(0, 0.8)), 0.78 * spread
            crown.append(part(ELLIPSOID, place, (size, size, (height - trunk) * 0.85), "leaves", green))
    return Shape((stem, *crown), (spread, spread, height))


def bush(rng: Rng) -> Shape:
    """Draw a bush: two low ellipsoids of leaves."""
    size, green = rng.uniform(1.0, 2.0), vary(rng, (0.22, 0.36, 0.13), 0.05)
    places = [rng.uniform(-0.6, 0.6, 2) for _ in range(2)]
    parts = [part(ELLIPSOID, (x, y, -0.15), (size, size, 0.8 * size), "leaves", green) for x, y in places]
    return Shape(tuple(parts), (2 * size, 2 * size, size))


def hedge(rng: Rng) -> Shape:
    """Draw a hedge: a clipped wall of leaves along x."""
    length, height = rng.uniform(4, 8), rng.uniform(0.9, 1.8)
    leaves = part(BOX, (0, 0, 0), (length, 0.9, height), "leaves", vary(rng, (0.17, 0.33, 0.12), 0.04))
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
    """Draw a building: a block with a facade towards y, and a cornice."""
    length, depth = rng.uniform(8, 18), 10.0
    height = float(3.3 * rng.integers(2, 7) + 0.6)
    wall = vary(rng, _WALLS[rng.integers(len(_WALLS))], 0.04)
    parts = [
        part(BOX, (0, 0, -0.5), (length, depth, height + 0.5), "facade", wall),
        part(
            BOX,
            (0, 0, height - 0.1),
            (length + 0.5, depth + 0.5, 0.5),
            "paint",
            vary(rng, (0.5, 0.48, 0.45)),
        ),
    ]
    return Shape(tuple(parts), (length, depth, height))


def post(rng: Rng) -> Shape:
    """Draw a street lamp or a traffic sign."""
    if rng.random() < 0.5:
        mast = part(CYLINDER, (0, 0, 0), (0.2, 0.2, 7.0), "metal", STEEL)
        head = part(BOX, (0, -0.8, 6.8), (0.3, 1.9, 0.15), "metal", STEEL)
        return Shape((mast, head), (0.3, 1.9, 7.0))
    mast = part(CYLINDER, (0, 0, 0), (0.1, 0.1, 2.8), "metal", STEEL)
    plate = part(
        BOX, (0.07, 0, 2.1), (0.06, 0.75, 0.75), "sign", PAINT[("blue", "red", "green")[rng.integers(3)]]
    )
    return Shape((mast, plate), (0.2, 0.75, 2.8))


def traffic_light(rng: Rng) -> Shape:
    """Draw a traffic light: a post with a box of lamps at its top."""
    mast = part(CYLINDER, (0, 0, 0), (0.16, 0.16, 3.6), "metal", DARK)
    lamps = part(BOX, (0, 0, 2.7), (0.3, 0.35, 1.0), "paint", (0.1, 0.1, 0.08))
    lamp = (0.9, 0.1, 0.08) if rng.random() < 0.5 else (0.1, 0.8, 0.3)
    light = part(ELLIPSOID, (-0.15, 0, 3.3), (0.12, 0.24, 0.24), "paint", lamp)
    return Shape((mast, lamps, light), (0.3, 0.35, 3.7))


def wall(rng: Rng) -> Shape:
    """Draw a low garden wall along x."""
    length, height = rng.uniform(4, 9), rng.uniform(0.8, 1.6)
    stones = part(
        BOX, (0, 0, 0), (length, 0.35, height), "paint", vary(rng, _WALLS[rng.integers(len(_WALLS))])
    )
    return Shape((stones,), (length, 0.35, height))
