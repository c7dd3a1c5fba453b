import numpy as np
import pytest
import torch

from clip2scene.pairing.voxelise import quantise, unique


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(0, 20, (5000, 3)).astype(np.float32)


def test_voxels_are_those_of_torch_unique_and_represented_by_their_first_point(points):
    coordinates = quantise(points, 2.0)
    representative, inverse = unique(coordinates)
    expected, expected_inverse = torch.from_numpy(coordinates).unique(dim=0, return_inverse=True)
    assert len(representative) == len(expected)
    np.testing.assert_array_equal(coordinates[representative][inverse], coordinates)
    for voxel in range(0, len(expected), 50):
        first = np.flatnonzero(expected_inverse.numpy() == voxel)[0]
        assert representative[inverse[first]] == first


def test_quantise_takes_the_floor_of_negative_coordinates():
    points = np.array([[-0.05, 0.05, -0.1], [0.25, -0.25, 0]], np.float32)
    assert quantise(points, 0.1).tolist() == [[-1, 0, -1], [2, -3, 0]]


def test_cylindrical_voxels_are_radius_degrees_and_height():
    points = np.array([[3, 4, -0.25], [0, -2, 1.05], [-1, 0.0001, 0]], np.float32)
    assert quantise(points, 0.1, cylindrical=True).tolist() == [[50, 53, -3], [20, -90, 10], [10, 179, 0]]


def test_moving_points_by_whole_voxels_moves_their_voxels(points):
    points = np.round(points * 8) / 8  # exact in binary, so the sum is exact too
    shifted = quantise(points + np.float32(16), 0.5)
    np.testing.assert_array_equal(shifted, quantise(points, 0.5) + 32)
