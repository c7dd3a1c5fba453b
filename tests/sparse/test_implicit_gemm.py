"""Tests specific to the Triton kernels: block layout, data types, and compilation.

Without a GPU, the kernels run in Triton's interpreter (NumPy, one program at a time), as in test_kernels.py,
and are compiled down to the binary for two GPU models. Tests that need a GPU are skipped without one.
"""

import importlib.util
from functools import partial

import pytest
import torch
from kernel_cases import KINDS, draw, kernel_map, run, scattered

from clip2scene.sparse import Geometry, SparseConv3d, SparseTensor, gather_scatter
from clip2scene.sparse.blocks import BLOCK
from clip2scene.sparse.convolution import kernels_for
from clip2scene.sparse.kernel_map import find_neighbours

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: it comes with torch for CUDA"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")


def test_weight_gradient_summed_in_parts(interpreted, monkeypatch):
    """Split the largest offset into a dozen parts of 8 pairs; at other offsets, the last parts are empty."""
    monkeypatch.setattr(interpreted, "_PART", 8)
    pairs = kernel_map((2, 1, 1, False))
    assert max(pairs.forward.sizes) > 10 * 8
    drawn = draw(pairs, (5, 19))
    result, expected = run(interpreted, pairs, drawn), run(gather_scatter, pairs, drawn)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_summed_in_float32(interpreted, dtype):
    """Compare with float32 on the same inputs: only the result may be rounded to the short type."""
    pairs = kernel_map((2, 1, 1, False), n=300, size=6)
    drawn = tuple(value.to(dtype) for value in draw(pairs, (70, 5)))
    exact = run(gather_scatter, pairs, tuple(value.float() for value in drawn))
    *results, gradient = run(interpreted, pairs, drawn)
    assert [value.dtype for value in (*results, gradient)] == [dtype, dtype, torch.float32]
    torch.testing.assert_close(gradient, exact[2], rtol=1e-5, atol=1e-4)
    for rounded, value in zip(results, exact, strict=False):
        torch.testing.assert_close(rounded.float(), value, rtol=torch.finfo(dtype).eps, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_blocks_hold_every_pair_once(kernel_size):
    """Compare with the table of neighbours; sorting by offsets must need fewer steps than spatial order."""
    geometry = Geometry(scattered(n=2000, size=24))
    keys = geometry._keys(1)
    table = find_neighbours(keys, keys, kernel_size, 1)
    blocks = geometry.kernel_map(1, kernel_size).forward.blocks
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


def test_blocks_do_not_change_if_torch_is_strict_and_leave_it_so():
    """They are written in any order: each integer has a place of its own, or is one of a sum."""
    free, strict = (kernel_map((3, 1, 1, False)).forward for _ in range(2))
    mode = torch.get_deterministic_debug_mode()
    expected = free.blocks
    try:
        torch.set_deterministic_debug_mode("error")
        found = strict.blocks
        assert torch.get_deterministic_debug_mode() == 2
    finally:
        torch.set_deterministic_debug_mode(mode)
    assert all(torch.equal(a, b) for a, b in zip(found[1:], expected[1:], strict=True))


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "precision", "capability"),
    [(torch.bfloat16, "highest", 80), (torch.float32, "highest", 90), (torch.float32, "high", 90)],
)
def test_kernels_compile_for_a_gpu(monkeypatch, tmp_path, request, dtype, precision, capability):
    """Compile the three launches of a layer for an A100 and an H100 to a binary without register spills."""
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

        def compile(self, *values, num_stages, **constants):
            signature = [names[v.dtype] if isinstance(v, torch.Tensor) else "i32" for v in values]
            signature = dict(
                zip(self.kernel.arg_names, [*signature, *["constexpr"] * len(constants)], strict=True)
            )
            source = ASTSource(self.kernel, signature, constants)
            gpu, options = GPUTarget("cuda", capability, 32), {"num_stages": num_stages}
            compiled.append(triton.compile(source, target=gpu, options=options).asm)

    for name in ("_sum_products_kernel", "_sum_outer_products_kernel"):
        monkeypatch.setattr(implicit_gemm, name, Compiled(getattr(implicit_gemm, name)))
    pairs = kernel_map((2, 2, 1, False))
    run(implicit_gemm, pairs, tuple(value.to(dtype) for value in draw(pairs, (64, 64))))
    assert len(compiled) == 3
    for asm in compiled:
        assert asm["cubin"][:4] == b"\x7fELF"
        assert ".local" not in asm["ptx"]
        exact = dtype == torch.float32 and precision == "highest"
        assert ("mma" in asm["ptx"]) != exact  # tensor cores for everything except exact float32


@needs_gpu
@needs_triton
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_results_and_gradients_are_those_of_plain_pytorch(kind):
    from clip2scene.sparse import implicit_gemm

    pairs = kernel_map(kind, "cuda", n=20_000, size=64)
    drawn = tuple(value.cuda() for value in draw(pairs, (33, 70)))
    result, again, expected = (
        run(kernels, pairs, drawn) for kernels in (implicit_gemm, implicit_gemm, gather_scatter)
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
    from clip2scene.sparse import implicit_gemm

    assert (
        kernels_for(exact.device, torch.float32) is kernels_for(exact.device, torch.bfloat16) is implicit_gemm
    )
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)
    gradients = torch.autograd.grad(rounded.float().square().sum(), (x.features, conv.kernel))
    expected = torch.autograd.grad(exact.square().sum(), (x.features, conv.kernel))
    for gradient, value in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - value).norm() < 0.01 * value.norm()
    assert kernels_for(exact.device, torch.float64) is gather_scatter
