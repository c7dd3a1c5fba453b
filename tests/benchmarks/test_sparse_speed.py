"""Speed of the sparse engine on a made-up lidar scan; run with `pytest tests/benchmarks --benchmark-only`.

Threads are those of the environment (OMP_NUM_THREADS).
"""

import numpy as np
import pytest
import torch

from clip2scene.models.backbones import build_backbone
from clip2scene.sparse import Geometry
from clip2scene.sparse.convolution import convolve


def scan(seed: int, azimuths: int, voxels: int) -> np.ndarray:
    """Voxels [V, 3] at 0.1 m of a 32-beam scan of a street: ground, two walls and 40 boxes."""
    rng = np.random.default_rng(seed)
    elevation, azimuth = np.meshgrid(
        np.deg2rad(np.linspace(-30.67, 10.67, 32)), np.linspace(0, 2 * np.pi, azimuths, endpoint=False) + 1e-4
    )
    ray = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    ).reshape(-1, 3)
    distance = np.where(ray[:, 2] < 0, -1.84 / ray[:, 2], np.inf)
    for y in (-12, 15):
        reach = y / ray[:, 1]
        wall = (reach > 0) & (reach * ray[:, 2] < 7)
        distance = np.where(wall, np.minimum(distance, reach), distance)
    for _ in range(40):
        centre, half = [rng.uniform(-50, 50), rng.uniform(-10, 13), -1], rng.uniform(0.3, [2.2, 1.0, 0.9])
        near, far = (centre - half) / ray, (centre + half) / ray
        enter, leave = np.minimum(near, far).max(1), np.maximum(near, far).min(1)
        hit = (enter < leave) & (enter > 0.5)
        distance = np.where(hit, np.minimum(distance, enter), distance)
    seen = distance < 80
    points = ray[seen] * distance[seen, None] + rng.normal(0, 0.02, (seen.sum(), 3))
    unique = np.unique(np.floor(points / 0.1).astype(np.int32), axis=0)
    return rng.permutation(unique)[:voxels]


def batch(clouds: int, azimuths: int, voxels: int) -> torch.Tensor:
    """Coordinates [V, 4] of several scans."""
    scans = [scan(seed, azimuths, voxels) for seed in range(clouds)]
    return torch.cat([torch.from_numpy(np.insert(s, 0, i, axis=1)) for i, s in enumerate(scans)])


@pytest.fixture(scope="module")
def one_scan():
    """A nuScenes-sized scan."""
    return batch(1, 1085, 30_000)


def training_step(name: str, width: float, coordinates: torch.Tensor):
    torch.manual_seed(0)
    network = build_backbone(name, 1, width)
    optimiser = torch.optim.SGD(network.parameters(), 0.01)
    features = torch.rand(len(coordinates), 1)
    target = torch.randn(len(coordinates), network.out_channels)

    def step():
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(network(coordinates, features), target).backward()
        optimiser.step()

    return step


def test_kernel_maps_of_all_levels(benchmark, one_scan):
    def build():
        geometry = Geometry(one_scan)
        x = torch.ones(len(one_scan), 1)
        for stride in (1, 2, 4, 8, 16):
            geometry.convolve(x, torch.ones(27, 1, 1), stride, 3)
            x = geometry.convolve(x, torch.ones(8, 1, 1), stride, 2, 2)

    benchmark.extra_info["voxels"] = len(one_scan)
    benchmark(build)


@pytest.mark.parametrize("channels", [8, 32, 96, 256])
@pytest.mark.parametrize("direction", ["forward", "forward and backward"])
def test_convolution(benchmark, one_scan, channels, direction):
    geometry = Geometry(one_scan)
    kernel_map = geometry.kernel_map(1, 3)
    backward = direction != "forward"
    features = torch.randn(len(one_scan), channels, requires_grad=backward)
    weight = torch.randn(27, channels, channels, requires_grad=backward)
    upstream = torch.randn(len(one_scan), channels)

    def run():
        result = convolve(features, weight, kernel_map)
        if backward:
            torch.autograd.grad(result, (features, weight), upstream)

    pairs = kernel_map.n_pairs + len(one_scan)
    benchmark.extra_info.update(voxels=len(one_scan), pairs=pairs, gflop=2e-9 * pairs * channels**2)
    benchmark(run)


@pytest.mark.parametrize(
    ("name", "width", "clouds", "azimuths", "voxels"),
    [
        ("spvcnn", 0.25, 3, 360, 6_000),  # the embedded experiment
        ("spvcnn", 1, 1, 1085, 30_000),
        ("res16unet34c", 1, 1, 1085, 30_000),
    ],
)
def test_training_step(benchmark, name, width, clouds, azimuths, voxels):
    coordinates = batch(clouds, azimuths, voxels)
    benchmark.extra_info["voxels"] = len(coordinates)
    benchmark.pedantic(training_step(name, width, coordinates), rounds=5, warmup_rounds=1)
