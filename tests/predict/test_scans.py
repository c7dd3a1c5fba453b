"""Files of scans, and the features that a network gets of them."""

import numpy as np
import pytest
from pypcd4 import Encoding, PointCloud

from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.datasets.occupancy import NuScenesOccupancy
from clip2scene.datasets.ply import write_vertices
from clip2scene.datasets.scannet import ScanNet
from clip2scene.datasets.semantickitti import SemanticKITTI, SemanticKITTIReleased
from clip2scene.errors import InputError
from clip2scene.predict.scans import frame_of, read_scan_file


def write(path, points, intensity=None, colour=None, encoding=Encoding.BINARY):
    """Write points as the ending of `path` says."""
    fields = {**dict(zip("xyz", points.T, strict=True))}
    fields |= {} if intensity is None else {"intensity": intensity}
    fields |= {} if colour is None else dict(zip(("red", "green", "blue"), colour.T, strict=True))
    if path.suffix == ".bin":
        ring = [np.arange(len(points)) % 32] if path.name.endswith(".pcd.bin") else []
        np.column_stack([points, intensity, *ring]).astype(np.float32).tofile(path)
    elif path.suffix == ".npy":
        np.save(path, np.column_stack(list(fields.values())))
    elif path.suffix == ".ply":
        layout = [(name, values.dtype.str.replace("|", "")) for name, values in fields.items()]
        vertices = np.empty(len(points), layout)
        for name, values in fields.items():
            vertices[name] = values
        write_vertices(path, vertices)
    else:
        columns = [np.asarray(values, np.float32) for values in fields.values()]
        cloud = PointCloud.from_points(columns, tuple(fields), (np.float32,) * len(fields))
        cloud.save(path, encoding)
    return path


@pytest.mark.parametrize("name", ["a.pcd.bin", "a.npy", "a.ply", "a.pcd"])
def test_one_scan_is_the_same_in_every_format(tmp_path, cloud, name):
    points, intensity = cloud
    scan = read_scan_file(write(tmp_path / name, points, intensity))
    frame, measured, words = frame_of(scan, NuScenes())
    np.testing.assert_array_equal(frame.points, points)
    np.testing.assert_allclose(frame.features[:, 0], intensity)
    assert measured.tolist() == list(range(60))
    assert "0 to 255" in words


@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_encoding_of_pcd_is_read(tmp_path, cloud, encoding):
    points, intensity = cloud
    scan = read_scan_file(write(tmp_path / "a.pcd", points, intensity, encoding=encoding))
    np.testing.assert_allclose(scan.points, points, rtol=1e-5)
    np.testing.assert_allclose(scan.intensity[:, 0], intensity, rtol=1e-5)


def test_a_scan_of_semantickitti_has_nuscenes_scale(tmp_path, cloud):
    """As the loader of the data set that a network was trained on reads the same file."""
    points, intensity = cloud
    path = write(tmp_path / "000000.bin", points, intensity / 160)
    scan = read_scan_file(path)
    assert scan.largest == 1
    expected = SemanticKITTI().read_points(path)[1]
    for reader in (NuScenes(), SemanticKITTI()):
        np.testing.assert_array_equal(frame_of(scan, reader)[0].features, expected)
    released = SemanticKITTIReleased()
    np.testing.assert_array_equal(frame_of(scan, released)[0].features, released.read_points(path)[1])


def test_real_files_are_recognised(shared_data):
    kitti = read_scan_file(shared_data / "semantickitti/sequence-00/000000.bin")
    assert (len(kitti.points), kitti.largest) == (124_668, 1)
    (lidar,) = (shared_data / "nuscenes_scene-0061").glob("*.pcd.bin")
    nuscenes = read_scan_file(lidar)
    assert (len(nuscenes.points), nuscenes.largest) == (34_688, 255)
    np.testing.assert_array_equal(
        frame_of(nuscenes, NuScenes())[0].features, NuScenes().read_points(lidar)[1]
    )


def test_another_scale_is_stated_or_refused(tmp_path, cloud):
    points, intensity = cloud
    path = write(tmp_path / "a.npy", points, 257 * intensity)
    with pytest.raises(InputError, match="on a scale that the file does not state; expected --intensity"):
        read_scan_file(path)
    frame, _, words = frame_of(read_scan_file(path, 65535), NuScenes())
    np.testing.assert_allclose(frame.features[:, 0], intensity, rtol=1e-5)
    assert words == "intensity of 0 to 65535, on nuScenes' scale of 0 to 255"
    with pytest.raises(InputError, match=r"intensity of 2570 to 41120; expected 0 to 1$"):
        read_scan_file(path, 1)


def test_points_that_were_not_measured_are_left_out(tmp_path, cloud):
    points, intensity = cloud
    points[7] = np.nan
    frame, measured, _ = frame_of(read_scan_file(write(tmp_path / "a.pcd", points, intensity)), NuScenes())
    assert len(frame.points) == len(measured) == 59
    assert 7 not in measured


def test_a_network_gets_what_it_was_trained_on_or_one_line_says_what_is_missing(tmp_path, cloud):
    points, intensity = cloud
    colour = np.arange(180).reshape(60, 3).astype(np.uint8)
    bare = read_scan_file(write(tmp_path / "bare.ply", points))
    with pytest.raises(InputError, match="bare.ply: has no intensity; expected one for each point"):
        frame_of(bare, NuScenes())
    with pytest.raises(InputError, match="bare.ply: has no colour; expected red, green and blue"):
        frame_of(bare, ScanNet())
    assert (frame_of(bare, NuScenesOccupancy())[0].features == 1).all()
    path = write(tmp_path / "mesh.ply", points, colour=colour)
    features = frame_of(read_scan_file(path), ScanNet())[0].features
    np.testing.assert_allclose(features, ScanNet().read_points(path)[1], atol=1e-6)
    lidar = read_scan_file(write(tmp_path / "a.pcd.bin", points, intensity))
    with pytest.raises(InputError, match="intensity of 0 to 255; expected remission of 0 to 1"):
        frame_of(lidar, SemanticKITTIReleased())


FAULTS = [
    ("a.las", b"", "ends in '.las'; expected a scan, .bin, .npy, .pcd, .ply"),
    ("a.bin", b"1234567", "7 bytes; expected a multiple of 4"),
    ("a.bin", np.ones(7, np.float32).tobytes(), "28 bytes; expected 20 for each point (nuScenes"),
    ("a.bin", np.ones(4, np.float32).tobytes(), "all 1 points are at [1.0, 1.0, 1.0] m"),
    ("a.npy", b"text", "expected an array of points, found a damaged file"),
    ("a.ply", b"ply\nformat ascii 1.0\n", "expected a binary little-endian PLY file"),
    ("a.pcd", b"# .PCD v0.7\nFIELDS x y\n", "expected a point cloud (PCD), found a damaged file"),
    ("a.pcd", b"", "expected a point cloud (PCD), found a damaged file"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_a_damaged_file_ends_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_scan_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["a.bin", "a.npy", "a.ply", "a.pcd"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: no such file"):
        read_scan_file(tmp_path / name)


def test_arrays_of_other_shapes_are_refused(tmp_path):
    for values in (np.zeros((4, 2)), np.zeros(5), np.zeros((2, 3, 4)), np.array([["a"] * 4])):
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(InputError, match=r"expected numbers \[N, 3 or more\]"):
            read_scan_file(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(InputError, match="expected an array of points"):
        read_scan_file(tmp_path / "b.npy")
