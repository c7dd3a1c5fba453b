"""Measure layers and training steps on a GPU, into one JSON file: `make benchmark-gpu`.

Layers are compared with plain PyTorch, with a dense matrix product of as many multiply-adds and, in float16,
with spconv and spconv-triton where they are installed. A step is that of the configuration's batch, on a
synthetic keyframe of nuScenes' size with random weights: contents hardly change its cost.

The file is written after each measurement, so nothing measured is lost if the benchmark is stopped.
spconv-triton comes last, as it tunes itself for a minute and more.
"""

import argparse
import hashlib
import importlib
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import test_sparse_speed as sparse
import torch
from torch import nn

from clip2scene.config import Config, DatasetConfig, Superpixels, Synthetic, load_config
from clip2scene.datasets.index import build
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.files import write_json
from clip2scene.method.base import Progress, Resources
from clip2scene.method.registry import get_method
from clip2scene.method.spec import method_spec
from clip2scene.models.backbones import build_backbone
from clip2scene.models.clip import CLIP, model_config, save_clip
from clip2scene.models.image_encoder import build_encoder
from clip2scene.pairing.batch import Batch
from clip2scene.pairing.collate import collate
from clip2scene.pairing.samples import PretrainingSamples
from clip2scene.pairing.superpixels import write_superpixels
from clip2scene.planning.stand_ins import FULL_SIZE
from clip2scene.seeding import seed_everything
from clip2scene.sparse import Geometry, convolution, gather_scatter
from clip2scene.synthetic.generate import generate
from clip2scene.training.loop import sgd
from clip2scene.training.precision import repeat_bits, set_precision

LAYERS = [layer for layer in sparse.LAYERS if layer[1] >= 64]
METHODS = {"clip2scene": ("fixed", "spvcnn"), "slidr": ("", "res16unet34c")}
"""Recipe and backbone of the methods whose steps are timed, as the papers trained them."""
COMPARED = torch.float16
"""Type in which spconv and spconv-triton are timed: spconv has no bfloat16."""
LIBRARIES, LAST = ("native", "matmul", "spconv", "pytorch"), ("spconv_triton",)
SMALL = Synthetic(train_scenes=1, val_scenes=1, keyframes=1, azimuth_steps=90, image_size=(48, 80))


def seconds(step: Callable[[], object], device: str, rounds: int) -> float:
    """Return the median time of a step after two that warm up, its work on the GPU included."""
    times = []
    for _ in range(2 + rounds):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def layer(
    device: str,
    size: dict[str, int],
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    libraries: tuple[str, ...] = LIBRARIES,
) -> dict:
    """Time a 3 x 3 x 3 convolution with cached kernel maps in some libraries; times are in milliseconds."""
    stride, inputs, outputs = shape
    geometry = Geometry(sparse.batch(**size).to(device))
    voxels = geometry.coordinates(stride)
    made = {"device": device, "dtype": dtype, "requires_grad": True}
    features = torch.randn(len(voxels), inputs, **made)
    weight = torch.randn(27, inputs, outputs, **made)
    upstream = torch.randn(len(voxels), outputs, device=device, dtype=dtype)
    pairs = len(geometry.kernel_map(stride, 3).forward.sources)
    dense = torch.randn(pairs, inputs, **made), torch.randn(inputs, outputs, **made)
    result = {"stride": stride, "channels": [inputs, outputs], "dtype": str(dtype).removeprefix("torch.")}
    result |= {"voxels": len(voxels), "pairs": pairs, "forward_gflop": 2e-9 * pairs * inputs * outputs}
    native = convolution.kernels_for
    ours = (lambda: geometry.convolve(features, weight, stride, 3)), (features, weight), upstream
    for library in libraries:
        convolution.kernels_for = native if library == "native" else lambda *_: gather_scatter
        if library in ("native", "pytorch"):
            result[library] = passes(*ours, device)
        elif library == "matmul":
            gradient = torch.randn(pairs, outputs, device=device, dtype=dtype)
            result[library] = passes(lambda: dense[0] @ dense[1], dense, gradient, device)
        elif device == "cuda" and dtype == COMPARED and find_spec(library):
            try:
                result[library] = passes(*other(library, voxels, stride, features, outputs), upstream, device)
            except Exception as error:  # whatever it does not support must not end the measurement
                result[library] = {"error": f"{type(error).__name__}: {error}"}
    convolution.kernels_for = native
    return result


def kernel_maps(device: str, size: dict[str, int]) -> float:
    """Return the time of all kernel maps of a U-Net of five levels, and of those of their gradients, ms."""
    coordinates = sparse.batch(**size).to(device)

    def build() -> None:
        geometry = Geometry(coordinates)
        x = torch.ones(len(coordinates), 1, device=device, requires_grad=True)
        size_3, size_2 = torch.ones(27, 1, 1, device=device), torch.ones(8, 1, 1, device=device)
        for stride in (1, 2, 4, 8, 16):
            x = x + geometry.convolve(x, size_3, stride, 3)
            x = geometry.convolve(x, size_2, stride, 2, 2)
        x.sum().backward()

    return 1e3 * seconds(build, device, 10)


def passes(
    forward: Callable[[], torch.Tensor], of: tuple[torch.Tensor, ...], gradient: torch.Tensor, device: str
) -> dict[str, float]:
    """Time a forward pass, and one with the gradients of `of`, milliseconds."""

    def both() -> None:
        torch.autograd.grad(forward(), of, gradient)

    return {
        "forward": 1e3 * seconds(forward, device, 10),
        "forward_and_backward": 1e3 * seconds(both, device, 10),
    }


def other(
    library: str, voxels: torch.Tensor, stride: int, features: torch.Tensor, outputs: int
) -> tuple[Callable[[], torch.Tensor], tuple[torch.Tensor, nn.Parameter]]:
    """Return spconv's or spconv-triton's forward pass, its kernel map cached, and what has gradients."""
    spconv = importlib.import_module(f"{library}.pytorch")
    xyz = voxels[:, 1:].div(stride, rounding_mode="floor")
    indices = torch.cat([voxels[:, :1], xyz - xyz.amin(0)], 1).int()
    made = {"bias": False, "indice_key": "map"}
    conv = spconv.SubMConv3d(features.shape[1], outputs, 3, **made).to(features.device, features.dtype)
    shape = (indices[:, 1:].amax(0) + 1).tolist()
    x = spconv.SparseConvTensor(features, indices, shape, int(voxels[:, 0].max()) + 1)
    x.indice_dict = conv(x).indice_dict
    return lambda: conv(x).features, (features, conv.weight)


def batches(config: Config, name: str, small: bool, folder: Path) -> Batch:
    """Make a batch of a method: one synthetic keyframe, again and again, each time augmented otherwise."""
    data = config.datasets["nuscenes"]
    if not folder.exists():
        made = DatasetConfig(
            root=folder, version="v1.0-made", synthetic=SMALL if small else FULL_SIZE["nuscenes"]
        )
        generate(made, seed=0, processes=1 if small else torch.get_num_threads())
    made = data.model_copy(update={"root": folder, "version": "v1.0-made", "synthetic": None})
    index = build(made, folder / "index.parquet").split("train")
    needs, superpixels = method_spec(name).needs, folder / "superpixels.arrow"
    if "superpixels" in needs and not superpixels.exists():
        write_superpixels(index, "train", Superpixels(), superpixels, cores=torch.get_num_threads())
    recipe, backbone = METHODS[name]
    settings = config.pretraining("nuscenes", name, recipe)
    cylindrical = config.backbones[backbone].coordinates == "cylindrical"
    samples = PretrainingSamples(
        get_dataset(data.format), index, settings, needs, data.voxel_size, cylindrical, 0, superpixels
    )
    drawn = []
    for samples.epoch in range(settings.batch_size):
        drawn.append(samples[0])
    return collate(drawn)


def resources(config: Config, folder: Path) -> Resources:
    """Write random weights of the configuration's teacher and image encoder, and random text embeddings."""
    folder.mkdir()
    files = Resources(folder / "teacher.pt", folder / "text.pt", folder / "encoder.pt")
    architecture = config.teacher.architecture
    teacher = CLIP(**model_config(architecture))
    save_clip(files.teacher, teacher, architecture, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    channels = model_config(architecture)["embed_dim"]
    embeddings = nn.functional.normalize(torch.randn(16, channels))
    torch.save({"prompts": list(map(str, range(16))), "embeddings": embeddings}, files.text)
    encoder = config.image_encoder.architecture
    torch.save({"architecture": encoder, "state_dict": build_encoder(encoder).state_dict()}, files.encoder)
    return files


def step(config: Config, name: str, device: str, batch: Batch, files: Resources, rounds: int) -> dict:
    """Time a training step of a method, count what it waits for, and compare the bytes of two runs."""
    recipe, backbone = METHODS[name]
    settings = config.pretraining("nuscenes", name, recipe)
    numbers = {"voxels": len(batch.coordinates), "pairs": len(batch.pair_point), "images": len(batch.images)}
    batch = batch.pin_memory() if device == "cuda" else batch
    hashes = []
    for _ in range(2):
        seed_everything(0, "initialisation")
        channels = get_dataset(config.datasets["nuscenes"].format).feature_channels
        network = build_backbone(backbone, channels, config.backbones[backbone].width, config.backend)
        method = get_method(name)(config, recipe, network, files).to(device).train()
        optimiser = sgd([{"params": list(method.parameters())}], settings.optimiser)

        def train(number: int) -> None:
            seed_everything(0, "training", number, 0)
            with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
                losses = method.training_step(batch.to(torch.device(device)), Progress(0, 1, number, 0))  # noqa: B023
            optimiser.zero_grad()  # noqa: B023
            sum(losses.values()).backward()
            optimiser.step()  # noqa: B023

        for number in range(3):
            train(number)
        weights = (value.cpu().numpy().tobytes() for value in method.state_dict().values())
        hashes.append(hashlib.sha256(b"".join(weights)).hexdigest())
    numbers["same_bytes_twice"] = hashes[0] == hashes[1]
    if device == "cuda":
        numbers["synchronisations"] = waits(lambda: train(3))
        torch.cuda.reset_peak_memory_stats()
    numbers["seconds"] = seconds(lambda: train(4), device, rounds)
    if device == "cuda":
        numbers["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return numbers


def waits(step: Callable[[], object]) -> int:
    """Count the times that a step waits for the GPU, as torch sees them."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def main() -> None:
    """Measure everything and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", type=Path, default=Path("config/paper.yaml"))
    parser.add_argument("--smoke", action="store_true", help="on the CPU, and small: does everything run?")
    arguments = parser.parse_args()
    small, device = arguments.smoke, "cpu" if arguments.smoke else "cuda"
    if not small and not torch.cuda.is_available():
        sys.exit("error: torch finds no NVIDIA GPU; expected one (--smoke runs everything small on the CPU)")
    try:
        config = load_config(arguments.config)
    except InputError as error:
        sys.exit(f"error: {error}")
    set_precision(config, gpu=not small)
    names = ("torch", "triton", "spconv-triton", "spconv-cu126")
    found = {"gpu": "" if small else torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    for name in names:
        found[name] = version(name) if find_spec(name.replace("-", "_").removesuffix("_cu126")) else None
    size = {"clouds": 1, "azimuths": 120, "voxels": 900} if small else sparse.NUSCENES
    result = {"machine": found, "precision": config.precision, "tf32": config.tf32, "layers": [], "steps": {}}

    def keep(measured: dict) -> None:
        print(json.dumps(measured), file=sys.stderr, flush=True)
        write_json(arguments.out, result)

    for dtype in (COMPARED, torch.bfloat16, torch.float32)[2 * small :]:
        for shape in LAYERS:
            result["layers"].append(layer(device, size, shape, dtype))
            keep(result["layers"][-1])
    if not small:
        repeat_bits()  # not for layers: other libraries may add up in any order
    result["kernel_maps"] = kernel_maps(device, size)
    keep({"kernel_maps": result["kernel_maps"]})
    with tempfile.TemporaryDirectory() as folder:
        files = resources(config, Path(folder) / "weights")
        for name in METHODS:
            batch = batches(config, name, small, Path(folder) / "data")
            result["steps"][name] = step(config, name, device, batch, files, 1 if small else 10)
            keep({name: result["steps"][name]})
    if not small:
        torch.use_deterministic_algorithms(False)
        for shape, measured in zip(LAYERS, result["layers"], strict=False):  # those of COMPARED came first
            measured |= layer(device, size, shape, COMPARED, LAST)
            keep(measured)


if __name__ == "__main__":
    main()
