"""Procedural textures, anchored to the surfaces that they cover, and the tileable noise behind them.

A texture takes a `Surface` of M points and their base colours [3, M] float32 in [0, 1], and returns the
colours [3, M] of the points. Textures distinguish classes beyond their shape: ribs on a trailer, windows on a
bus, stripes on a barrier.
"""

from functools import cache

import numpy as np

from clip2scene.synthetic.raycast import Surface

_SIDE = 64


@cache
def _volume() -> np.ndarray:
    """Return smooth periodic noise [64, 64, 64] float32 with zero mean and unit standard deviation."""
    frequency = np.fft.fftfreq(_SIDE)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(frequency, frequency, frequency, indexing="ij")))
    # the same for all seeds: this noise is part of the textures, not of the data
    white = np.random.default_rng(0).standard_normal((_SIDE,) * 3)
    spectrum = np.fft.fftn(white) * np.exp(-((radius * 9) ** 2))
    smooth = np.fft.ifftn(spectrum).real
    return (smooth / smooth.std()).astype(np.float32)


def noise(x: np.ndarray, y: np.ndarray, z: np.ndarray | float, scale: float) -> np.ndarray:
    """Return smooth noise at points x, y, z (metres, equal shapes); a blob is about `scale` metres wide."""
    cells = [(np.asarray(axis) * (4 / scale)).astype(np.int64) & (_SIDE - 1) for axis in (x, y, z)]
    return _volume()[cells[0], cells[1], cells[2]]


def lines(position: np.ndarray, period: float, width: float) -> np.ndarray:
    """Return a bool mask of parallel lines, in the shape of `position`; all arguments are in metres."""
    return (position % period) < width


def mix(colour: np.ndarray, where: np.ndarray, other: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """Replace colours [3, M] with another colour, [3] or [3, M], where a mask [M] is true."""
    other = np.asarray(other, dtype=np.float32)
    return np.where(where, other[:, None] if other.ndim == 1 else other, colour)


def _grain(surface: Surface, colour: np.ndarray, scale: float, amount: float) -> np.ndarray:
    return colour * (1 + amount * noise(*surface.local, scale))


def plain(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of one base colour with a little grain."""
    return _grain(surface, colour, 0.5, 0.06)


def car_body(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of car paint with a dark sill, door gaps, lights and number plates."""
    x, y, z = surface.unit
    ends = np.abs(surface.normal[0]) > 0.9
    colour = _grain(surface, colour, 1.0, 0.04)
    colour = mix(colour, z < -0.75, (0.08, 0.08, 0.09))
    colour = mix(colour, ~ends & lines(surface.local[0] + 50.55, 1.05, 0.04), 0.4 * colour)
    lamp = ends & (np.abs(y) > 0.6) & (z > 0.0) & (z < 0.65)
    colour = mix(colour, lamp & (x > 0), (1.0, 0.97, 0.8))
    colour = mix(colour, lamp & (x < 0), (0.75, 0.04, 0.05))
    return mix(colour, ends & (np.abs(y) < 0.28) & (z < -0.2) & (z > -0.55), (0.9, 0.9, 0.85))


def car_cabin(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of windows between pillars, under a painted roof."""
    sky = 0.10 + 0.16 * (surface.unit[2] + 1)
    glass = np.stack([0.55 * sky, 0.75 * sky, sky])
    pillar = (surface.normal[2] > 0.5) | (surface.unit[2] > 0.8)
    pillar |= (np.abs(surface.normal[1]) > 0.5) & (np.abs(np.abs(surface.unit[0]) - 0.5) > 0.44)
    pillar |= (np.abs(surface.normal[1]) > 0.5) & (np.abs(surface.unit[0]) < 0.04)
    return mix(glass, pillar, colour)


def wheel(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a tyre with a bright hub."""
    radius = np.hypot(surface.unit[0], surface.unit[1])
    return mix(colour, (np.abs(surface.normal[2]) > 0.9) & (radius < 0.55), (0.55, 0.55, 0.57))


def spokes(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a bicycle wheel: a thin dark rim and spokes, light grey between them.

    The grey stands for the background that shows through.
    """
    radius = np.hypot(surface.unit[0], surface.unit[1])
    angle = np.arctan2(surface.unit[1], surface.unit[0])
    web = (radius < 0.82) & (radius > 0.12) & (np.sin(angle * 9) < 0.75)
    return mix(colour, web & (np.abs(surface.normal[2]) > 0.9), (0.62, 0.63, 0.62))


def cargo_box(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a smooth truck box with a band in another colour and doors at the back.

    Its lower edge is an underrun guard of dark steel.
    """
    x, y, z = surface.unit
    colour = _grain(surface, colour, 2.5, 0.05)
    band = (np.abs(z - 0.1) < 0.28) & (np.abs(surface.normal[1]) > 0.5) & (np.abs(x) < 0.7)
    colour = mix(colour, band, 0.35 + 0.65 * colour[[2, 0, 1]])
    colour = mix(colour, z < -0.88, (0.1, 0.1, 0.1))
    doors = (surface.normal[0] < -0.5) & ((np.abs(y) < 0.03) | (np.abs(np.abs(y) - 0.5) < 0.025))
    return mix(colour, doors, (0.25, 0.25, 0.27))


def trailer_box(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a corrugated trailer with red and white reflective tape at the bottom."""
    run = surface.local[0] + surface.local[1]
    ribs = 0.80 + 0.20 * np.sign(np.sin(run * (2 * np.pi / 0.55)))
    colour = _grain(surface, colour, 3.0, 0.08) * ribs
    tape = (surface.unit[2] < -0.72) & (surface.unit[2] > -0.88)
    colour = mix(colour, tape, (0.95, 0.95, 0.95))
    return mix(colour, tape & lines(run, 0.8, 0.4), (0.8, 0.05, 0.05))


def bus_side(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a bus: a row of windows, a white roof, a route display, a windscreen."""
    x, y, z = surface.unit
    side = np.abs(surface.normal[1]) > 0.5
    front = surface.normal[0] > 0.5
    colour = mix(_grain(surface, colour, 2.0, 0.04), z > 0.72, (0.93, 0.93, 0.92))
    colour = mix(colour, side & (z < -0.45) & (z > -0.6), (0.96, 0.85, 0.3))
    window = (z > -0.1) & (z < 0.62) & (np.abs(np.where(side, x, y)) < 0.93)
    window &= ~(side & lines(surface.local[0], 1.35, 0.16)) & (np.abs(surface.normal[2]) < 0.5)
    colour = mix(colour, window, (0.09, 0.13, 0.17))
    colour = mix(colour, front & (z < -0.1) & (z > -0.7) & (np.abs(y) < 0.9), 0.8 * colour)
    display = front & (z > 0.66) & (z < 0.94) & (np.abs(y) < 0.7)
    return mix(colour, display, (0.15, 0.1, 0.0)) + display * np.float32([[0.8], [0.45], [0.0]]) * (
        noise(*surface.local, 0.3) > 0.2
    )


def truck_cab(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a cab: a tall windscreen, side windows, a dark grille, headlights."""
    x, y, z = surface.unit
    front = surface.normal[0] > 0.5
    glass = (z > 0.15) & (z < 0.75) & np.where(front, np.abs(y) < 0.88, np.abs(x - 0.25) < 0.5)
    colour = mix(_grain(surface, colour, 1.0, 0.04), glass & (surface.normal[0] > -0.5), (0.08, 0.12, 0.16))
    colour = mix(colour, front & (z < -0.2) & (z > -0.7) & (np.abs(y) < 0.55), (0.12, 0.12, 0.13))
    return mix(colour, front & (z < -0.5) & (np.abs(y) > 0.65), (1.0, 0.97, 0.8))


def machine(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of worn painted steel with a black hazard band."""
    colour = _grain(surface, _grain(surface, colour, 0.6, 0.10), 2.0, 0.06)
    diagonal = surface.local[0] + surface.local[1] + surface.local[2]
    return mix(colour, (surface.unit[2] < -0.45) & lines(diagonal, 0.6, 0.3), (0.07, 0.07, 0.06))


def tracks(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of dark crawler tracks with plates."""
    return mix(_grain(surface, colour, 0.4, 0.15), lines(surface.local[0], 0.3, 0.1), 0.5 * colour)


def stripes(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a barrier with white diagonal stripes."""
    diagonal = surface.local[0] + surface.local[1] + surface.local[2]
    return mix(_grain(surface, colour, 0.5, 0.05), lines(diagonal, 0.7, 0.35), (0.93, 0.93, 0.9))


def cone_bands(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a traffic cone with white bands."""
    z = surface.unit[2]
    return mix(colour, (np.abs(z + 0.05) < 0.16) | (np.abs(z - 0.45) < 0.1), (0.96, 0.96, 0.94))


def leaves(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of foliage in light and dark clumps."""
    clumps = 1 + 0.28 * noise(*surface.local, 0.45) + 0.25 * noise(*surface.local, 1.3)
    return colour * np.clip(clumps, 0.25, 1.8)


def bark(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of bark with streaks along the trunk."""
    x, y, z = surface.local
    return colour * (1 + 0.3 * noise(x * 3, y * 3, z * 0.3, 0.4))


def facade(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a building: framed windows above a ground floor of shops.

    Courses of brick run between the windows.
    """
    x, y, z = surface.local
    run = np.where(np.abs(surface.normal[0]) > 0.5, y, x) + 100
    up = z + surface.half[2]
    colour = _grain(surface, colour, 6.0, 0.06) * (1 - 0.12 * lines(up, 0.5, 0.08))
    wall = np.abs(surface.normal[2]) < 0.5
    column, floor = (run % 2.8) / 2.8, (up % 3.3) / 3.3
    frame = wall & (np.abs(column - 0.5) < 0.30) & (floor > 0.26) & (floor < 0.80) & (up > 3.3)
    glass = frame & (np.abs(column - 0.5) < 0.25) & (floor > 0.30) & (floor < 0.76)
    shop = wall & (up < 2.6) & (up > 0.5) & (np.abs((run % 5.6) / 5.6 - 0.5) < 0.36)
    lit = 0.10 + 0.22 * (noise(np.floor(run / 2.8), np.floor(up / 3.3), 0.0, 4.0) > 0.6)
    pane = np.stack([0.7 * lit + 0.04, 0.9 * lit + 0.05, lit + 0.09])
    colour = mix(colour, frame, 0.35 + 0.6 * colour)
    return mix(mix(colour, glass, pane), shop, (0.13, 0.14, 0.17))


def sign(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a traffic sign: a coloured field in a white border."""
    border = np.maximum(np.abs(surface.unit[1]), np.abs(surface.unit[2])) > 0.75
    return mix(colour, border, (0.92, 0.92, 0.92))


def asphalt(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of the driveable surface at world x and y [M], metres."""
    shade = 0.30 + 0.022 * noise(x, y, 0.0, 3.0) + 0.022 * noise(x, y, 1.0, 0.3)
    shade = np.where(np.abs(noise(x, y, 3.0, 7.0)) < 0.03, 0.6 * shade, shade)  # cracks
    return np.stack([shade, shade, 1.04 * shade])


def pavers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of traffic islands at world x and y [M], metres: red-brown pavers.

    A yellow hatching covers them.
    """
    shade = 1 + 0.08 * noise(x, y, 5.0, 0.6)
    joint = lines(x, 0.4, 0.06) | lines(y + 0.2 * np.floor(x / 0.4), 0.4, 0.06)
    brick = np.float32([[0.56], [0.31], [0.24]]) * np.where(joint, 0.7, shade)
    return mix(brick, lines(x + y, 2.2, 0.4), (0.86, 0.74, 0.22))


def slabs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of the sidewalk at world x and y [M], metres: light slabs, dark joints."""
    tile = noise(np.floor(x / 0.9), np.floor(y / 0.9), 2.0, 3.0)
    shade = 0.66 + 0.03 * tile + 0.02 * noise(x, y, 2.0, 0.4)
    shade = np.where(lines(x, 0.9, 0.07) | lines(y, 0.9, 0.07), 0.42, shade)
    return np.stack([shade, 0.97 * shade, 0.90 * shade])


def grass(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of terrain at world x and y [M], metres: grass with bare patches."""
    blade = np.clip(1 + 0.16 * noise(x, y, 7.0, 0.25) + 0.10 * noise(x, y, 8.0, 1.2), 0.4, 1.7)
    green = np.float32([[0.36], [0.45], [0.16]]) * blade
    return mix(green, noise(x, y, 9.0, 5.0) > 1.1, np.float32([[0.47], [0.38], [0.24]]) * blade)
