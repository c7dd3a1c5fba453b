"""Shapes of furniture; each function draws one piece.

A piece has its back to the wall: x points into the room, y along the wall, z up. Its footprint is centred on
the origin. Pieces that hang on a wall start above z = 0. All dimensions are in metres.
"""

from collections.abc import Callable

from clip2scene.synthetic.parts import DARK, PAINT, STEEL, Colour, Rng, choose, part, vary
from clip2scene.synthetic.world import BOX, CYLINDER, ELLIPSOID, Part, Shape

_WHITE: Colour = (0.92, 0.92, 0.90)
_WOODS: tuple[Colour, ...] = ((0.55, 0.36, 0.20), (0.72, 0.54, 0.34), (0.38, 0.24, 0.15), (0.80, 0.68, 0.50))
_COLOURS = ("red", "blue", "green", "grey", "beige", "orange", "yellow")


def _wood(rng: Rng) -> Colour:
    return vary(rng, _WOODS[rng.integers(len(_WOODS))], 0.03)


def _legs(length: float, width: float, height: float, thick: float, colour: Colour) -> list[Part]:
    """Return four legs at the corners of a footprint."""
    places = [(x * (length - thick) / 2, y * (width - thick) / 2, 0.0) for x in (-1, 1) for y in (-1, 1)]
    return [part(BOX, place, (thick, thick, height), "wood", colour) for place in places]


def bed(rng: Rng) -> Shape:
    """Draw a bed: a frame with a headboard, a mattress under a quilt, and pillows."""
    name, quilt = choose(rng, _COLOURS)
    length, width, height = 2.05, rng.uniform(1.2, 1.7), rng.uniform(0.45, 0.55)
    wood = _wood(rng)
    parts = [
        part(BOX, (-length / 2 + 0.04, 0, 0), (0.08, width, 0.95), "wood", wood),
        part(BOX, (0.03, 0, 0.1), (length - 0.08, width, 0.2), "wood", wood),
        part(
            BOX, (0.03, 0, 0.3), (length - 0.1, width - 0.04, height - 0.3), "quilt", vary(rng, _WHITE, 0.02)
        ),
        part(BOX, (0.33, 0, 0.34), (length - 0.72, width + 0.02, height - 0.3), "quilt", quilt),
        *[
            part(ELLIPSOID, (-0.7, y, height - 0.04), (0.42, 0.6, 0.2), "cloth", vary(rng, _WHITE, 0.02))
            for y in ((-0.34, 0.34) if width > 1.4 else (0.0,))
        ],
    ]
    return Shape(tuple(parts), (length, width, 0.95), name)


def sofa(rng: Rng) -> Shape:
    """Draw an upholstered sofa with a seat, a back and arms."""
    name, colour = choose(rng, _COLOURS)
    length, width = 0.9, rng.uniform(1.5, 2.1)
    parts = [
        part(BOX, (0, 0, 0.08), (length, width, 0.34), "fabric", colour),
        part(BOX, (-length / 2 + 0.13, 0, 0.42), (0.26, width, 0.45), "fabric", colour),
        *[part(BOX, (0, y * (width / 2 - 0.1), 0.42), (length, 0.2, 0.2), "fabric", colour) for y in (-1, 1)],
    ]
    return Shape(tuple(parts), (length, width, 0.87), name)


def chair(rng: Rng) -> Shape:
    """Draw a chair: a seat with a back on four legs."""
    name, colour = choose(rng, _COLOURS)
    wood = _wood(rng)
    parts = [
        *_legs(0.44, 0.44, 0.44, 0.045, wood),
        part(BOX, (0, 0, 0.44), (0.46, 0.46, 0.06), "fabric", colour),
        part(BOX, (-0.2, 0, 0.55), (0.06, 0.44, rng.uniform(0.35, 0.5)), "fabric", colour),
        *[part(BOX, (-0.2, y, 0.44), (0.04, 0.04, 0.2), "wood", wood) for y in (-0.18, 0.18)],
    ]
    return Shape(tuple(parts), (0.46, 0.46, 0.95), name)


def table(rng: Rng) -> Shape:
    """Draw a table: a wooden top on four legs."""
    length, width, height = rng.uniform(0.75, 0.95), rng.uniform(1.2, 1.6), rng.uniform(0.70, 0.76)
    wood = _wood(rng)
    top = part(BOX, (0, 0, height - 0.05), (length, width, 0.05), "wood", wood)
    return Shape((top, *_legs(length, width, height - 0.05, 0.07, wood)), (length, width, height))


def desk(rng: Rng) -> Shape:
    """Draw a desk: a pale top on a chest of drawers and a side panel."""
    width = rng.uniform(1.2, 1.5)
    colour = vary(rng, (0.84, 0.80, 0.72), 0.03)
    parts = [
        part(BOX, (0, 0, 0.71), (0.65, width, 0.04), "wood", colour),
        part(BOX, (0, width / 2 - 0.2, 0), (0.6, 0.4, 0.71), "fronts", colour),
        part(BOX, (0, -width / 2 + 0.03, 0), (0.6, 0.05, 0.71), "wood", colour),
        part(BOX, (-0.28, 0, 0.3), (0.03, width - 0.1, 0.4), "wood", colour),
    ]
    return Shape(tuple(parts), (0.65, width, 0.75))


def screen(rng: Rng) -> Shape:
    """Draw a monitor at the height of a desk top; it belongs to no class."""
    parts = [
        part(BOX, (0, 0, 0.75), (0.18, 0.24, 0.02), "paint", DARK),
        part(BOX, (-0.03, 0, 0.77), (0.03, 0.05, 0.15), "paint", DARK),
        part(BOX, (0, 0, 0.86), (0.04, 0.55, 0.33), "paint", vary(rng, (0.06, 0.07, 0.09), 0.02)),
    ]
    return Shape(tuple(parts), (0.2, 0.55, 1.2))


def cabinet(rng: Rng) -> Shape:
    """Draw a cabinet: a box with doors, either waist-high or as tall as a wardrobe."""
    height = rng.uniform(1.7, 2.0) if rng.random() < 0.5 else rng.uniform(0.75, 0.95)
    width, colour = rng.uniform(0.8, 1.3), _wood(rng) if rng.random() < 0.7 else vary(rng, _WHITE, 0.02)
    return Shape((part(BOX, (0, 0, 0), (0.5, width, height), "fronts", colour),), (0.5, width, height))


def bookshelf(rng: Rng) -> Shape:
    """Draw a bookshelf: boards between two sides, with a row of books on each."""
    width, height, wood = rng.uniform(0.8, 1.1), rng.uniform(1.6, 1.95), _wood(rng)
    step = height / 5
    parts = [
        *[part(BOX, (0, y * (width / 2 - 0.02), 0), (0.32, 0.04, height), "wood", wood) for y in (-1, 1)],
        part(BOX, (-0.15, 0, 0), (0.02, width, height), "wood", wood),
        *[part(BOX, (0, 0, shelf * step), (0.32, width, 0.03), "wood", wood) for shelf in range(6)],
        *[
            part(
                BOX,
                (-0.02, rng.uniform(-0.06, 0.06), shelf * step + 0.03),
                (0.22, rng.uniform(0.7, 0.85) * width, rng.uniform(0.65, 0.85) * step),
                "books",
                vary(rng, (0.5, 0.5, 0.5), 0.3),
            )
            for shelf in range(5)
        ],
    ]
    return Shape(tuple(parts), (0.32, width, height))


def base(rng: Rng, width: float) -> Shape:
    """Draw the cabinets under a counter or a wash-basin."""
    colour = vary(rng, _WHITE, 0.03) if rng.random() < 0.5 else _wood(rng)
    return Shape((part(BOX, (-0.02, 0, 0), (0.54, width, 0.84), "fronts", colour),), (0.58, width, 0.84))


def hanging(rng: Rng, width: float) -> Shape:
    """Draw the wall cabinets above a counter."""
    colour = vary(rng, _WHITE, 0.03)
    return Shape((part(BOX, (-0.12, 0, 1.45), (0.34, width, 0.6), "fronts", colour),), (0.58, width, 2.05))


def counter(rng: Rng, width: float) -> Shape:
    """Draw a counter top: a stone slab with an upstand at the wall."""
    colour = vary(rng, (0.34, 0.35, 0.37), 0.08)
    parts = [
        part(BOX, (0, 0, 0.84), (0.6, width, 0.06), "stone", colour),
        part(BOX, (-0.28, 0, 0.9), (0.03, width, 0.12), "stone", colour),
    ]
    return Shape(tuple(parts), (0.6, width, 1.02))


def sink(rng: Rng) -> Shape:
    """Draw a basin with a tap; it lies on a counter or a cabinet."""
    steel = rng.random() < 0.5
    colour = vary(rng, (0.72, 0.74, 0.76) if steel else (0.95, 0.95, 0.95), 0.02)
    parts = [
        part(BOX, (0.02, 0, 0.88), (0.44, 0.56, 0.06), "basin", colour),
        part(CYLINDER, (-0.22, 0, 0.9), (0.05, 0.05, 0.25), "metal", STEEL),
        part(BOX, (-0.13, 0, 1.13), (0.2, 0.04, 0.04), "metal", STEEL),
    ]
    return Shape(tuple(parts), (0.6, 0.56, 1.17))


def refrigerator(rng: Rng) -> Shape:
    """Draw a refrigerator: a tall box of steel or white enamel with two doors."""
    name = "silver" if rng.random() < 0.6 else "white"
    height = rng.uniform(1.65, 1.85)
    body = part(BOX, (0, 0, 0), (0.66, 0.7, height), "steel", vary(rng, PAINT[name], 0.03))
    return Shape((body,), (0.66, 0.7, height), name)


def toilet(rng: Rng) -> Shape:
    """Draw a toilet: a bowl with a lid in front of a cistern."""
    white = vary(rng, (0.95, 0.95, 0.95), 0.02)
    parts = [
        part(CYLINDER, (0.1, 0, 0), (0.36, 0.26, 0.34), "paint", white),
        part(ELLIPSOID, (0.1, 0, 0.22), (0.5, 0.38, 0.24), "paint", white),
        part(CYLINDER, (0.1, 0, 0.40), (0.48, 0.38, 0.04), "paint", vary(rng, (0.85, 0.85, 0.85), 0.03)),
        part(BOX, (-0.24, 0, 0.3), (0.18, 0.42, 0.48), "paint", white),
        part(CYLINDER, (-0.24, 0, 0.78), (0.06, 0.06, 0.02), "metal", STEEL),
    ]
    return Shape(tuple(parts), (0.7, 0.42, 0.8))


def bathtub(rng: Rng) -> Shape:
    """Draw a bathtub: four walls around a hollow, with a tap."""
    white, width, length = vary(rng, (0.95, 0.95, 0.95), 0.02), rng.uniform(1.5, 1.7), 0.75
    parts = [
        *[part(BOX, (x * (length / 2 - 0.05), 0, 0), (0.1, width, 0.55), "paint", white) for x in (-1, 1)],
        *[part(BOX, (0, y * (width / 2 - 0.05), 0), (length, 0.1, 0.55), "paint", white) for y in (-1, 1)],
        part(BOX, (0, 0, 0), (length, width, 0.18), "basin", vary(rng, (0.9, 0.93, 0.95), 0.02)),
        part(BOX, (-0.2, -width / 2 + 0.08, 0.55), (0.06, 0.14, 0.14), "metal", STEEL),
    ]
    return Shape(tuple(parts), (length, width, 0.69))


def shower_curtain(rng: Rng) -> Shape:
    """Draw a dotted shower curtain on a rod, pulled over half of the bathtub's front."""
    name, colour = choose(rng, ("red", "blue", "green", "orange"))
    side = 0.42 if rng.random() < 0.5 else -0.42
    parts = [
        part(BOX, (0.34, side, 0.35), (0.06, 0.8, 1.6), "dots", colour),
        part(BOX, (0.34, 0, 1.95), (0.03, 1.6, 0.03), "metal", STEEL),
    ]
    return Shape(tuple(parts), (0.75, 1.6, 1.98), name)


def curtain(rng: Rng) -> Shape:
    """Draw a curtain: two lengths of cloth, one on each side of a window."""
    name, colour = choose(rng, _COLOURS)
    parts = [
        *[part(BOX, (0.0, y, 0.25), (0.1, 0.36, 1.95), "folds", colour) for y in (-0.68, 0.68)],
        part(BOX, (0.0, 0, 2.2), (0.04, 1.8, 0.04), "wood", _wood(rng)),
    ]
    return Shape(tuple(parts), (0.12, 1.8, 2.24), name)


def window(rng: Rng) -> Shape:
    """Draw a window in the wall, with a sill."""
    height = rng.uniform(1.0, 1.25)
    parts = [
        part(BOX, (0, 0, 0.85), (0.06, 1.1, height), "pane", _WHITE),
        part(BOX, (0.04, 0, 0.8), (0.16, 1.2, 0.05), "paint", _WHITE),
    ]
    return Shape(tuple(parts), (0.08, 1.2, 0.85 + height))


def door(rng: Rng) -> Shape:
    """Draw a panelled door in a frame."""
    colour = _wood(rng) if rng.random() < 0.6 else vary(rng, _WHITE, 0.02)
    parts = [
        part(BOX, (0, 0, 0), (0.06, 0.86, 2.02), "panels", colour),
        *[part(BOX, (0, y, 0), (0.1, 0.08, 2.1), "wood", colour) for y in (-0.47, 0.47)],
        part(BOX, (0, 0, 2.02), (0.1, 1.02, 0.08), "wood", colour),
    ]
    return Shape(tuple(parts), (0.1, 1.02, 2.1))


def picture(rng: Rng) -> Shape:
    """Draw a framed picture on a wall."""
    name, colour = choose(rng, _COLOURS)
    size = (0.04, rng.uniform(0.6, 1.1), rng.uniform(0.5, 0.75))
    return Shape((part(BOX, (0, 0, 1.2), size, "painting", colour),), (0.05, size[1], 1.2 + size[2]), name)


def other(rng: Rng) -> Shape:
    """Draw other furniture: an ottoman or a radiator."""
    if rng.random() < 0.5:
        name, colour = choose(rng, _COLOURS)
        parts = [part(CYLINDER, (0, 0, 0), (0.55, 0.55, 0.42), "fabric", colour)]
        return Shape(tuple(parts), (0.6, 0.6, 0.42), name)
    ribs = part(BOX, (-0.05, 0, 0.12), (0.12, rng.uniform(0.7, 1.0), 0.6), "ribs", vary(rng, _WHITE, 0.02))
    return Shape((ribs,), (0.24, 1.0, 0.72))


SHAPES: dict[str, Callable[[Rng], Shape]] = {
    "bed": bed,
    "sofa": sofa,
    "chair": chair,
    "table": table,
    "desk": desk,
    "cabinet": cabinet,
    "bookshelf": bookshelf,
    "refrigerator": refrigerator,
    "toilet": toilet,
    "other furniture": other,
}
"""Drawing functions of pieces that stand alone; `rooms` combines the other pieces into units."""
