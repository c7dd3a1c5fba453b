"""Arguments that the sparse engine must refuse, because its kernels read memory by address."""

import numpy as np
import pytest
import torch

from clip2scene.errors import InputError
from clip2scene.evaluation.confusion import confusion_matrix
from clip2scene.sparse import Geometry
from clip2scene.sparse.convolution import convolve
from clip2scene.sparse.coordinates import LIMIT, MAX_CLOUDS, pack, unpack
from clip2scene.sparse.kernel_map import build_kernel_map

VOXELS = torch.cartesian_prod(*(torch.arange(4),) * 3)
COORDINATES = torch.cat([torch.zeros(64, 1, dtype=torch.int64), VOXELS], dim=1).int()


@pytest.fixture(scope="module")
def geometry():
    return Geometry(COORDINATES)


def inputs():
    torch.manual_seed(0)
    return torch.rand(64, 4), torch.rand(27, 4, 8)


TYPES = [torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("which", ["weight", "features"])
def test_features_and_weight_of_two_types_are_refused(geometry, dtype, which):
    """The native CPU kernels would read past the end of a buffer."""
    features, weight = inputs()
    features, weight = (features, weight.to(dtype)) if which == "weight" else (features.to(dtype), weight)
    with pytest.raises(TypeError, match=rf"one floating-point type, found .*{dtype}"):
        geometry.convolve(features, weight, 1, 3)


def test_a_double_network_runs_on_doubles_alone(geometry):
    features, weight = inputs()
    expected = geometry.convolve(features, weight, 1, 3)
    found = geometry.convolve(features.double(), weight.double(), 1, 3)
    torch.testing.assert_close(found.float(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_casts_both(geometry, dtype):
    features, weight = inputs()
    expected = geometry.convolve(features.bfloat16(), weight.bfloat16(), 1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(geometry.convolve(features.to(dtype), weight, 1, 3), expected)


def test_a_gradient_of_another_memory_layout_is_read_right(geometry):
    features, weight = inputs()
    results = []
    for change in (lambda t: t, lambda t: t.t().contiguous().t()):  # the second is not contiguous
        leaf, kernel = features.clone().requires_grad_(), weight.clone().requires_grad_()
        out = geometry.convolve(change(leaf), kernel, 1, 3)
        out.backward(change(torch.ones_like(out)))
        results.append((out.detach(), leaf.grad, kernel.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


SHAPES = [
    (lambda f, w: (f[:-1], w), r"features of shape \[64, 4\] and a weight of 27 offsets, found \[63, 4\]"),
    (lambda f, w: (f[:, :3], w), r"features of shape \[64, 4\].*found \[64, 3\]"),
    (lambda f, w: (f, w[:26]), r"found \[64, 4\] and \[26, 4, 8\]"),
    (lambda f, w: (f, w[0]), r"found \[64, 4\] and \[4, 8\]"),
    (lambda f, w: (f[0], w), r"found \[4\]"),
    (lambda f, w: (f.to("meta"), w), r"on one device, found meta, cpu and cpu"),
    (lambda f, w: (f, w.to("meta")), r"on one device, found cpu, meta and cpu"),
]


@pytest.mark.parametrize(("change", "message"), SHAPES)
def test_another_shape_or_device_is_refused(geometry, change, message):
    with pytest.raises(ValueError, match=message):
        convolve(*change(*inputs()), geometry.kernel_map(1, 3))


def test_whole_numbers_are_refused(geometry):
    features, weight = inputs()
    with pytest.raises(TypeError, match="one floating-point type, found torch.int64 and torch.int64"):
        geometry.convolve(features.long(), weight.long(), 1, 3)


@pytest.mark.parametrize("rows", [0, 63, 65])
@pytest.mark.parametrize("move", ["sort", "unsort", "average"])
def test_rows_that_are_not_one_a_voxel_are_refused(geometry, move, rows):
    arguments = (2,) if move == "average" else ()
    with pytest.raises(ValueError, match=rf"features of 64 rows, found the shape \[{rows}, 4\]"):
        getattr(geometry, move)(torch.rand(rows, 4), *arguments)


OUTSIDE = [
    [0, LIMIT + 1, 0, 0], [0, 0, -LIMIT - 1, 0], [0, 0, 0, 2**31], [0, -(2**31) - 1, 0, 0], [0, 2**32, 0, 0],
    [0, 0, 0, -(2**63)], [0, 2**63 - 1, 0, 0], [-1, 0, 0, 0], [MAX_CLOUDS, 0, 0, 0], [-(2**63), 0, 0, 0],
]  # fmt: skip


@pytest.mark.parametrize("voxel", OUTSIDE)
def test_voxels_out_of_range_are_refused_and_never_wrap(voxel):
    with pytest.raises(InputError, match=f"voxels within {LIMIT} of the origin, found"):
        pack(torch.tensor([[0, 0, 0, 0], voxel]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_coordinates_that_are_no_integers_are_refused(dtype):
    with pytest.raises(InputError, match=f"expected integers of shape .*found {dtype}"):
        pack(torch.zeros(2, 4, dtype=dtype))


def test_the_outermost_voxels_come_back():
    corners = torch.tensor([[0, -LIMIT, -LIMIT, -LIMIT], [MAX_CLOUDS - 1, LIMIT, LIMIT, LIMIT]])
    assert torch.equal(unpack(pack(corners)), corners.int())


def test_a_kernel_that_reaches_into_other_keys_is_refused():
    keys = pack(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]])).sort().values
    build_kernel_map(keys, keys, 3, 1, 300)
    with pytest.raises(ValueError, match="reaches 1200 voxels; expected at most 1024"):
        build_kernel_map(keys, keys, 3, 1, 400)


CELLS = [
    ([17], [1], "predictions: found 17 to 17 (int64); expected integers 0 to 16"),
    ([1, -1], [1, 1], "predictions: found -1 to 1 (int64); expected integers 0 to 16"),
    ([1], [17], "labels: found 17 to 17 (int64); expected integers 0 to 16"),
    ([1], [-1], "labels: found -1 to -1 (int64); expected integers 0 to 16"),
    ([1], [255], "labels: found 255 to 255"),
    ([1.5], [1], "predictions: found 1.5 to 1.5 (float64); expected integers 0 to 16"),
    ([1, 2], [1], "[2] predictions, [1] labels; expected as many"),
]


@pytest.mark.parametrize(("predictions", "labels", "message"), CELLS)
def test_what_would_be_counted_in_another_cell_is_refused(predictions, labels, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole message is compared
        confusion_matrix(np.array(predictions), np.array(labels), 16)
    assert message in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, np.int64])
def test_every_integer_type_counts_the_same(dtype):
    counts = confusion_matrix(np.array([0, 16, 16], dtype), np.array([0, 1, 16], dtype), 16)
    assert (counts[0, 0], counts[1, 16], counts[16, 16], counts.sum()) == (1, 1, 1, 3)
    assert confusion_matrix([], [], 16).sum() == 0
