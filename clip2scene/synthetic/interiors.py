"""Procedural textures of rooms and furniture; `texture` defines their arguments and results."""

import numpy as np

from clip2scene.synthetic.raycast import Surface
from clip2scene.synthetic.texture import lines, mix, noise


def _plane(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Return two coordinates [M] in the faces of boxes, metres from the box's middle.

    The first runs along the face; the second points up on upright faces.
    """
    x, y, z = surface.local
    across, flat = np.abs(surface.normal[0]) > 0.5, np.abs(surface.normal[2]) > 0.5
    return np.where(across, y, x), np.where(flat, y, z)


def plaster(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of painted plaster with little grain, above a white skirting board."""
    x, y, z = surface.local
    skirting = z + surface.half[2] < 0.09
    return mix(colour * (1 + 0.02 * noise(x, y, z, 1.5)), skirting, (0.88, 0.87, 0.84))


def wallpaper(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of wallpaper with broad, lighter stripes, above a white skirting board."""
    run, _ = _plane(surface)
    striped = mix(colour, lines(run + 50, 0.3, 0.09), np.clip(1.14 * colour, 0, 1))
    return mix(striped, surface.local[2] + surface.half[2] < 0.09, (0.88, 0.87, 0.84))


def tiles(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of glazed tiles with darker joints, for walls and floors."""
    run, up = _plane(surface)
    shade = 1 + 0.03 * noise(np.floor(run / 0.2), np.floor(up / 0.2), 0.0, 3.0)
    return mix(colour * shade, lines(run + 50, 0.2, 0.015) | lines(up + 50, 0.2, 0.015), 0.72 * colour)


def parquet(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of floor boards along x, each in its own shade."""
    x, y, _ = surface.local
    board = np.floor(y / 0.14)
    joint = lines(y + 50, 0.14, 0.012) | lines(x + 50 + 0.37 * board, 1.1, 0.015)
    shade = (
        1
        + 0.16 * noise(board, np.floor((x + 0.37 * board) / 1.1), 0.0, 2.0)
        + 0.08 * noise(x, 8 * y, 3.0, 0.5)
    )
    return mix(colour * shade, joint, 0.55 * colour)


def carpet(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a carpet with fine speckles."""
    x, y, _ = surface.local
    return colour * (1 + 0.10 * noise(x, y, 1.0, 0.05) + 0.04 * noise(x, y, 2.0, 0.6))


def wood(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of furniture wood.

    The fine grain runs upwards on upright faces; on white paint it is barely visible.
    """
    x, y, z = surface.local
    flat = np.abs(surface.normal[2]) > 0.5
    grain = np.where(flat, noise(8 * x, 0.8 * y, z, 0.5), noise(8 * (x + y), 0.0, 0.8 * z, 0.5))
    return colour * (1 + 0.16 * (1 - colour.mean(0)) * grain)


def fronts(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a cabinet: its front (+x) has doors with dark gaps and bright knobs.

    All other faces are plain wood.
    """
    _, y, z = surface.local
    front = surface.normal[0] > 0.5
    width = 2 * surface.half[1] / np.maximum(1, np.round(2 * surface.half[1] / 0.45))
    at = (y + surface.half[1]) % width
    gap = (at < 0.012) | (width - at < 0.012) | (surface.half[2] - np.abs(z) < 0.02)
    knob = (np.hypot(at - 0.82 * width, z - 0.25 * surface.half[2]) < 0.035) & front
    return mix(mix(wood(surface, colour), gap & front, 0.35 * colour), knob, (0.80, 0.78, 0.70))


def panels(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a door: sunken panels and a handle on its two x faces."""
    _, y, z = surface.unit
    column, row = np.abs(np.abs(y) - 0.45), np.abs(np.abs(z) - 0.47)
    rim = ((column < 0.33) & (row < 0.38)) & ~((column < 0.27) & (row < 0.34))
    handle = (y > 0.68) & (y < 0.9) & (np.abs(surface.local[2] + 0.03) < 0.035)
    return mix(mix(wood(surface, colour), rim, 0.6 * colour), handle, (0.80, 0.76, 0.60))


def pane(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a window: a bright sky above a far horizon, between white bars."""
    _, y, z = surface.unit
    bars = (np.maximum(np.abs(y), np.abs(z)) > 0.88) | (np.abs(y) < 0.06)
    green = np.float32([[0.45], [0.58], [0.38]]) * (1 + 0.2 * noise(*surface.local, 0.3))
    sky = np.float32([[0.70], [0.84], [0.98]]) * np.ones_like(colour)
    return mix(mix(green, z > -0.35, sky), bars, (0.95, 0.95, 0.94))


def painting(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a picture: blobs on a coloured ground, a white mat, a dark frame."""
    _, y, z = surface.unit
    place = surface.local + 3 * colour[:, :1]
    blobs = mix(colour, noise(*place, 0.25) > 0.3, np.clip(1.1 - colour[[1, 2, 0]], 0, 1))
    blobs = mix(blobs, noise(*place, 0.18) < -0.8, 0.4 * colour[[2, 0, 1]])
    edge = np.maximum(np.abs(y), np.abs(z))
    return mix(mix(blobs, edge > 0.72, (0.93, 0.92, 0.88)), edge > 0.88, (0.12, 0.09, 0.07))


def books(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a row of books: narrow spines with titles, each in its own colour."""
    _, y, z = surface.local
    spine = np.floor(y / 0.045)
    hue = [0.45 + 0.35 * np.sin(spine * factor + 9 * colour[0]) for factor in (12.9, 7.7, 4.1)]
    shaded = np.stack(hue) * np.where(lines(y + 50, 0.045, 0.008), 0.4, 1)
    return mix(shaded, np.abs(z / surface.half[2] - 0.3) < 0.12, 0.4 + 0.6 * shaded).astype(np.float32)


def steel(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a refrigerator: brushed doors, a gap between them, two dark handles."""
    _, y, z = surface.unit
    front = surface.normal[0] > 0.5
    brushed = colour * (1 + 0.03 * noise(surface.local[0], surface.local[1], 9 * surface.local[2], 0.3))
    handle = (np.abs(y - 0.75) < 0.06) & (np.abs(np.abs(z - 0.3) - 0.28) < 0.18)
    return mix(brushed, front & (handle | (np.abs(z - 0.3) < 0.012)), (0.15, 0.15, 0.16))


def fabric(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of upholstery: a weave, and seams between cushions."""
    x, y, z = surface.local
    weave = 1 + 0.08 * np.sign(np.sin(x * 160) * np.sin(y * 160 + z * 160))
    return mix(colour * weave, lines(y + 50.02, 0.65, 0.02), 0.6 * colour)


def quilt(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a quilt with light and dark checks."""
    x, y, _ = surface.local
    checks = (np.floor(x / 0.22) + np.floor(y / 0.22)) % 2
    return colour * (0.92 + 0.16 * checks + 0.05 * noise(x, y, 0.0, 0.3))


def folds(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a curtain with soft vertical folds."""
    run = surface.local[0] + surface.local[1]
    return colour * (0.84 + 0.16 * np.sin(run * (2 * np.pi / 0.14)))


def dots(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a white shower curtain with folds and rows of coloured dots."""
    run, up = _plane(surface)
    near = np.hypot((run + 50) % 0.2 - 0.1, (up + 50) % 0.2 - 0.1) < 0.06
    light = np.float32([[0.93], [0.95], [0.96]]) * (0.93 + 0.07 * np.sin(run * (2 * np.pi / 0.25)))
    return mix(light, near, colour)


def stone(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a counter top of speckled stone."""
    x, y, z = surface.local
    return colour * np.clip(1 + 0.22 * noise(x, y, z, 0.06) + 0.1 * noise(x, y, z, 0.3), 0.4, 1.8)


def basin(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a sink or tub from above: a bright rim, a dark hollow, a drain."""
    x, y, _ = surface.unit
    hollow = (surface.normal[2] > 0.5) & (np.maximum(np.abs(x), np.abs(y)) < 0.78)
    drain = hollow & (np.hypot(surface.local[0], surface.local[1]) < 0.04)
    return mix(mix(colour, hollow, 0.62 * colour), drain, (0.1, 0.1, 0.1))


def ribs(surface: Surface, colour: np.ndarray) -> np.ndarray:
    """Return the colours [3, M] of a radiator with upright ribs."""
    return colour * np.where(lines(surface.local[1] + 50, 0.06, 0.02), np.float32(0.6), np.float32(1))
