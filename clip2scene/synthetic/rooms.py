"""Random rooms: furniture along the walls and in the middle, and the path of the camera."""

from dataclasses import dataclass

import numpy as np

from clip2scene.datasets.scannet import NYU40_IDS, ScanNet
from clip2scene.synthetic import furniture
from clip2scene.synthetic.camera import OPTICAL
from clip2scene.synthetic.parts import Colour, Rng, part, stack, tilt, vary
from clip2scene.synthetic.world import BOX, Primitives, Shape, rotation_z

CATEGORIES = dict(zip(ScanNet.classes, NYU40_IDS, strict=True)) | {"ceiling": 22, "other property": 40}
"""NYU40 ids of everything in a room; the last two belong to none of ScanNet's 20 classes."""

KINDS = ("bedroom", "living room", "kitchen", "bathroom")

_HEIGHT, _EYE = 2.5, 1.5
_THICK = 0.1
_TRIES = 60
_GOLDEN = np.pi * (3 - np.sqrt(5))
_PITCHES = (-0.10, -0.42, -0.70)


@dataclass(frozen=True)
class Piece:
    """Shape placed in a room.

    Attributes:
        name: Key of `CATEGORIES`.
        shape: Shape of the piece.
        x, y: Position of the shape's origin on the floor, metres from the room's middle.
        yaw: Direction of the shape's x axis, radians.
    """

    name: str
    shape: Shape
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True)
class Room:
    """Furnished room; the origin of its frame is the middle of the floor.

    Attributes:
        size: Length (x) and width (y), metres.
        things: Everything in the room, including its walls.
        primitives: Primitives of all things, room frame.
        light: [3] float32, unit vector towards the lamp.
    """

    size: tuple[float, float]
    things: tuple[Piece, ...]
    primitives: Primitives
    light: np.ndarray

    def eye(self, frame: int, rng: Rng) -> np.ndarray:
        """Return the camera pose [4, 4] float64 of a frame of the scan, camera to room, metres.

        The camera stands a step back from the middle of the room and looks to all sides in turn.
        """
        azimuth = frame * _GOLDEN + rng.normal(0, 0.05)
        # every third frame, which becomes an image, also goes through all pitches
        pitch = _PITCHES[(frame + frame // 3) % 3] + rng.normal(0, 0.03)
        pose = np.eye(4)
        pose[:3, :3] = rotation_z(azimuth) @ tilt(pitch) @ OPTICAL
        back = -0.3 * np.array([np.cos(azimuth), np.sin(azimuth)]) * self.size / 2
        pose[:3, 3] = *(back + rng.normal(0, 0.05, 2)), _EYE + rng.normal(0, 0.05)
        return pose


@dataclass(frozen=True)
class _Item:
    """Piece of a unit: distance of its middle from the wall, metres, and whether it is turned to the wall."""

    name: str
    shape: Shape
    distance: float
    turned: bool = False


Unit = tuple[_Item, ...]


def make_room(kind: str, rng: Rng) -> Room:
    """Draw a room of one of `KINDS`."""
    bath = kind == "bathroom"
    size = (
        (rng.uniform(3.0, 3.5), rng.uniform(3.0, 3.4))
        if bath
        else (rng.uniform(4.2, 5.2), rng.uniform(3.8, 4.6))
    )
    things = _furnish(size, _units(kind, rng), kind in ("living room", "kitchen"), rng)
    things = (*_shell(size, bath, rng), *things)
    parts = stack([thing.shape for thing in things], [CATEGORIES[thing.name] for thing in things])
    yaw = np.array([thing.yaw for thing in things])
    place = np.array([(thing.x, thing.y, 0.0) for thing in things])
    light = np.array([*rng.normal(0, 0.25, 2), 1.0])
    return Room(
        size,
        things,
        parts.moved(rotation_z(yaw)[parts.owner], place[parts.owner]),
        (light / np.linalg.norm(light)).astype(np.float32),
    )


def _shell(size: tuple[float, float], bath: bool, rng: Rng) -> tuple[Piece, ...]:
    """Return the floor, the ceiling and the four walls."""
    length, width = size[0] + 2 * _THICK, size[1] + 2 * _THICK
    colour: Colour = vary(rng, (0.80, 0.85, 0.86) if bath else (0.82, 0.78, 0.70), 0.06)
    surface = "tiles" if bath else ("plaster", "wallpaper")[rng.integers(2)]
    ground, shade = (
        ("tiles", (0.45, 0.47, 0.50))
        if bath
        else (("parquet", (0.55, 0.38, 0.24)), ("carpet", (0.46, 0.42, 0.44)))[rng.integers(2)]
    )
    floor = part(BOX, (0, 0, -_THICK), (length, width, _THICK), ground, vary(rng, shade))
    ceiling = part(BOX, (0, 0, _HEIGHT), (length, width, _THICK), "plaster", (0.93, 0.93, 0.92))
    walls = [
        part(BOX, (x * (size[0] + _THICK) / 2, y * (size[1] + _THICK) / 2, 0), extent, surface, colour)
        for x, y, extent in (
            (-1, 0, (_THICK, width, _HEIGHT)),
            (1, 0, (_THICK, width, _HEIGHT)),
            (0, -1, (length, _THICK, _HEIGHT)),
            (0, 1, (length, _THICK, _HEIGHT)),
        )
    ]
    shapes = (("floor", floor), ("ceiling", ceiling), *(("wall", wall) for wall in walls))
    return tuple(Piece(name, Shape((box,), (length, width, _HEIGHT))) for name, box in shapes)


def _units(kind: str, rng: Rng) -> list[Unit]:
    """Return the furniture units of a room, large ones first."""
    alone = [_unit(name, furniture.SHAPES[name](rng)) for name in ("cabinet", "other furniture")]
    window = _unit("window", furniture.window(rng), ("curtain", furniture.curtain(rng)))
    door = (_Item("door", furniture.door(rng), 0.05),)
    match kind:
        case "bedroom":
            bed = _unit("bed", furniture.bed(rng), ("picture", furniture.picture(rng)))
            return [bed, _desk(rng), door, window, _unit("bookshelf", furniture.bookshelf(rng)), *alone]
        case "living room":
            sofas = [
                _unit("sofa", furniture.sofa(rng), ("picture", furniture.picture(rng))) for _ in range(2)
            ]
            return [*sofas, door, window, _unit("bookshelf", furniture.bookshelf(rng)), _desk(rng), *alone]
        case "kitchen":
            width = rng.uniform(1.8, 2.4)
            top = ("counter", furniture.counter(rng, width)), ("sink", furniture.sink(rng))
            run = _unit(
                "cabinet", furniture.base(rng, width), *top, ("cabinet", furniture.hanging(rng, width))
            )
            cold = _unit("refrigerator", furniture.refrigerator(rng))
            return [run, cold, door, window, _unit("picture", furniture.picture(rng)), *alone]
    tub = _unit("bathtub", furniture.bathtub(rng), ("shower curtain", furniture.shower_curtain(rng)))
    basin = _unit("cabinet", furniture.base(rng, 0.8), ("sink", furniture.sink(rng)))
    pane = _unit("window", furniture.window(rng))
    return [tub, _unit("toilet", furniture.toilet(rng)), basin, door, pane, *alone]


def _unit(name: str, shape: Shape, *more: tuple[str, Shape]) -> Unit:
    """Return pieces that share a place at a wall, all with their backs to it."""
    return tuple(_Item(name, shape, shape.size[0] / 2) for name, shape in ((name, shape), *more))


def _desk(rng: Rng) -> Unit:
    """Return a desk with a monitor, a chair in front of it and a picture above."""
    desk = _unit("desk", furniture.desk(rng), ("picture", furniture.picture(rng)))
    monitor = _Item("other property", furniture.screen(rng), 0.25)
    return (*desk, monitor, _Item("chair", furniture.chair(rng), 0.85, turned=True))


def _furnish(size: tuple[float, float], units: list[Unit], table: bool, rng: Rng) -> list[Piece]:
    """Place units where there is room along the walls, and optionally a table with chairs in the middle."""
    things, taken = [], []
    for unit in units:
        depth = max(item.distance + item.shape.size[0] / 2 for item in unit)
        width = max(item.shape.size[1] for item in unit)
        clear = 0.8 if unit[0].name == "door" else depth
        for _ in range(_TRIES):
            side = int(rng.integers(4))
            across, along = size if side % 2 == 0 else size[::-1]
            place = rng.uniform(-1, 1) * (along - width) / 2
            turn = rotation_z(side * np.pi / 2)[:2, :2]
            box = [turn @ (x - across / 2, y + place) for x in (0, clear) for y in (-width / 2, width / 2)]
            if _free(box, taken):
                taken.append(box)
                things += [_against(item, side, turn @ (item.distance - across / 2, place)) for item in unit]
                break
    return things + (_dining(rng) if table else [])


def _against(item: _Item, side: int, place: np.ndarray) -> Piece:
    yaw = side * np.pi / 2 + np.pi * item.turned
    return Piece(item.name, item.shape, float(place[0]), float(place[1]), yaw)


def _free(box: list[np.ndarray], taken: list[list[np.ndarray]]) -> bool:
    """Return whether a footprint (its corners, along the axes) keeps 5 cm from every taken one."""
    low, high = np.min(box, axis=0) - 0.05, np.max(box, axis=0) + 0.05
    return not any(
        (low < np.max(other, axis=0)).all() and (np.min(other, axis=0) < high).all() for other in taken
    )


def _dining(rng: Rng) -> list[Piece]:
    """Return a table in the middle of the room with chairs along two sides."""
    table = furniture.table(rng)
    x, y = rng.uniform(-0.15, 0.15, 2)
    chairs = [
        Piece(
            "chair",
            furniture.chair(rng),
            float(x + side * (table.size[0] / 2 + rng.uniform(0.05, 0.25))),
            float(y + along * table.size[1] / 4),
            (np.pi if side > 0 else 0.0) + rng.normal(0, 0.15),
        )
        for side in (-1, 1)
        for along in (-1, 1)
    ]
    return [Piece("table", table, float(x), float(y)), *chairs]
