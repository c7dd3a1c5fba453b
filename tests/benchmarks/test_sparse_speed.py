"""Speed and memory of the sparse engine, and of MinkowskiEngine if it is installed: `make benchmark`.

The environment sets the number of threads (OMP_NUM_THREADS). docs/performance.md explains the numbers.
"""

import ctypes
import gc
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from clip2scene.machine import keep_freed_memory
from clip2scene.models.backbones import build_backbone
from clip2scene.sparse import Backend, Geometry, convolution, gather_scatter

BACKENDS = ["native", *(["minkowski"] if find_spec("MinkowskiEngine") else [])]
DEVICE = "cuda"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
NUSCENES = {"clouds": 2, "azimuths": 1900, "voxels": 30_000}  # two clouds of 29,000 voxels
# stride, input and output channels: all submanifold convolutions of Res16UNet34C and SPVCNN except the first
LAYERS = [(1, 32, 32), (4, 64, 64), (1, 96, 96), (4, 128, 128), (8, 256, 256), (8, 384, 256), (16, 256, 256)]


@pytest.fixture(scope="module", autouse=True)
def _memory():
    keep_freed_memory(of_every_size=True)  # as every stage that trains does


def scan(seed: int, azimuths: int, voxels: int) -> np.ndarray:
    """Return voxels [V, 3] int32 of 0.1 m from a 32-beam scan of a street: ground, two walls and 40 boxes."""
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


@cache
def batch(clouds: int, azimuths: int, voxels: int) -> torch.Tensor:
    """Return coordinates [V, 4] int32 of several scans."""
    scans = [scan(seed, azimuths, voxels) for seed in range(clouds)]
    return torch.cat([torch.from_numpy(np.insert(s, 0, i, axis=1)) for i, s in enumerate(scans)]).int()


def backend_of(name: str) -> type[Backend]:
    return build_backbone("spvcnn", 1, 0.01, name).backend


def peak_mib(step: Callable[[], object]) -> float:
    """Return the peak memory of a step, MiB, above the process's current use, as counted by Linux."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # return memory freed by earlier steps
    Path("/proc/self/clear_refs").write_text("5")  # reset the recorded peak
    before = resident("VmRSS")
    step()
    return (resident("VmHWM") - before) / 1024


def resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_kernel_maps_of_all_levels(benchmark, backend):
    """Build the kernel maps of a U-Net: kernels of size 3 and the strided kernels of five levels."""
    coordinates = batch(**NUSCENES)

    def build():
        geometry = backend_of(backend)(coordinates)
        x = torch.ones(len(coordinates), 1)
        for stride in (1, 2, 4, 8, 16):
            geometry.convolve(x, torch.ones(27, 1, 1), stride, 3)
            x = geometry.convolve(x, torch.ones(8, 1, 1), stride, 2, 2)

    benchmark.group = "kernel maps"
    benchmark.extra_info["voxels"] = len(coordinates)
    benchmark(build)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("direction", ["forward", "forward and backward"])
@pytest.mark.parametrize(("stride", "in_channels", "channels"), LAYERS)
def test_convolution(benchmark, backend, direction, stride, in_channels, channels):
    """Time a convolution with cached kernel maps; `gflop` gives its floor, a matrix product of equal size."""
    coordinates = batch(**NUSCENES)
    geometry = backend_of(backend)(coordinates)
    backward = direction != "forward"
    features = torch.randn(len(geometry.coordinates(stride)), in_channels, requires_grad=backward)
    weight = torch.randn(27, in_channels, channels, requires_grad=backward)
    upstream = torch.randn(len(features), channels)

    def run():
        result = geometry.convolve(features, weight, stride, 3)
        if backward:
            torch.autograd.grad(result, (features, weight), upstream)

    pairs = len(Geometry(coordinates).kernel_map(stride, 3).forward.sources)
    gflop = (6e-9 if backward else 2e-9) * pairs * in_channels * channels
    benchmark.group = f"stride {stride}, {in_channels} to {channels} channels, {direction}"
    benchmark.extra_info.update(voxels=len(features), pairs=pairs, gflop=gflop)
    benchmark.pedantic(run, rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_floor(benchmark, library):
    """Measure the machine's dense matrix product rate: a convolution's floor is its `gflop` over this rate.

    Two libraries are measured. torch's MKL leaves AVX-512 unused on AMD processors, NumPy's OpenBLAS on
    processors that it does not recognise (OPENBLAS_CORETYPE).
    """
    a, b, out = torch.randn(4096, 256), torch.randn(256, 256), torch.empty(4096, 256)
    multiply = torch.mm if library == "torch" else np.dot
    if library == "numpy":
        a, b, out = a.numpy(), b.numpy(), out.numpy()
    benchmark.group = "floor"
    benchmark.extra_info["gflop"] = 2e-9 * 4096 * 256**2
    benchmark.pedantic(lambda: multiply(a, b, out=out), rounds=50, warmup_rounds=5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "width", "size"),
    [
        ("spvcnn", 0.125, {"clouds": 3, "azimuths": 240, "voxels": 6_000}),  # the embedded experiment
        ("spvcnn", 1, NUSCENES),
        ("res16unet34c", 1, NUSCENES),
    ],
)
def test_training_step(benchmark, backend, name, width, size):
    """Time forward pass, loss, backward pass and optimiser step."""
    coordinates = batch(**size)
    torch.manual_seed(0)
    network = build_backbone(name, 1, width, backend)
    optimiser = torch.optim.SGD(network.parameters(), 0.01)
    features = torch.rand(len(coordinates), 1)
    target = torch.randn(len(coordinates), network.out_channels)

    def step():
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(network(coordinates, features), target).backward()
        optimiser.step()

    benchmark.group = f"training step of {name}, width {width}"
    benchmark.extra_info.update(voxels=len(coordinates), peak_mib=peak_mib(step))
    benchmark.pedantic(step, rounds=5)


@pytest.mark.parametrize("clouds", [2, 4, 8, 16, 32])
def test_growth(benchmark, clouds):
    """Time inference of an SPVCNN, including kernel maps, for up to a million voxels."""
    coordinates = batch(clouds, azimuths=2200, voxels=31_250)
    network = build_backbone("spvcnn", 1, 1).eval()
    features = torch.rand(len(coordinates), 1)

    @torch.no_grad()
    def infer():
        network(coordinates, features)

    benchmark.group = "growth"
    benchmark.extra_info.update(voxels=len(coordinates), peak_mib=peak_mib(infer))
    benchmark.pedantic(infer, rounds=3)


@pytest.fixture(params=["triton", "pytorch"])
def path(request, monkeypatch) -> str:
    """Select the native engine's Triton kernels, or the plain PyTorch that it falls back on."""
    if request.param == "pytorch":
        monkeypatch.setattr(convolution, "kernels_for", lambda *_: gather_scatter)
    return request.param


def waited_for(step: Callable[[], object]) -> Callable[[], None]:
    """Wrap a step so that it waits for the work it launched on the GPU."""

    def run():
        step()
        torch.cuda.synchronize()

    return run


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("stride", "in_channels", "channels"), LAYERS)
def test_convolution_on_a_gpu(benchmark, path, stride, in_channels, channels, dtype):
    """Time forward and backward passes with cached kernel maps."""
    geometry = Geometry(batch(**NUSCENES).to(DEVICE))
    made = {"device": DEVICE, "dtype": dtype}
    features = torch.randn(len(geometry.coordinates(stride)), in_channels, **made, requires_grad=True)
    weight = torch.randn(27, in_channels, channels, **made, requires_grad=True)
    upstream = torch.randn(len(features), channels, **made)

    def step():
        torch.autograd.grad(geometry.convolve(features, weight, stride, 3), (features, weight), upstream)

    pairs = len(geometry.kernel_map(stride, 3).forward.sources)
    benchmark.group = f"GPU, stride {stride}, {in_channels} to {channels} channels, {dtype}"
    benchmark.extra_info.update(voxels=len(features), gflop=6e-9 * pairs * in_channels * channels)
    benchmark.pedantic(waited_for(step), rounds=20, warmup_rounds=3)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("stride", "in_channels", "channels"), LAYERS)
def test_convolution_of_spconv_on_a_gpu(benchmark, stride, in_channels, channels, dtype):
    """Time the same convolution in spconv 2, if it is installed."""
    spconv = pytest.importorskip("spconv.pytorch", reason="spconv is not installed")
    voxels = Geometry(batch(**NUSCENES).to(DEVICE)).coordinates(stride)
    xyz = voxels[:, 1:].div(stride, rounding_mode="floor")
    indices = torch.cat([voxels[:, :1], xyz - xyz.amin(0)], 1).int()
    layer = spconv.SubMConv3d(in_channels, channels, 3, bias=False, indice_key="map").to(DEVICE, dtype)
    features = torch.randn(len(voxels), in_channels, device=DEVICE, dtype=dtype, requires_grad=True)
    shape = (indices[:, 1:].amax(0) + 1).tolist()
    x = spconv.SparseConvTensor(features, indices, shape, NUSCENES["clouds"])
    x.indice_dict = layer(x).indice_dict  # cache the kernel map
    upstream = torch.randn(len(voxels), channels, device=DEVICE, dtype=dtype)

    def step():
        torch.autograd.grad(layer(x).features, (features, layer.weight), upstream)

    benchmark.group = f"GPU, stride {stride}, {in_channels} to {channels} channels, {dtype}"
    benchmark.pedantic(waited_for(step), rounds=20, warmup_rounds=3)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_floor_of_a_gpu(benchmark, dtype):
    """Measure the dense matrix product rate of the GPU, as `test_floor` does for the CPU."""
    a, b = (torch.randn(size, 256, device=DEVICE, dtype=dtype) for size in (65536, 256))
    benchmark.group = f"GPU, floor, {dtype}"
    benchmark.extra_info["gflop"] = 2e-9 * 65536 * 256**2
    benchmark.pedantic(waited_for(lambda: a @ b), rounds=50, warmup_rounds=5)


@needs_gpu
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("name", ["spvcnn", "res16unet34c"])
def test_training_step_on_a_gpu(benchmark, path, name, autocast):
    """Time a training step with kernel maps, as `test_training_step` does on the CPU."""
    torch.cuda.reset_peak_memory_stats()
    coordinates = batch(**NUSCENES).to(DEVICE)
    network = build_backbone(name, 1, 1).to(DEVICE)
    optimiser = torch.optim.SGD(network.parameters(), 0.01)
    features = torch.rand(len(coordinates), 1, device=DEVICE)
    target = torch.randn(len(coordinates), network.out_channels, device=DEVICE)

    def step():
        optimiser.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            result = network(coordinates, features)
        torch.nn.functional.mse_loss(result.float(), target).backward()
        optimiser.step()

    benchmark.group = f"GPU, training step of {name}, {'bf16' if autocast else 'float32'}"
    benchmark.pedantic(waited_for(step), rounds=10, warmup_rounds=3)
    benchmark.extra_info.update(voxels=len(coordinates), peak_mib=torch.cuda.max_memory_allocated() / 2**20)
