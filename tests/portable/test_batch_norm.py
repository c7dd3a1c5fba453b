"""Our batch norm against PyTorch's operators on one thread, bit by bit, with any vectors and threads."""

import pytest
import torch
from torch import nn

from clip2scene.portable import registers
from clip2scene.portable.batch_norm import normalise

# rows and channels: whole blocks, parts of a block or of a vector, few rows
SHAPES = [(3000, 96), (1000, 32), (777, 20), (500, 7), (2, 16), (65, 100), (64, 48)]
FOLLOWERS = [(False, False), (False, True), (True, False), (True, True)]


@pytest.fixture
def torch_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_steps(features, norm, shortcut, relu):
    result = norm(features)
    result = result if shortcut is None else result + shortcut
    return result.relu() if relu else result


def trained(function, shape, adds, relu):
    """Return the result of a step in training, the gradients and the running statistics."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(shape[1], momentum=0.05)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.uniform_(0.5, 2)
    features = (3 * torch.randn(shape) + 1).requires_grad_()
    shortcut = torch.randn(shape).requires_grad_() if adds else None
    result = function(features, norm, shortcut, relu)
    result.backward(torch.randn(shape))
    values = result, features.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()
    return [value.detach() for value in (*values, *([shortcut.grad] if adds else []))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("adds", "relu"), FOLLOWERS)
def test_bits_are_those_of_pytorch(torch_on_one_thread, monkeypatch, shape, adds, relu):
    expected = trained(in_steps, shape, adds, relu)
    for threads in (1, 2, 5):
        monkeypatch.setattr(registers, "_threads", threads)
        found = trained(normalise, shape, adds, relu)
        assert all(map(torch.equal, found, expected)), threads


@pytest.mark.parametrize("feature", ["avx512f", "avx2", "neon"])
def test_vectors_change_no_bit(with_vectors, feature):
    expected = [trained(normalise, shape, adds=True, relu=True) for shape in SHAPES]
    copy = with_vectors(feature, "clip2scene.portable.batch_norm")
    found = [trained(copy.normalise, shape, adds=True, relu=True) for shape in SHAPES]
    assert all(all(map(torch.equal, *pair)) for pair in zip(found, expected, strict=True))


def test_what_is_no_number_stays_visible():
    """One bad value makes its channel bad, and the gradient with it; ReLU must not hide it as a zero."""
    features = torch.randn(50, 40)
    features[7, 3] = torch.nan
    features.requires_grad_()
    result = normalise(features, nn.BatchNorm1d(40), None, True)
    result.sum().backward()
    for values in (result, features.grad):
        assert values[:, 3].isnan().all()
        assert values.isnan().any(0).sum() == 1


@pytest.mark.parametrize("adds", [False, True])
def test_features_and_gradients_of_any_layout_are_read(adds):
    """A sum's gradient is one number for all values, and a product may be stored by columns."""
    by_column = torch.randn(24, 90).t()
    for gradient in (torch.ones(1, 1).expand(90, 24), torch.randn(24, 90).t()):
        found = []
        for layout in (lambda values: values, torch.Tensor.contiguous):
            features = layout(by_column).detach().requires_grad_()
            shortcut = layout(by_column).detach().requires_grad_() if adds else None
            result = normalise(features, nn.BatchNorm1d(24), shortcut, False)
            result.backward(layout(gradient))
            found.append([result, features.grad, *([shortcut.grad] if adds else [])])
        assert all(map(torch.equal, *found))


def test_shapes_that_do_not_fit_are_refused():
    norm = nn.BatchNorm1d(8)
    with pytest.raises(ValueError, match=r"expected features of shape \[5, 8\], found \[5, 9\]"):
        normalise(torch.randn(5, 9), norm, None, True)
    with pytest.raises(ValueError, match=r"expected features of shape \[5, 8\], found \[4, 8\]"):
        normalise(torch.randn(5, 8), norm, torch.randn(4, 8), True)
