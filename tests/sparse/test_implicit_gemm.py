"""The Triton kernels of the native engine against its plain PyTorch, which test_convolution.py checks itself.

Without a GPU they run in Triton's interpreter (TRITON_INTERPRET=1: NumPy, a program at a time), and are
compiled for two GPUs down to the binary. What needs a GPU skips where there is none.
"""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch

from clip2scene.sparse import Geometry, SparseConv3d, SparseTensor
from clip2scene.sparse.blocks import BLOCK
from clip2scene.sparse.convolution import _Convolution
from clip2scene.sparse.kernel_map import KernelMap, find_neighbours

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: it comes with torch for CUDA"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")

# kernel size, stride, dilation, transposed
KINDS = [
    (2, 1, 1, False),
    (3, 1, 1, False),
    (3, 1, 2, False),
    (5, 1, 1, False),
    (1, 2, 1, False),
    (2, 2, 1, False),
    (3, 2, 1, False),
    (2, 2, 1, True),
    (3, 2, 1, True),
]


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    """A copy of the module whose kernels run in the interpreter; Triton's own are compiled."""
    import triton  # noqa: F401

    spec = importlib.util.find_spec("clip2scene.sparse.implicit_gemm")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        with patch.context() as loading:
            loading.setenv("TRITON_INTERPRET", "1")  # read where a kernel is defined
            spec.loader.exec_module(module)
        multiply_bf16_as_numbers(patch)
        yield module


def multiply_bf16_as_numbers(patch: pytest.MonkeyPatch) -> None:
    """Triton 3.7's interpreter multiplies the bit patterns of bf16 (triton-lang/triton issue 11584)."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def widen(factor: TensorHandle) -> TensorHandle:
        if factor.dtype.scalar != tl.bfloat16:
            return factor
        return TensorHandle((factor.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    dot = InterpreterBuilder.create_dot
    patch.setattr(
        InterpreterBuilder, "create_dot", lambda self, a, b, *rest: dot(self, widen(a), widen(b), *rest)
    )


def scattered(n: int = 100, size: int = 6, clouds: int = 3) -> torch.Tensor:
    """Voxels [V, 4] of several clouds around the origin, in random order."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randint(-size // 2, size // 2, (n, 3), generator=generator)
    cloud = torch.randint(0, clouds, (n, 1), generator=generator)
    return torch.unique(torch.cat([cloud, xyz], 1), dim=0).int()


def kernel_map(kind: tuple[int, int, int, bool], **voxels: int) -> KernelMap:
    kernel_size, stride, dilation, _ = kind
    return Geometry(scattered(**voxels)).kernel_map(1, kernel_size, stride, dilation)


def draw(pairs: KernelMap, channels: tuple[int, int], transposed: bool) -> tuple[torch.Tensor, ...]:
    """Features, weight and the gradient of the result."""
    n_inputs, n_outputs = (pairs.blocks(not transposed).n_voxels, pairs.blocks(transposed).n_voxels)
    torch.manual_seed(0)
    return (
        torch.randn(n_inputs, channels[0]),
        torch.randn(len(pairs.pairs.sizes), *channels),
        torch.randn(n_outputs, channels[1]),
    )


def run(
    apply: Callable, pairs: KernelMap, transposed: bool, drawn: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    """The result and both gradients."""
    features, weight, upstream = drawn
    variables = features.requires_grad_(), weight.requires_grad_()
    result = apply(*variables, pairs, transposed)
    return result.detach(), *torch.autograd.grad(result, variables, upstream)


@needs_triton
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_are_those_of_plain_pytorch(interpreted, kind):
    """Odd numbers of channels; offsets that find many voxels, few, or none."""
    pairs, transposed = kernel_map(kind), kind[3]
    drawn = draw(pairs, (5, 19), transposed)
    result = run(interpreted.ImplicitGemm.apply, pairs, transposed, drawn)
    torch.testing.assert_close(
        result, run(_Convolution.apply, pairs, transposed, drawn), atol=1e-4, rtol=1e-5
    )


@needs_triton
@pytest.mark.parametrize("channels", [(1, 70), (70, 3), (33, 65)])
def test_channels_of_several_blocks(interpreted, channels):
    pairs = kernel_map((2, 1, 1, False))
    drawn = draw(pairs, channels, False)
    result = run(interpreted.ImplicitGemm.apply, pairs, False, drawn)
    torch.testing.assert_close(result, run(_Convolution.apply, pairs, False, drawn), atol=1e-4, rtol=1e-5)


@needs_triton
def test_weight_gradient_summed_in_parts(interpreted, monkeypatch):
    """A dozen parts, of eight pairs where voxels meet themselves; where pairs are few, the last are empty."""
    monkeypatch.setattr(interpreted, "_PART", 8)
    pairs = kernel_map((2, 1, 1, False))
    assert max(pairs.pairs.sizes) > 10 * 8
    drawn = draw(pairs, (5, 19), False)
    result = run(interpreted.ImplicitGemm.apply, pairs, False, drawn)
    torch.testing.assert_close(result, run(_Convolution.apply, pairs, False, drawn), atol=1e-4, rtol=1e-5)


@needs_triton
def test_bit_identical_on_repetition(interpreted):
    for transposed in (False, True):
        pairs = [kernel_map((2, 2, 1, transposed)) for _ in range(2)]
        drawn = draw(pairs[0], (5, 19), transposed)
        first, second = (run(interpreted.ImplicitGemm.apply, p, transposed, drawn) for p in pairs)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_triton
def test_an_offset_without_pairs_has_no_gradient(interpreted):
    """Two voxels side by side: of a kernel of 3, its centre and its two offsets along x find any."""
    pairs = Geometry(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]])).kernel_map(1, 3)
    drawn = draw(pairs, (5, 19), False)
    result, _, gradient = run(interpreted.ImplicitGemm.apply, pairs, False, drawn)
    features, weight, _ = drawn
    expected = features @ weight[13] + torch.stack([features[1] @ weight[14], features[0] @ weight[12]])
    torch.testing.assert_close(result, expected)
    assert gradient.flatten(1).any(1).nonzero().flatten().tolist() == [12, 13, 14]


@needs_triton
def test_no_pairs_at_all(interpreted):
    """A kernel of 1 at stride 2 finds a voxel at even places only."""
    pairs = Geometry(torch.tensor([[0, 1, 0, 0]])).kernel_map(1, 1, 2)
    result = run(interpreted.ImplicitGemm.apply, pairs, False, draw(pairs, (5, 19), False))
    assert [(list(value.shape), bool(value.any())) for value in result] == [
        ([1, 19], False),
        ([1, 5], False),
        ([1, 5, 19], False),
    ]


@needs_triton
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_summed_in_float32(interpreted, dtype):
    """Off by the rounding of the result alone, from the float32 result of the same numbers."""
    pairs = kernel_map((2, 1, 1, False), n=300, size=6)
    drawn = tuple(value.to(dtype) for value in draw(pairs, (70, 5), False))
    result = run(interpreted.ImplicitGemm.apply, pairs, False, drawn)
    exact = run(_Convolution.apply, pairs, False, tuple(value.detach().float() for value in drawn))
    for rounded, value in zip(result, exact, strict=True):
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded.float(), value, rtol=torch.finfo(dtype).eps, atol=1e-4)


@needs_triton
def test_gradients_that_nobody_asks_for_are_not_computed(interpreted, monkeypatch):
    """A network's first convolution wants no gradient of its features."""
    pairs = kernel_map((2, 1, 1, False))
    features, weight, _ = draw(pairs, (5, 19), False)
    calls = []
    monkeypatch.setattr(interpreted, "_sum_products", lambda *a: calls.append(a) or features.new_ones(1))
    result = interpreted.ImplicitGemm.apply(features, weight.requires_grad_(), pairs, False)
    assert len(calls) == 1
    monkeypatch.setattr(interpreted, "_sum_outer_products", lambda *_: torch.ones_like(weight))
    result.sum().backward()
    assert len(calls) == 1
    assert weight.grad.eq(1).all()


@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_blocks_hold_every_pair_once(kernel_size):
    """Against the table of neighbours; and fewer steps are left than in the order in space."""
    geometry = Geometry(scattered(n=2000, size=24))
    keys = geometry._keys(1)
    table = find_neighbours(keys, keys, kernel_size, 1)
    blocks = geometry.kernel_map(1, kernel_size).blocks(transposed=False)
    assert blocks.voxels[blocks.voxels >= 0].sort().values.tolist() == list(range(len(keys)))

    rebuilt = torch.full_like(table, -1)
    n_steps = blocks.ends.diff()
    voxels = blocks.voxels.repeat_interleave(n_steps, dim=0)  # [S, BLOCK]
    hit = blocks.neighbours >= 0
    offsets = blocks.offsets[:, None].expand_as(hit)
    rebuilt[offsets[hit], voxels[hit]] = blocks.neighbours[hit].long()
    assert hit.sum() == (table >= 0).sum()
    assert torch.equal(rebuilt, table)
    assert hit.any(1).all()

    unsorted = torch.nn.functional.pad(table, (0, -len(keys) % BLOCK), value=-1)
    assert n_steps.sum() < (unsorted >= 0).unflatten(1, (-1, BLOCK)).any(2).sum()


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "precision", "capability"),
    [(torch.bfloat16, "highest", 80), (torch.float32, "highest", 90), (torch.float32, "high", 90)],
)
def test_kernels_compile_for_a_gpu(monkeypatch, tmp_path, request, dtype, precision, capability):
    """For an A100 and an H100: the three launches of a layer, down to the binary; no register spills."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from clip2scene.sparse import implicit_gemm

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    request.addfinalizer(partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision(precision)
    names = {torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int32: "*i32"}
    compiled = []

    class Compiled:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return self.compile

        def compile(self, *values, **constants):
            signature = [names[v.dtype] if isinstance(v, torch.Tensor) else "i32" for v in values]
            signature = dict(
                zip(self.kernel.arg_names, [*signature, *["constexpr"] * len(constants)], strict=True)
            )
            source = ASTSource(self.kernel, signature, constants)
            compiled.append(triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm)

    for name in ("_sum_products_kernel", "_sum_outer_products_kernel"):
        monkeypatch.setattr(implicit_gemm, name, Compiled(getattr(implicit_gemm, name)))
    pairs = kernel_map((2, 2, 1, False))
    drawn = tuple(value.to(dtype) for value in draw(pairs, (64, 64), False))
    run(implicit_gemm.ImplicitGemm.apply, pairs, False, drawn)
    assert len(compiled) == 3
    for asm in compiled:
        assert asm["cubin"][:4] == b"\x7fELF"
        assert ".local" not in asm["ptx"]
        exact = dtype == torch.float32 and precision == "highest"
        assert ("mma" in asm["ptx"]) != exact  # tensor cores multiply all but exact float32


@needs_gpu
@needs_triton
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_results_and_gradients_are_those_of_plain_pytorch(kind):
    from clip2scene.sparse.implicit_gemm import ImplicitGemm

    kernel_size, stride, dilation, transposed = kind
    pairs = Geometry(scattered(20_000, 64).cuda()).kernel_map(1, kernel_size, stride, dilation)
    drawn = tuple(value.cuda() for value in draw(pairs, (33, 70), transposed))
    result, again, expected = (
        run(operator.apply, pairs, transposed, drawn)
        for operator in (ImplicitGemm, ImplicitGemm, _Convolution)
    )
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(result, again, strict=True))


@needs_gpu
@needs_triton
def test_on_a_gpu_layers_take_the_kernels():
    geometry = Geometry(scattered(20_000, 64).cuda())
    conv = SparseConv3d(32, 64, 3).cuda()
    x = SparseTensor(
        torch.randn(len(geometry.coordinates(1)), 32, device="cuda", requires_grad=True), geometry
    )
    exact = conv(x).features
    with torch.autocast("cuda", torch.bfloat16):
        rounded = conv(x).features
    assert "ImplicitGemm" in exact.grad_fn.name()
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)
    gradients = torch.autograd.grad(rounded.float().square().sum(), (x.features, conv.kernel))
    expected = torch.autograd.grad(exact.square().sum(), (x.features, conv.kernel))
    for gradient, value in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - value).norm() < 0.01 * value.norm()

    doubled = SparseTensor(x.features.double(), geometry)
    assert "ImplicitGemm" not in conv.double()(doubled).features.grad_fn.name()
