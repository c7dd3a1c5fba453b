"""Bitwise reproducibility of the CPU kernels for any number of threads and any vector width."""

import numpy as np
import pytest
import torch
from kernel_cases import draw, kernel_map, run

from clip2scene.portable import registers
from clip2scene.sparse import fetch_on_demand

KIND = (3, 1, 1, False)


@pytest.fixture
def restored_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(registers, "_threads", None)
    yield
    torch.set_num_threads(before)


def assert_same_bits(results, expected):
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.parametrize("channels", [(3, 40), (100, 16)])
def test_threads_change_no_bit(restored_threads, channels):
    """Run with as many threads as there are blocks of channels, and with more."""
    built = kernel_map(KIND, n=5000, size=30)
    drawn = draw(built, channels)
    torch.set_num_threads(1)
    expected = run(fetch_on_demand, built, drawn)
    for threads in (2, 3, 16):
        torch.set_num_threads(threads)
        assert_same_bits(run(fetch_on_demand, built, drawn), expected)


@pytest.mark.parametrize("feature", ["avx512f", "avx2", "neon"])
def test_vectors_change_no_bit(with_vectors, feature):
    built = kernel_map(KIND, n=2000, size=20)
    drawn = draw(built, (21, 45))
    copy = with_vectors(feature, "clip2scene.sparse.fetch_on_demand")
    assert_same_bits(run(copy, built, drawn), run(fetch_on_demand, built, drawn))


def test_without_gnu_openmp_threads_of_python_do_the_same(restored_threads, monkeypatch):
    torch.set_num_threads(2)
    built = kernel_map(KIND, n=2000, size=20)
    drawn = draw(built, (21, 45))
    expected = run(fetch_on_demand, built, drawn)
    monkeypatch.setattr(registers, "_TORCH", object())
    assert_same_bits(run(fetch_on_demand, built, drawn), expected)


def test_long_sums_lose_less_than_one_after_the_other():
    """Check the error of the weight gradient, which is summed within each tile before tiles are added."""
    forward = kernel_map(KIND, n=40_000, size=40).forward
    rows, gradient = torch.rand(2, forward.n_targets, 8)
    exact = rows.double().t() @ gradient.double()  # at the centre offset, every voxel pairs with itself
    result = fetch_on_demand.sum_outer_products(rows, gradient, forward)[13]
    terms = rows[:, :, None].numpy() * gradient[:, None, :].numpy()
    in_turn = torch.from_numpy(np.add.accumulate(terms, dtype=np.float32)[-1])
    assert (result - exact).abs().max() < 0.2 * (in_turn - exact).abs().max()
