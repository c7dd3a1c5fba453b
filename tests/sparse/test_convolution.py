"""Sparse convolution compared with PyTorch's dense one, and properties that follow from its definition."""

import kernel_cases
import pytest
import torch
from torch.nn import functional

from clip2scene.errors import InputError
from clip2scene.sparse import Geometry, SparseConv3d, SparseTensor, convolution

SIZE = 16  # edge of the dense grid; its origin is voxel (-8, -8, -8)

KINDS = [(1, 1, 1, False), (3, 1, 3, False), *kernel_cases.KINDS]


def scattered(n: int = 700, clouds: int = 3, seed: int = 0, size: int = SIZE) -> torch.Tensor:
    """Return voxels [V, 4] int32 scattered over the grid, in random order."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randint(-size // 2, size // 2, (n, 3), generator=generator)
    cloud = torch.randint(0, clouds, (n, 1), generator=generator)
    voxels = torch.unique(torch.cat([cloud, xyz], 1), dim=0)
    return voxels[torch.randperm(len(voxels), generator=generator)].int()


def to_dense(coordinates: torch.Tensor, features: torch.Tensor, stride: int) -> torch.Tensor:
    """Return a dense tensor [clouds, C, z, y, x] of features [V, C], 0 where there is no voxel."""
    n = SIZE // stride
    dense = features.new_zeros(int(coordinates[:, 0].max()) + 1, n, n, n, features.shape[1])
    cloud, x, y, z = coordinates.long().unbind(1)
    dense[cloud, (z + SIZE // 2) // stride, (y + SIZE // 2) // stride, (x + SIZE // 2) // stride] = features
    return dense.permute(0, 4, 1, 2, 3)


def read(dense: torch.Tensor, coordinates: torch.Tensor, stride: int) -> torch.Tensor:
    cloud, x, y, z = coordinates.long().unbind(1)
    half = SIZE // 2
    return dense[cloud, :, (z + half) // stride, (y + half) // stride, (x + half) // stride]


def dense_convolution(dense, kernel, kernel_size, stride, dilation, transposed):
    weight = kernel.view(kernel_size, kernel_size, kernel_size, *kernel.shape[1:])  # z, y, x, in, out
    before = dilation * (kernel_size // 2) if kernel_size % 2 else 0
    after = dilation * (kernel_size - 1) - before
    if transposed:
        grown = functional.conv_transpose3d(dense, weight.permute(3, 4, 0, 1, 2), stride=stride)
        return grown[:, :, before:, before:, before:]
    padded = functional.pad(dense, [before, after] * 3)
    return functional.conv3d(padded, weight.permute(4, 3, 0, 1, 2), stride=stride, dilation=dilation)


@pytest.mark.parametrize("tensor_stride", [1, 2])
@pytest.mark.parametrize(("kernel_size", "stride", "dilation", "transposed"), KINDS)
def test_equals_dense_convolution_and_its_gradients(kernel_size, stride, dilation, transposed, tensor_stride):
    torch.manual_seed(0)
    geometry = Geometry(scattered())
    conv = SparseConv3d(3, 4, kernel_size, stride, dilation, transposed, bias=True).double()
    in_stride, out_stride = tensor_stride, tensor_stride * stride
    if transposed:
        in_stride, out_stride = out_stride, in_stride
    inputs, outputs = geometry.coordinates(in_stride), geometry.coordinates(out_stride)
    features = torch.randn(len(inputs), 3, dtype=torch.float64, requires_grad=True)
    result = conv(SparseTensor(features, geometry, in_stride))

    dense = dense_convolution(
        to_dense(inputs, features, in_stride), conv.kernel, kernel_size, stride, dilation, transposed
    )
    expected = read(dense, outputs, out_stride) + conv.bias
    assert result.stride == out_stride
    torch.testing.assert_close(result.features, expected)

    upstream = torch.randn_like(expected)
    variables = (features, conv.kernel, conv.bias)
    gradients = torch.autograd.grad(result.features, variables, upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, variables, upstream))


@pytest.mark.parametrize(("stride", "transposed"), [(1, False), (2, False), (2, True)])
def test_gradients_are_those_of_finite_differences(stride, transposed):
    geometry = Geometry(scattered(40, 2, size=6))
    n = len(geometry.coordinates(2 if transposed else 1))
    features = torch.randn(n, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(27, 2, 3, dtype=torch.float64, requires_grad=True)

    def convolve(features, weight):
        return geometry.convolve(features, weight, 2 if transposed else 1, 3, stride, transposed=transposed)

    assert torch.autograd.gradcheck(convolve, (features, weight))


def test_coarser_voxels_are_floors_also_below_zero():
    voxels = torch.tensor([[0, -1, -2, -3], [0, 0, 1, 3], [0, -4, 5, -5], [1, -1, -1, -1], [0, 1, 1, 2]])
    geometry = Geometry(voxels.int())
    for stride in (2, 4):
        expected = voxels.clone()
        expected[:, 1:] = torch.div(voxels[:, 1:], stride, rounding_mode="floor") * stride
        expected = {tuple(row) for row in expected.tolist()}
        assert {tuple(row) for row in geometry.coordinates(stride).tolist()} == expected
        assert len(geometry.coordinates(stride)) == len(expected)


def test_clouds_never_mix():
    """Convolve two overlapping clouds together and compare with each alone."""
    voxels = [scattered(300, 1, seed) for seed in (1, 2)]
    together = torch.cat([voxels[0], voxels[1] + torch.tensor([1, 0, 0, 0], dtype=torch.int32)])
    torch.manual_seed(0)
    features = torch.randn(len(together), 3)
    weight = torch.randn(27, 3, 3)

    def run(coordinates, features):
        geometry = Geometry(coordinates)
        return geometry.unsort(geometry.convolve(geometry.sort(features), weight, 1, 3))

    expected = [run(v, f) for v, f in zip(voxels, features.split([len(v) for v in voxels]), strict=True)]
    torch.testing.assert_close(run(together, features), torch.cat(expected))


def test_kernel_maps_are_built_once_and_shared(monkeypatch):
    import clip2scene.sparse.geometry as module

    built = []
    build = module.build_kernel_map
    monkeypatch.setattr(module, "build_kernel_map", lambda *args: built.append(args[2:]) or build(*args))
    geometry = Geometry(scattered())
    x = SparseTensor(torch.randn(len(geometry.coordinates(1)), 4), geometry)
    for layer in (
        SparseConv3d(4, 4, 3),
        SparseConv3d(4, 4, 3),
        SparseConv3d(4, 4, 2, stride=2),
        SparseConv3d(4, 4, 2, stride=2, transposed=True),
    ):
        x = layer(x)
    assert built == [(3, 1, 1), (2, 1, 1)]


@pytest.mark.parametrize(("rows", "channels", "offsets"), [(1, 0, 0), (0, 1, 0), (0, 0, -1)])
def test_other_shapes_are_refused(rows, channels, offsets):
    """Check that wrong shapes are refused: kernels that read by address would read out of bounds."""
    geometry = Geometry(scattered())
    n_voxels = len(geometry.coordinates(1))
    features, weight = torch.ones(n_voxels + rows, 4 + channels), torch.ones(27 + offsets, 4, 5)
    with pytest.raises(ValueError, match=rf"\[{n_voxels}, 4\] and a weight of 27 offsets, found"):
        geometry.convolve(features, weight, 1, 3)


def test_gradients_that_nobody_asks_for_are_not_computed(monkeypatch):
    """Check cases without a gradient: the features of a first convolution, the weight of a frozen one."""
    geometry = Geometry(scattered())
    calls = []

    class Kernels:
        def sum_products(self, rows, matrices, pairs):
            calls.append("products")
            return rows.new_ones(pairs.n_targets, matrices.shape[2])

        def sum_outer_products(self, rows, gradient, pairs):
            calls.append("outer products")
            return rows.new_ones(len(pairs.sizes), rows.shape[1], gradient.shape[1])

    monkeypatch.setattr(convolution, "kernels_for", lambda *_: Kernels())
    for wants_features, wants_weight, expected in (
        (False, True, ["products", "outer products"]),
        (True, False, ["products", "products"]),
    ):
        calls.clear()
        features = torch.randn(len(geometry.coordinates(1)), 4, requires_grad=wants_features)
        weight = torch.randn(27, 4, 4, requires_grad=wants_weight)
        geometry.convolve(features, weight, 1, 3).sum().backward()
        assert calls == expected


@pytest.mark.parametrize(
    ("device", "dtype", "name"),
    [
        ("cpu", torch.float32, "fetch_on_demand"),
        ("cpu", torch.float64, "gather_scatter"),
        ("cpu", torch.bfloat16, "gather_scatter"),
        ("meta", torch.float32, "gather_scatter"),
    ],
)
def test_who_multiplies(device, dtype, name):
    assert convolution.kernels_for(torch.device(device), dtype).__name__ == f"clip2scene.sparse.{name}"


def test_bf16_autocast_keeps_float32_weights_and_gradients():
    geometry = Geometry(scattered())
    torch.manual_seed(0)
    conv = SparseConv3d(16, 16, 3)
    features = torch.randn(len(geometry.coordinates(1)), 16, requires_grad=True)
    exact = conv(SparseTensor(features, geometry)).features
    with torch.autocast("cpu", torch.bfloat16):
        rounded = conv(SparseTensor(features, geometry)).features
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)
    gradients = torch.autograd.grad(rounded.float().square().sum(), (features, conv.kernel))
    expected = torch.autograd.grad(exact.square().sum(), (features, conv.kernel))
    for gradient, value in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - value).norm() < 0.01 * value.norm()


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        (torch.empty(0, 4, dtype=torch.int32), "empty"),
        (torch.zeros(5, 3, dtype=torch.int32), r"\[V, 4\]"),
        (torch.zeros(5, 4), "float32"),
        (torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6], [0, 1, 2, 3]]), r"\[0, 1, 2, 3\] twice"),
        (torch.tensor([[0, 70_000, 0, 0]]), "70000"),
        (torch.tensor([[-1, 0, 0, 0]]), "clouds"),
    ],
)
def test_bad_coordinates_are_refused(coordinates, message):
    with pytest.raises(InputError, match=message):
        Geometry(coordinates)
