"""Independent random streams, one per purpose, derived from a single seed."""

import hashlib
import random

import numpy as np


def derive(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed for one purpose, e.g. ``derive(seed, "augmentation", epoch, index)``.

    Streams of different purposes are independent: drawing more numbers for one (e.g. augmentation) never
    changes another (e.g. initialisation).
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and CUDA) for one purpose."""
    import torch  # imported here: Snakemake imports this module for every job

    stream = derive(seed, *purpose)
    random.seed(stream)
    np.random.seed(stream % 2**32)  # noqa: NPY002 - libraries draw from the global state
    torch.manual_seed(stream)
