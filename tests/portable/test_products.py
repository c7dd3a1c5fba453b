"""Our products and convolutions against float64, and against themselves with other vectors and threads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from clip2scene.portable import products, registers
from clip2scene.portable.convolution import Grid, convolve, weight_gradient
from clip2scene.portable.products import CHAIN, multiply

FEATURES = ("avx512f", "avx2", "neon")
# channels in and out, kernel, stride, padding, dilation
CONVOLUTIONS = [
    (3, 8, 3, 2, 1, 1),
    (16, 20, 3, 1, 2, 2),
    (24, 40, 1, 1, 0, 1),
    (5, 7, 1, 2, 0, 1),
    (3, 16, 8, 8, 0, 1),
    (2, 33, 2, 1, 0, 1),
    (40, 9, 5, 3, 4, 1),
]


@pytest.fixture
def threads(monkeypatch):
    return lambda count: monkeypatch.setattr(registers, "_threads", count)


@given(st.integers(1, 40), st.integers(0, 600), st.integers(1, 70), st.integers(1, 3), st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_products_are_those_of_float64(n_rows, depth, n_columns, n_batch, layout):
    """Of matrices that are stored by rows, by columns, and with gaps."""
    torch.manual_seed(n_rows)
    a, b = torch.randn(n_batch, n_rows, depth), torch.randn(n_batch, depth, n_columns)
    if layout & 1:
        a = a.transpose(1, 2).contiguous().transpose(1, 2)
    if layout & 2:
        b = b.transpose(1, 2).contiguous().transpose(1, 2)
    if layout & 4:
        b = torch.cat([b, b], 2)[:, :, ::2]
    start = torch.randn(n_columns)
    exact = start.double() + a.double() @ b.double()
    torch.testing.assert_close(multiply(a, b, start).double(), exact, rtol=1e-5, atol=1e-4)


def test_a_sum_is_the_chain_that_the_module_says():
    """Repeat it in NumPy: in more than float64, a multiply-add is exact but for its last rounding."""
    a, b = np.random.default_rng(0).standard_normal((2, 2 * CHAIN + 3), np.float32)
    total = np.float32(0)
    for first in range(0, len(a), CHAIN):
        chain = np.float32(0)
        for x, y in zip(a[first : first + CHAIN], b[first : first + CHAIN], strict=True):
            chain = np.float32(np.longdouble(x) * np.longdouble(y) + np.longdouble(chain))
        total += chain
    ours = multiply(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, :, None])
    assert ours.item() == total


@pytest.mark.parametrize(
    "shape",
    [
        (1, 500, 300, 70),
        (1, 300, 4000, 40),
        (12, 50, 64, 50),
        (1, 90, 20, 7),
        (1, 70, 4000, 50),
        (1, 20, 900, 50),
    ],
)
def test_neither_vectors_nor_threads_change_a_product(with_vectors, threads, shape):
    n_batch, n_rows, depth, n_columns = shape
    a, b = torch.randn(n_batch, n_rows, depth), torch.randn(n_batch, depth, n_columns)
    expected = multiply(a, b)
    for count in (1, 2, 5):
        threads(count)
        assert torch.equal(multiply(a, b), expected)
        left = a.transpose(1, 2).contiguous().transpose(1, 2)
        assert torch.equal(multiply(left, b), expected)  # nor how a matrix is stored
    for feature in FEATURES:
        copy = with_vectors(feature, "clip2scene.portable.products")
        assert torch.equal(copy.multiply(a, b), expected)


def test_infinity_in_one_column_stays_there():
    """The columns that fill a block are not computed with what lies beside the matrix."""
    b = torch.zeros(1, 3, 5)
    b[0, 0, 4] = torch.inf
    result = multiply(torch.ones(1, 9, 3), b)
    assert torch.equal(result[0, :, :4], torch.zeros(9, 4))
    assert torch.isinf(result[0, :, 4]).all()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_are_those_of_float64(case, threads):
    channels, outputs, kernel, stride, padding, dilation = case
    image = torch.randn(3, channels, 33, 26)
    weight, bias = torch.randn(outputs, channels, kernel, kernel), torch.randn(outputs)
    exact = [value.double().requires_grad_() for value in (image, weight)]
    expected = F.conv2d(*exact, bias.double(), stride, padding, dilation)
    upstream = torch.randn(expected.shape)
    expected.backward(upstream.double())
    grid = Grid(*((number, number) for number in (kernel, stride, padding, dilation)))
    rest = dilation * (kernel - 1) - padding
    back = Grid(grid.kernel, (1, 1), (rest, rest), grid.dilation, gap=grid.stride)
    for count in (1, 3):
        threads(count)
        found = (
            convolve(image, weight, bias, grid, tuple(expected.shape[2:])),
            convolve(upstream, weight.flip(2, 3).transpose(0, 1), None, back, (33, 26)),
            weight_gradient(image, upstream, grid),
        )
        wanted = (expected, exact[0].grad, exact[1].grad)
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.double(), theirs.detach(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("feature", FEATURES)
def test_vectors_change_no_convolution(with_vectors, feature):
    copy = with_vectors(feature, "clip2scene.portable.convolution")
    for channels, outputs, kernel, *rest in CONVOLUTIONS:
        image, weight = torch.randn(2, channels, 24, 20), torch.randn(outputs, channels, kernel, kernel)
        grid = Grid((kernel, kernel), *((number, number) for number in rest))
        size = F.conv2d(image, weight, None, *rest).shape[2:]
        upstream = torch.randn(2, outputs, *size)
        assert torch.equal(
            copy.convolve(image, weight, None, grid, size), convolve(image, weight, None, grid, size)
        )
        assert torch.equal(
            copy.weight_gradient(image, upstream, copy.Grid(*grid)), weight_gradient(image, upstream, grid)
        )


def test_blocks_suit_the_number_of_columns():
    kinds = [products.kind_of(number)[0] for number in (1, registers.WIDE.width, 1000)]
    assert kinds[0] == 2
    assert kinds[1:] == [0, 0]
