"""Operators and Res16UNet34C compared with MinkowskiEngine and valeoai/SLidR (tests/golden/minkowski.md)."""

import minkowski_cases as cases
import pytest
import torch
from deterministic import difference, draw, golden, weight

from clip2scene.models.backbones import build_backbone
from clip2scene.pairing import voxelise
from clip2scene.sparse import Geometry, SparseBatchNorm, SparseConv3d, SparseTensor

EXACT = 1e-12  # float64, another summation order
FLOAT32 = 1e-6  # the native engine's weights of interpolation and averaging are float32


@pytest.fixture(scope="module")
def official():
    return golden("minkowski_operators")


def check(name: str, result: torch.Tensor, official: dict, tolerance: float, *variables: torch.Tensor):
    """Compare a result and its gradients for the upstream values of `name` with the official numbers."""
    assert difference(result, official[name]) < tolerance
    upstream = cases.case(name, "upstream", rows=len(result), channels=result.shape[1])
    for i, gradient in enumerate(torch.autograd.grad(result, variables, upstream)):
        assert difference(gradient, official[f"{name}_gradient{i}"].view_as(gradient)) < tolerance


def inputs(geometry: Geometry, stride: int, channels: int, *kind: object) -> torch.Tensor:
    rows = len(geometry.coordinates(stride))
    return cases.case(*kind, rows=rows, channels=channels).requires_grad_()


@pytest.mark.parametrize("kind", cases.CONVOLUTIONS, ids=lambda kind: cases.name(*kind))
def test_convolution(official, kind):
    kernel_size, stride, dilation, transposed = kind
    geometry = Geometry(cases.block())
    conv = SparseConv3d(cases.IN_CHANNELS, cases.OUT_CHANNELS, kernel_size, stride, dilation, transposed)
    conv.double().kernel.data = cases.kernel(*kind, kernel_size=kernel_size)
    in_stride = stride if transposed else 1
    features = inputs(geometry, in_stride, cases.IN_CHANNELS, *kind)
    result = conv(SparseTensor(features, geometry, in_stride)).features
    check(cases.name(*kind), result, official, EXACT, features, conv.kernel)


def test_batch_norm(official):
    geometry = Geometry(cases.block())
    norm = SparseBatchNorm(3).double()
    features = inputs(geometry, 1, 3, "norm")
    result = norm(SparseTensor(features, geometry)).features
    check("norm", result, official, EXACT, features, norm.bn.weight, norm.bn.bias)
    assert difference(norm.bn.running_mean, official["norm_mean"]) < EXACT
    assert difference(norm.bn.running_var, official["norm_variance"]) < EXACT


@pytest.mark.parametrize("stride", cases.POOLINGS)
def test_pooling_and_interpolation(official, stride):
    geometry = Geometry(cases.block())
    fine = inputs(geometry, 1, 3, "average", stride)
    check(f"average{stride}", geometry.average(fine, stride), official, FLOAT32, fine)
    # with empty corners, MinkowskiEngine's weights sum to less than 1
    coarse, share = inputs(geometry, stride, 3, "interpolate", stride), official[f"share{stride}"]
    result = geometry.interpolate(coarse, stride) * (share + 1e-8)
    check(f"interpolate{stride}", result, official, FLOAT32, coarse)


def test_quantisation(official):
    voxels = voxelise.quantise(cases.POINTS.numpy(), 0.1)
    assert torch.equal(torch.from_numpy(voxels), official["quantised"].long())
    assert len(voxelise.unique(voxels)[0]) == official["quantised_count"]


def test_res16unet34c():
    official = golden("res16unet34c")
    names = official["names"]
    network = build_backbone("res16unet34c", cases.NETWORK_CHANNELS)
    assert sum(parameter.numel() for parameter in network.parameters()) == official["parameters"]
    # The official tensors have the same order as ours.
    for name, tensor in zip(names, network.state_dict().values(), strict=True):
        if tensor.is_floating_point():
            tensor.copy_(weight(name, tensor.shape))
    network.double()
    voxels = cases.streets()
    features = draw("features", len(voxels), cases.NETWORK_CHANNELS).double().requires_grad_()

    with torch.no_grad():
        assert difference(network.eval()(voxels, features)[::20], official["evaluated"]) < 1e-9
    result = network.train()(voxels, features)
    assert difference(result[::20], official["trained"]) < 1e-9
    (result * draw("upstream", *result.shape)).sum().backward()
    assert difference(features.grad, official["gradient"]) < 1e-9
    parameters = [name for name in names if name.endswith(("kernel", "weight", "bias"))]
    for name, parameter, expected in zip(
        parameters, network.parameters(), official["gradients"], strict=True
    ):
        assert difference(cases.fingerprint(name, parameter.grad), expected) < 1e-9, name
    statistics = [value.mean() for name, value in network.state_dict().items() if "running" in name]
    assert difference(torch.stack(statistics), official["statistics"]) < 1e-12
