"""Exchange of features between points (the finest voxels) and coarser voxels."""

import torch

from clip2scene.sparse import Geometry


def test_trilinear_weights_by_hand():
    """Interpolate at voxel (1, 0, 3), stride 4.

    It lies 1/4 along x, 0 along y and 3/4 along z between the corners (0|4, 0, 0|4).
    """
    voxels = [[0, 0, 0, 0], [0, 4, 0, 1], [0, 1, 0, 3], [0, 1, 0, 4], [1, 5, 0, 4]]
    geometry = Geometry(torch.tensor(voxels, dtype=torch.int32))
    coarse = geometry.coordinates(4).tolist()
    assert coarse == [[0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 4], [1, 4, 0, 4]]  # sorted by cloud, z, y, x
    features = torch.tensor([[1.0], [10.0], [100.0], [1000.0]], dtype=torch.float64)
    result = geometry.unsort(geometry.interpolate(features, 4))[:, 0]
    lower, along_x, along_z = (
        3 / 4 * 1 / 4,
        1 / 4 * 1 / 4,
        3 / 4 * 3 / 4,
    )  # corner (4, 0, 4) is empty in cloud 0
    present = lower + along_x + along_z
    expected = [
        1.0,  # on a corner
        10.0,  # (4, 0, 1): 3/4 on (4, 0, 0), the rest on (4, 0, 4), which is empty
        (1 * lower + 10 * along_x + 100 * along_z) / present,
        100.0,  # (1, 0, 4): 3/4 on (0, 0, 4), the rest on an empty corner
        1000.0,  # the other cloud
    ]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-5)


def test_interpolation_reproduces_linear_functions_where_all_corners_are_there():
    axis = torch.arange(-4, 9, dtype=torch.int32)
    grid = torch.cartesian_prod(axis.new_zeros(1), axis, axis, axis)
    geometry = Geometry(grid)
    slopes = torch.tensor([2.0, -3.0, 0.5])

    def value(stride):
        return geometry.coordinates(stride)[:, 1:].float() @ slopes[:, None]

    inside = (geometry.coordinates(1)[:, 1:] < 8).all(1)
    result = geometry.interpolate(value(4), 4)
    torch.testing.assert_close(result[inside], value(1)[inside], atol=1e-4, rtol=1e-4)


def test_average_is_the_mean_over_each_coarse_voxel():
    voxels = torch.tensor([[0, -1, 0, 0], [0, -2, 1, 1], [0, 0, 0, 0], [1, -1, 0, 0]], dtype=torch.int32)
    geometry = Geometry(voxels)
    features = torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    assert geometry.coordinates(2).tolist() == [[0, -2, 0, 0], [0, 0, 0, 0], [1, -2, 0, 0]]
    assert geometry.average(geometry.sort(features), 2)[:, 0].tolist() == [2.0, 5.0, 7.0]


def test_gradients_of_the_exchange():
    generator = torch.Generator().manual_seed(0)
    voxels = torch.unique(torch.randint(-6, 6, (60, 3), generator=generator), dim=0)
    geometry = Geometry(torch.nn.functional.pad(voxels, (1, 0)).int())
    fine = torch.randn(len(voxels), 2, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(len(geometry.coordinates(4)), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: geometry.average(x, 4), fine)
    assert torch.autograd.gradcheck(lambda x: geometry.interpolate(x, 4), coarse)
    assert torch.autograd.gradcheck(lambda x: geometry.unsort(geometry.sort(x)), fine)
