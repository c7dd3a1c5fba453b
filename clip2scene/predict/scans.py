"""Scans of any sensor as files: ``.bin`` of nuScenes or SemanticKITTI, ``.ply``, ``.npy`` and ``.pcd``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clip2scene.datasets.binary import check_points, check_range, read_cloud, read_values
from clip2scene.datasets.frame import Dataset, Frame
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.occupancy import NuScenesOccupancy, ScanNetOccupancy, SemanticKITTIOccupancy
from clip2scene.datasets.ply import read_vertices
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.semantickitti import SemanticKITTI, SemanticKITTIReleased
from clip2scene.errors import InputError
from clip2scene.files import reading

SUFFIXES = (".bin", ".npy", ".pcd", ".ply")
"""Endings of files that hold a scan."""
INTENSITY = ("intensity", "remission", "reflectance", "reflectivity", "i", "scalar_intensity")
"""Names that a file may give the intensity of a point, in small letters."""
_CONSTANT = (NuScenesOccupancy, SemanticKITTIOccupancy, ScanNetOccupancy)
_KNOWN = (NuScenes, SemanticKITTI, ScanNet)


@dataclass(frozen=True)
class Scan:
    """A scan as its file holds it.

    Attributes:
        path: The file.
        points: [N, 3] float32, metres, sensor frame; not a number where the sensor measured nothing.
        intensity: [N, 1] float32; None if the file has none.
        largest: Largest intensity that its sensor gives: 1 for SemanticKITTI's remission, 255 for nuScenes.
        colour: [N, 3] uint8, RGB; None if the file has none.
    """

    path: Path
    points: np.ndarray
    intensity: np.ndarray | None = None
    largest: float = 255
    colour: np.ndarray | None = None


def read_scan_file(path: Path, largest: float | None = None) -> Scan:
    """Read a scan; the file's name decides its format.

    * ``.bin``: float32 x, y, z, intensity and ring (nuScenes) or x, y, z and remission (SemanticKITTI). Its
      size and its rings, which are whole numbers, tell the two apart.
    * ``.npy``: numbers [N, 3 or more]: x, y, z and intensity; x, y, z, red, green, blue, if there are six
      columns; or a structured array with fields of these names.
    * ``.ply``: binary and little-endian, with vertices x, y, z, and intensity or red, green, blue.
    * ``.pcd``: ASCII, binary or compressed, with fields x, y, z, and intensity or rgb. A point that is not a
      number is one that the sensor did not measure.

    Args:
        path: The file.
        largest: Largest intensity that its sensor gives; by default taken from the format or the values.

    Raises:
        InputError: the file is missing, damaged, of another format, or holds points that cannot be.
    """
    readers = {".bin": _read_bin, ".npy": _read_npy, ".pcd": _read_pcd, ".ply": _read_ply}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: ends in {path.suffix!r}; expected a scan, {', '.join(SUFFIXES)}")
    scan = readers[path.suffix.lower()](path)
    measured = np.isfinite(scan.points).all(1)
    if not measured.any():
        raise InputError(f"{path}: holds no point; expected the points of a scan")
    if scan.intensity is None:
        check_points(path, scan.points[measured])
        return scan
    check_points(path, np.column_stack([scan.points, scan.intensity])[measured])
    largest = largest or (scan.largest if path.suffix.lower() == ".bin" else _largest(path, scan.intensity))
    slack = 0.5 if largest == 1 else largest / 255
    check_range(path, scan.intensity[measured], "intensity", (0, largest), slack)
    return replace(scan, largest=largest)


def frame_of(scan: Scan, reader: Dataset) -> tuple[Frame, np.ndarray, str]:
    """Give a scan the features on which a network was trained.

    Args:
        scan: The scan.
        reader: Data set that the network was trained on.

    Returns:
        The measured points with their features, their numbers in the file [M] int64, and in words what the
        features are.

    Raises:
        InputError: the file does not hold what the network needs.
    """
    measured = np.flatnonzero(np.isfinite(scan.points).all(1))
    features, words = _features(scan, reader)
    frame = Frame(
        id=scan.path.stem,
        points=scan.points[measured],
        features=features[measured],
        sweep=np.zeros(len(measured), np.int64),
        labels=None,
        cameras=(),
    )
    return frame, measured, words


def _features(scan: Scan, reader: Dataset) -> tuple[np.ndarray, str]:
    """Return the features [N, C] float32 on the scale of a data set, and the scale in words."""
    if isinstance(reader, _CONSTANT):
        return np.ones((len(scan.points), 1), np.float32), "no feature: the network sees points alone"
    if not isinstance(reader, _KNOWN):
        points, features = reader.read_points(scan.path)
        if len(points) != len(scan.points):
            found = f"{reader.name} reads {len(points)} points of {len(scan.points)}"
            raise InputError(f"{scan.path}: {found}; expected a file of that data set")
        return features, f"features as {reader.name} reads them"
    if reader.feature_channels == 3:
        if scan.colour is None:
            raise InputError(
                f"{scan.path}: has no colour; expected red, green and blue, as the network was trained on "
                f"{reader.name}"
            )
        return scan.colour.astype(np.float32) / 127.5 - 1, f"colour, as in {reader.name}"
    if scan.intensity is None:
        raise InputError(
            f"{scan.path}: has no intensity; expected one for each point, as the network was trained on "
            f"{reader.name} (one trained on {reader.name}_occupancy needs none)"
        )
    if isinstance(reader, SemanticKITTIReleased):
        if scan.largest != 1:
            found = f"intensity of 0 to {scan.largest:g}"
            raise InputError(f"{scan.path}: {found}; expected remission of 0 to 1, as {reader.name} has")
        return reader.intensity(scan.intensity), "remission of 0 to 1, plus 1, as in the released codes"
    if scan.largest == 1:
        words = "remission of 0 to 1, shifted and scaled to nuScenes' mean and deviation"
        return SemanticKITTI.intensity(scan.intensity), words
    factor = np.float32(255 / scan.largest)
    return scan.intensity * factor, f"intensity of 0 to {scan.largest:g}, on nuScenes' scale of 0 to 255"


def _largest(path: Path, intensity: np.ndarray) -> float:
    """Return the scale of intensities that a file does not state: 1 or 255."""
    high = float(np.nanmax(intensity))
    if high > 255:
        found = f"intensity of up to {high:g}, on a scale that the file does not state"
        raise InputError(f"{path}: {found}; expected --intensity, the largest value that the sensor gives")
    return 1 if high <= 1 else 255


def _read_bin(path: Path) -> Scan:
    values = read_values(path, np.float32)
    five = values.size % 5 == 0 and _is_ring(values.reshape(-1, 5)[:, 4])
    if not five and values.size % 4:
        raise InputError(
            f"{path}: {values.nbytes} bytes; expected 20 for each point (nuScenes: x, y, z, intensity, ring) "
            "or 16 (SemanticKITTI: x, y, z, remission)"
        )
    cloud = read_cloud(path, 5 if five else 4)
    return Scan(path, cloud[:, :3].copy(), cloud[:, 3:4].copy(), 255 if five else 1)


def _is_ring(values: np.ndarray) -> bool:
    """Say whether the last of five columns numbers the beams of a lidar."""
    return bool(((values >= 0) & (values < 1024) & (values == np.rint(values))).all())


def _read_npy(path: Path) -> Scan:
    with reading(path, "an array of points", ValueError, EOFError, TypeError):
        values = np.load(path, allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise InputError(f"{path}: holds an archive; expected one array of points")
    if values.dtype.names:
        return _from_fields(path, {name: values[name].reshape(-1) for name in values.dtype.names})
    if values.ndim != 2 or values.shape[1] < 3 or values.dtype.kind not in "fiu" or not len(values):
        found = f"{values.dtype} {list(values.shape)}"
        raise InputError(f"{path}: found {found}; expected numbers [N, 3 or more]: x, y, z and intensity")
    names = ["x", "y", "z", "red", "green", "blue"] if values.shape[1] == 6 else ["x", "y", "z", "intensity"]
    return _from_fields(path, dict(zip(names, values.T, strict=False)))


def _read_ply(path: Path) -> Scan:
    vertices = read_vertices(path, "x", "y", "z")
    return _from_fields(path, {name: vertices[name] for name in vertices.dtype.names})


def _read_pcd(path: Path) -> Scan:
    from pypcd4 import PointCloud

    try:
        with reading(path, "a point cloud (PCD)"), path.open("rb"):
            pass
        cloud = PointCloud.from_path(path)
        fields = {name: cloud.pc_data[name] for name in cloud.fields}
    except InputError:
        raise
    except Exception as error:  # of a damaged file, the reader raises errors of many types
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise InputError(f"{path}: expected a point cloud (PCD), found a damaged file ({reason})") from None
    if "rgb" in fields:
        packed = fields["rgb"].astype(np.float32, copy=False).view(np.uint32)
        fields |= {name: packed >> shift & 255 for name, shift in (("red", 16), ("green", 8), ("blue", 0))}
    return _from_fields(path, fields)


def _from_fields(path: Path, fields: Mapping[str, np.ndarray]) -> Scan:
    """Return a scan from one array [N] a field, by name."""
    named = {name.lower(): values for name, values in fields.items()}
    if missing := [axis for axis in "xyz" if axis not in named]:
        raise InputError(f"{path}: has no field {missing[0]}; found {', '.join(fields)}")
    points = np.stack([named[axis] for axis in "xyz"], axis=1).astype(np.float32)
    intensity = next((named[name] for name in INTENSITY if name in named), None)
    channels = [named.get(name) for name in ("red", "green", "blue")]
    colour = None
    if all(channel is not None for channel in channels):
        colour = np.stack(channels, axis=1)
        if colour.min() < 0 or colour.max() > 255 or (colour.dtype.kind == "f" and colour.max() <= 1):
            found = f"{colour.min():g} to {colour.max():g}"
            raise InputError(f"{path}: colour of {found}; expected whole numbers of 0 to 255")
        colour = colour.astype(np.uint8)
    if intensity is None:
        return Scan(path, points, colour=colour)
    return Scan(path, points, np.asarray(intensity, np.float32).reshape(-1, 1), colour=colour)
