"""One seed, and from it an independent stream for every purpose that draws random numbers."""

import hashlib
import random

import numpy as np


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "augmentation", epoch, index)``.

    Streams of different purposes are independent, so that drawing more numbers for one (say, augmentation)
    never changes another (say, initialisation).
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """NumPy's generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Seed the global generators of python, numpy and torch (CPU and CUDA) for one purpose."""
    import torch  # not at the top: what Snakemake parses at every job imports this module

    stream = derive(seed, *purpose)
    random.seed(stream)
    np.random.seed(stream % 2**32)  # noqa: NPY002 - libraries that we call draw from the global state
    torch.manual_seed(stream)
