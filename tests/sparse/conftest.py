"""Fixtures for kernels that run on a CPU: the CPU kernels, and the GPU kernels in Triton's interpreter."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def interpreted() -> Iterator[ModuleType]:
    """Load a copy of `implicit_gemm` whose kernels run in the interpreter; Triton's own stay compiled."""
    pytest.importorskip("triton", reason="Triton is not installed: it comes with torch for CUDA")
    spec = importlib.util.find_spec("clip2scene.sparse.implicit_gemm")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        with patch.context() as loading:
            loading.setenv("TRITON_INTERPRET", "1")  # read when a kernel is defined
            spec.loader.exec_module(module)
        multiply_bf16_as_numbers(patch)
        yield module


def multiply_bf16_as_numbers(patch: pytest.MonkeyPatch) -> None:
    """Make Triton 3.7's interpreter multiply bf16 values, not bit patterns (triton-lang/triton #11584)."""
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


@pytest.fixture(params=["fetch_on_demand", "implicit_gemm"])
def kernels(request) -> ModuleType:
    if request.param == "implicit_gemm":
        return request.getfixturevalue("interpreted")
    return importlib.import_module(f"clip2scene.sparse.{request.param}")
