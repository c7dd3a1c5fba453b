"""Arithmetic of a run on a GPU: precision, TensorFloat-32, and operators that repeat to the bit."""

import os
import sys

import torch

from clip2scene.config import Config


def set_precision(config: Config, gpu: bool) -> None:
    """Set torch to the configured precision, and warn of a processor on which that is slow.

    Without bf16 instructions, torch emulates bf16: a step at full width takes minutes.

    Args:
        config: `precision` and `tf32`.
        gpu: The run computes on a GPU.
    """
    if config.precision == "bf16-mixed" and not has_bf16(gpu):
        kind = "GPU" if gpu else "CPU"
        print(
            f"warning: precision: bf16-mixed, but this {kind} has no bf16 instructions: every step is many "
            "times slower than at 32-true",
            file=sys.stderr,
            flush=True,
        )
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = config.tf32  # torch's default is True


def repeat_bits() -> None:
    """Have torch compute on a GPU with operators that give the same bits on every run, or raise an error.

    By default many add up with atomics, in the order in which threads come. cuBLAS needs a workspace of a
    fixed size and reads its size from the environment (NVIDIA, cuBLAS, "Results Reproducibility").
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # for finding bugs; it takes time


def has_bf16(gpu: bool) -> bool:
    """Say whether the GPU, or this machine's CPU, computes in bf16."""
    if gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
