"""PyTorch's own operators call our products; values, gradients and other types are as before."""

import numpy as np
import pytest
import torch
from open_clip import tokenize
from open_clip.model import CLIP
from torch import nn
from torch.nn import functional as F

from clip2scene.errors import InputError
from clip2scene.models.clip import EMBEDDED, shorten_context
from clip2scene.portable import functions, operators


@pytest.fixture(autouse=True)
def _installed():
    operators.install()


def with_gradients(function, *inputs):
    inputs = [value.detach().clone().requires_grad_() for value in inputs]
    result = function(*inputs)
    result.square().sum().backward()
    return [result.detach(), *(value.grad for value in inputs)]


CASES = {
    "matmul": (torch.matmul, (7, 5), (5, 6)),
    "vector": (torch.matmul, (7, 5), (5,)),
    "dot": (torch.matmul, (50,), (50,)),
    "batches": (torch.matmul, (3, 1, 7, 5), (4, 5, 6)),
    "linear": (F.linear, (4, 6, 5), (8, 5), (8,)),
    "einsum": (lambda a, b: torch.einsum("ijk,jl->ikl", a, b), (5, 7, 3), (7, 2)),
    "scaled": (lambda a, b, c: torch.addmm(a, b, c, beta=0.5, alpha=2), (6,), (7, 5), (5, 6)),
    "convolution": (lambda x, w, b: F.conv2d(x, w, b, 2, 1), (2, 3, 9, 8), (4, 3, 3, 3), (4,)),
    "attention": (F.scaled_dot_product_attention, (2, 3, 6, 4), (2, 3, 7, 4), (2, 3, 7, 4)),
    "bilinear": (lambda a, b: F.cosine_similarity(a @ b, a), (9, 4), (4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_float64(case):
    function, *shapes = CASES[case]
    torch.manual_seed(0)
    inputs = [torch.randn(shape) for shape in shapes]
    exact = with_gradients(function, *(value.double() for value in inputs))
    for ours, theirs in zip(with_gradients(function, *inputs), exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_neither_onednn_nor_mkl_multiplies():
    """The profiler sees every operator that PyTorch calls below its own: none of theirs is left."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 1), nn.Flatten(2)
    )
    layer = nn.TransformerEncoderLayer(64, 2, 32, batch_first=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(network(torch.randn(2, 3, 10, 10))).sum().backward()
        with torch.no_grad():
            layer.eval()(torch.randn(2, 5, 64))
    names = {event.name for event in profile.events()}
    foreign = (
        "mkldnn",
        "onednn",
        "slow_conv",
        "thnn_conv",
        "flash_attention",
        "_native_multi_head",
        "nnpack",
    )
    assert "aten::convolution_backward" in names
    assert not [name for name in names if any(part in name for part in foreign)]


def test_results_go_where_they_are_wanted():
    a, b, start = torch.randn(3, 5), torch.randn(5, 4), torch.randn(3, 4)
    out = torch.empty(0)
    assert torch.mm(a, b, out=out) is out
    assert torch.equal(out, a @ b)
    expected = torch.addmm(start, a, b)
    assert start.addmm_(a, b) is start
    assert torch.equal(start, expected)


def test_other_types_are_multiplied_as_before():
    a = torch.arange(6).view(2, 3)
    for kind in (torch.float64, torch.bfloat16, torch.int64):
        assert torch.equal(a.to(kind) @ a.to(kind).T, torch.tensor([[5, 14], [14, 50]]).to(kind))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(RuntimeError, match=r"mm: found shapes that do not fit: \[2, 3\] and \[2, 3\]"):
        torch.mm(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(InputError, match="in one group, found 2 groups"):
        F.conv2d(torch.zeros(1, 4, 5, 5), torch.zeros(4, 2, 3, 3), groups=2)


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_functions_are_those_of_float64(name):
    values = torch.rand(501, 6)[:, ::2] * 0.9 + 0.05
    function = getattr(torch, name)
    exact = function(values.double())
    torch.testing.assert_close(function(values).double(), exact, rtol=5e-7, atol=5e-7)
    target = values.clone()
    assert getattr(target, f"{name}_")() is target
    assert torch.equal(target, function(values))
    assert function(torch.tensor(0.5)).shape == ()
    leaf = values.clone().requires_grad_()
    function(leaf).sum().backward()
    assert leaf.grad.isfinite().all()


def test_square_roots_are_rounded_correctly():
    """MKL's are not: of one in six, the last bit is wrong."""
    values = torch.rand(50_000) * 9
    expected = np.sqrt(values.double().numpy()).astype(np.float32)
    for found in (values.sqrt(), values**0.5, torch._foreach_sqrt([values])[0]):
        assert np.array_equal(found.numpy(), expected)


def test_the_padding_of_texts_changes_no_bit():
    """CLIP's text network pads every text; class prompts are read to the end of the longest one only."""
    torch.manual_seed(0)
    model = CLIP(**EMBEDDED).eval()
    tokens = tokenize(["itap of a car.", "this is the driveable surface in the scene."], 32)
    longest = int(tokens.argmax(1).max()) + 1
    assert 8 < longest < 16
    with torch.no_grad():
        padded = model.encode_text(tokens, normalize=True)
        shorten_context(model, longest)
        assert torch.equal(model.encode_text(tokens[:, :longest], normalize=True), padded)
