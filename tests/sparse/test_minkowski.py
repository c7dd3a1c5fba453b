"""The MinkowskiEngine backend compared with the native one: same weights, same results, same gradients.

Run by `make test-minkowski`, which compiles MinkowskiEngine. Skipped if MinkowskiEngine is not installed.
"""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from clip2scene.errors import InputError
from clip2scene.models.backbones import build_backbone
from clip2scene.pairing import voxelise
from clip2scene.sparse import Geometry, SparseBatchNorm, SparseConv3d, SparseTensor
from clip2scene.sparse.coordinates import pack

pytestmark = pytest.mark.minkowski
if find_spec("MinkowskiEngine") is None:
    pytest.skip("MinkowskiEngine is not installed", allow_module_level=True)
from clip2scene.sparse.minkowski import ME, MinkowskiGeometry  # noqa: E402

# kernel size, stride, dilation, transposed
KINDS = [
    *((kernel_size, 1, 1, False) for kernel_size in (1, 2, 3, 5)),
    *((kernel_size, 1, dilation, False) for kernel_size in (2, 3, 5) for dilation in (2, 3)),
    *((kernel_size, 2, 1, False) for kernel_size in (1, 2, 3, 5)),
    *((kernel_size, 2, 1, True) for kernel_size in (1, 2, 3, 5)),
]


def scattered(n: int = 900, clouds: int = 3, reach: int = 20) -> torch.Tensor:
    """Return voxels [V, 4] int32 of several clouds around the origin, in random order."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randint(-reach, reach, (n, 3), generator=generator)
    cloud = torch.randint(0, clouds, (n, 1), generator=generator)
    voxels = torch.unique(torch.cat([cloud, xyz], 1), dim=0)
    return voxels[torch.randperm(len(voxels), generator=generator)].int()


@pytest.fixture
def native() -> Geometry:
    return Geometry(scattered())


@pytest.fixture
def minkowski() -> MinkowskiGeometry:
    return MinkowskiGeometry(scattered())


def rows(geometry: MinkowskiGeometry, stride: int) -> torch.Tensor:
    """Return, for each row of the native backend, the index [V] of MinkowskiEngine's row."""
    return pack(geometry.coordinates(stride)).argsort()


def run(layer: SparseConv3d, geometry, stride: int, features: torch.Tensor, upstream: torch.Tensor | None):
    """Return the result and gradients of a layer, in the native backend's order of voxels."""
    features = features.clone().requires_grad_()
    native = isinstance(geometry, Geometry)
    theirs = features if native else features[rows(geometry, stride).argsort()]
    output = layer(SparseTensor(theirs, geometry, stride))
    result = output.features if native else output.features[rows(geometry, output.stride)]
    upstream = torch.randn_like(result) if upstream is None else upstream
    return result, torch.autograd.grad(result, (features, *layer.parameters()), upstream), upstream


@pytest.mark.parametrize("stride", [1, 2, 4, 16])
def test_the_voxels_of_every_stride_are_the_same(native, minkowski, stride):
    theirs = minkowski.coordinates(stride)[rows(minkowski, stride)]
    assert torch.equal(theirs, native.coordinates(stride))


@pytest.mark.parametrize("tensor_stride", [1, 2])
@pytest.mark.parametrize(("kernel_size", "stride", "dilation", "transposed"), KINDS)
def test_convolutions(native, minkowski, kernel_size, stride, dilation, transposed, tensor_stride):
    torch.manual_seed(0)
    layer = SparseConv3d(3, 4, kernel_size, stride, dilation, transposed, bias=True).double()
    in_stride = tensor_stride * stride if transposed else tensor_stride
    features = torch.randn(len(native.coordinates(in_stride)), 3, dtype=torch.float64)
    expected, gradients, upstream = run(layer, native, in_stride, features, None)
    assert expected.abs().max() > 0.1
    result, their_gradients, _ = run(layer, minkowski, in_stride, features, upstream)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(their_gradients, gradients)


def test_our_layer_is_theirs(minkowski):
    """Load the state_dict of MinkowskiEngine's own modules into our layers and compare the results."""
    voxels = scattered()
    features = torch.randn(len(voxels), 3)
    theirs = torch.nn.Sequential(
        ME.MinkowskiConvolution(3, 4, kernel_size=3, dimension=3),
        ME.MinkowskiBatchNorm(4),
        ME.MinkowskiConvolution(4, 5, kernel_size=2, stride=2, dimension=3),
        ME.MinkowskiConvolutionTranspose(5, 4, kernel_size=2, stride=2, dimension=3),
    )
    ours = torch.nn.Sequential(
        SparseConv3d(3, 4, 3),
        SparseBatchNorm(4),
        SparseConv3d(4, 5, 2, stride=2),
        SparseConv3d(5, 4, 2, stride=2, transposed=True),
    )
    ours.load_state_dict(theirs.state_dict())
    expected = theirs(ME.SparseTensor(features, voxels))
    for geometry in (Geometry(voxels), minkowski):
        result = ours(SparseTensor(geometry.sort(features), geometry)).features
        torch.testing.assert_close(geometry.unsort(result), expected.features_at_coordinates(voxels.float()))
    mean = theirs[1].bn.running_mean  # 0.1 of the batch's mean after one pass; ours had two passes
    torch.testing.assert_close(ours[1].bn.running_mean, 0.9 * mean + mean)


@pytest.mark.parametrize("stride", [2, 4, 16])
def test_pooling_and_interpolation(native, minkowski, stride):
    torch.manual_seed(0)
    fine = torch.randn(len(native.coordinates(1)), 3, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(len(native.coordinates(stride)), 3, dtype=torch.float64, requires_grad=True)
    order = rows(minkowski, stride)
    cases = [
        (fine, native.average(fine, stride), minkowski.average(fine, stride)[order]),
        (coarse, native.interpolate(coarse, stride), minkowski.interpolate(coarse[order.argsort()], stride)),
    ]
    for features, expected, result in cases:
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)  # native weights are float32
        upstream = torch.randn_like(expected)
        (gradient,) = torch.autograd.grad(result, features, upstream)
        (expected_gradient,) = torch.autograd.grad(expected, features, upstream)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


def test_quantisation_with_duplicates():
    points = np.random.default_rng(0).normal(0, 0.3, (3000, 3)).astype(np.float32)
    voxels = voxelise.quantise(points, 0.1)
    representative, inverse = voxelise.unique(voxels)
    assert len(representative) < len(points) / 2
    theirs, index, their_inverse = ME.utils.sparse_quantize(
        points, return_index=True, return_inverse=True, quantization_size=0.1
    )
    assert sorted(map(tuple, theirs.tolist())) == sorted(map(tuple, voxels[representative].tolist()))
    assert np.array_equal(theirs[their_inverse].numpy(), voxels)  # same voxel for each point
    assert np.array_equal(np.sort(index), np.sort(representative))  # same first point for each voxel
    assert np.array_equal(voxels[representative][inverse], voxels)


@pytest.mark.parametrize("name", ["spvcnn", "minkunet14a", "res16unet34c"])
def test_networks(name):
    voxels = scattered(2500, clouds=2)
    features = torch.rand(len(voxels), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(0)
    networks = [build_backbone(name, 3, 0.25, backend).double() for backend in ("native", "minkowski")]
    networks[1].load_state_dict(networks[0].state_dict())
    for mode in (True, False):  # evaluation uses the running statistics of the training pass
        expected, result = (network.train(mode)(voxels, features) for network in networks)
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
        for output in (expected, result):
            output.square().mean().backward()
    for (key, ours), theirs in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        tolerance = 1e-5 * ours.grad.abs().max().item()
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-5, atol=tolerance, msg=key)


def test_autocast_computes_in_float32(minkowski):
    layer = SparseConv3d(3, 4, 3)
    features = torch.randn(len(scattered()), 3)
    expected = layer(SparseTensor(features, minkowski)).features
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(SparseTensor(features.bfloat16().float(), minkowski)).features
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0.02, atol=0.02)


def test_a_voxel_given_twice_is_refused():
    with pytest.raises(InputError, match=r"\[0, 1, 2, 3\] twice"):
        MinkowskiGeometry(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]))
