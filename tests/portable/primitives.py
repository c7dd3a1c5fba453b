"""Print the hashes of what the libraries compute that the workflow rests on, as JSON by name.

A test runs this file in processes that are told to use other instructions, and under another processor. Its
argument is the number of threads.
"""

import clip2scene  # noqa: F401 - first: it pins what the libraries below choose when they are loaded

# isort: split

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.segmentation import slic
from torch import nn
from torch.nn import functional as F

from clip2scene.config import Config
from clip2scene.portable.operators import begin
from clip2scene.sparse import Geometry

EMULATED = "PRIMITIVES_EMULATED"
"""Variable that says that QEMU emulates the processor."""
FAULTY = frozenset({"layers.grid sample", "in_numpy.tanh", "elementwise.tanh"})
"""Primitives that QEMU 7.2 computes wrongly.

It crashes in PyTorch's masked gathers, and NumPy's tanh exceeds 1."""


def main(threads: int) -> dict[str, str]:
    section = {"root": "data", "version": "v1.0-synthetic", "format": "nuscenes"}
    begin(Config.model_validate({"datasets": {"a": section}, "threads": threads}))
    torch.manual_seed(0)
    parts = (in_numpy, of_images, elementwise, reductions, layers, products, sparse, optimisers, drawn)
    found = {f"{part.__name__}.{name}": digest(value) for part in parts for name, value in part()}
    return {name: value for name, value in found.items() if EMULATED not in os.environ or name not in FAULTY}


def digest(value: Any) -> str:
    """Hash arrays, tensors, and sequences of them."""
    if isinstance(value, list | tuple):
        return hashlib.sha256("".join(map(digest, value)).encode()).hexdigest()[:12]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()[:12]
    array = (
        value.detach().contiguous().numpy()
        if isinstance(value, torch.Tensor)
        else np.ascontiguousarray(value)
    )
    return hashlib.sha256(array.tobytes()).hexdigest()[:12]


def in_numpy() -> Iterator[tuple[str, Any]]:
    random = np.random.default_rng(0)
    double = random.uniform(0.1, 9, 10_007)
    for name in (
        "sin",
        "cos",
        "tan",
        "exp",
        "log",
        "sqrt",
        "arctan",
        "cbrt",
        "tanh",
        "log1p",
        "expm1",
        "arcsin",
    ):
        function, values = getattr(np, name), double / 10 if name == "arcsin" else double
        yield name, [function(values), function(values.astype(np.float32))]
    for name in ("arctan2", "hypot", "power"):
        function = getattr(np, name)
        yield name, [function(double, double[::-1]), function(*np.float32([double, double[::-1]]))]
    for kind in (np.float32, np.float64):
        values = double.astype(kind)
        yield f"sums {kind.__name__}", [values.sum(), values.mean(), values.std(), np.cumsum(values)]
        square, rows = values[:4000].reshape(-1, 4, 4), values[:9000].reshape(-1, 3)
        yield f"small products {kind.__name__}", [
            square @ square[0], square[0] @ square[1], rows @ square[0, :3, :3].T + square[0, :3, 3],
            square[:, :3, :3] @ square[1, :3, 3], square[0] @ square[1, 0], rows[0] @ rows[1],
        ]  # fmt: skip
        yield f"linear algebra {kind.__name__}", [
            np.linalg.inv(square), np.linalg.norm(rows, axis=1), np.linalg.solve(square[0], square[1]),
            np.linalg.det(square), np.linalg.norm(rows[0]),
        ]  # fmt: skip
        large = values[:10_000].reshape(100, 100)
        yield f"large products {kind.__name__}", [large @ large, large.T @ large, large @ large[0]]
    yield "random", [random.normal(size=999), random.exponential(size=99), random.permutation(99)]
    yield "fourier", np.fft.fftn(double[:1000].reshape(10, 10, 10)).real


def of_images() -> Iterator[tuple[str, Any]]:
    random = np.random.default_rng(0)
    smooth = np.kron(random.integers(0, 255, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    pixels = np.clip(smooth + random.normal(0, 9, smooth.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    for method in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        yield f"resize {method.name}", np.asarray(image.resize((57, 41), method, box=(3.2, 1.5, 99.7, 80)))
    for form, options in (("JPEG", {"quality": 90}), ("PNG", {})):
        file = io.BytesIO()
        image.save(file, form, **options)
        yield form, [file.getvalue(), np.asarray(Image.open(io.BytesIO(file.getvalue())))]
    unit = pixels.astype(np.float32) / 255
    yield "slic", slic(unit, n_segments=60, compactness=6, sigma=1.0, start_label=0)


def elementwise() -> Iterator[tuple[str, Any]]:
    values = torch.rand(50_021) * 6 - 3
    positive = values.abs() + 0.1
    for name in ("exp", "tanh", "sigmoid", "erf", "sin", "cos", "atan", "expm1", "exp2"):
        yield name, getattr(torch, name)(values)
    for name in ("log", "sqrt", "rsqrt", "log1p", "log2", "reciprocal"):
        yield name, getattr(torch, name)(positive)
    yield "erfinv", torch.erfinv(values / 4)
    yield "power", [positive**2.5, positive**0.5, torch.pow(2.0, values), positive.pow(values)]
    yield "double", [values.double().exp(), positive.double().log(), values.double().sin()]
    for name, function in (("gelu", F.gelu), ("silu", F.silu), ("softplus", F.softplus), ("elu", F.elu)):
        yield name, with_gradient(function, values)
    yield (
        "arithmetic",
        [values / positive, torch.lerp(values, positive, 0.3), torch.addcmul(values, positive, values)],
    )
    yield "atan2", torch.atan2(values, positive)


def reductions() -> Iterator[tuple[str, Any]]:
    for shape in ((30_011,), (997, 61), (61, 997), (5, 24, 13, 17)):
        values = torch.randn(shape)
        dims = [None, *range(values.ndim)]
        for name in ("sum", "mean", "var", "norm", "logsumexp", "cumsum", "prod", "amax"):
            if name in ("logsumexp", "cumsum"):
                results = [getattr(values, name)(dim) for dim in dims[1:]]
            else:
                results = [
                    getattr(values, name)(dim=dim) for dim in dims if dim is not None or name != "prod"
                ]
            yield f"{name} {shape}", results
    values = torch.randn(4, 20, 12, 14).contiguous(memory_format=torch.channels_last)
    yield "channels last", [values.sum(), values.mean((0, 2, 3)), values.mean((2, 3)), values.var((0, 2, 3))]


def with_gradient(function: Any, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return a function's result and the gradients of its inputs, for a gradient that varies."""
    inputs = tuple(value.detach().clone().requires_grad_() for value in inputs)
    result = function(*inputs)
    result.backward(torch.linspace(-1, 1, result.numel()).view(result.shape))
    return [result, *(value.grad for value in inputs)]


def layers() -> Iterator[tuple[str, Any]]:
    rows, scale, shift = torch.randn(1003, 48), torch.rand(48) + 0.5, torch.randn(48)
    maps = torch.randn(3, 24, 19, 21)
    last = maps.contiguous(memory_format=torch.channels_last)
    yield "softmax", [with_gradient(lambda x, d=d: F.softmax(x, d), rows) for d in (0, 1)]
    yield "log softmax", [with_gradient(lambda x, d=d: F.log_softmax(x, d), rows) for d in (0, 1)]
    yield "layer norm", with_gradient(lambda x, w, b: F.layer_norm(x, (48,), w, b), rows, scale, shift)
    for name, x in (("rows", rows), ("maps", maps), ("channels last", last)):
        size = x.shape[1]
        for training in (True, False):
            mean, var = torch.zeros(size), torch.ones(size)
            norm = with_gradient(
                lambda x, w, b, mean=mean, var=var, training=training: F.batch_norm(
                    x, mean, var, w, b, training
                ),
                *(x, scale[:size], shift[:size]),
            )
            yield f"batch norm {name} {training}", [*norm, mean, var]
    yield "cross entropy", with_gradient(lambda x: F.cross_entropy(x, torch.arange(1003) % 48), rows)
    yield "cosine", with_gradient(lambda x: F.cosine_similarity(x, rows.flip(0)), rows)
    yield "normalise", with_gradient(lambda x: F.normalize(x, dim=1), rows)
    for mode in ("bilinear", "bicubic"):
        yield mode, [
            with_gradient(lambda x, m=mode, c=c: F.interpolate(x, (31, 44), mode=m, align_corners=c), x)
            for c in (True, False) for x in (maps, last)
        ]  # fmt: skip
    grid = F.affine_grid(torch.randn(3, 2, 3) / 2, [3, 24, 15, 15], align_corners=False)
    if EMULATED not in os.environ:
        yield (
            "grid sample",
            [grid, *with_gradient(lambda x: F.grid_sample(x, grid, align_corners=False), maps)],
        )
    yield (
        "pool",
        [
            with_gradient(lambda x, f=f: f(x), x)
            for f in (lambda x: F.avg_pool2d(x, 2), lambda x: F.max_pool2d(x, 3, 2, 1))
            for x in (maps, last)
        ],
    )
    index = torch.arange(5000) * 37 % 1003
    yield (
        "index add",
        [rows.index_add(0, index, torch.randn(5000, 48)), with_gradient(lambda x: x[index], rows)],
    )
    yield "embedding", with_gradient(lambda w: F.embedding(index, w), rows)
    offsets = torch.arange(0, 5001, 10)
    for width in (3, 16, 45, 48):
        table = torch.randn(1003, width)
        for weights in (None, torch.rand(5000)):
            yield (
                f"bags {width} {weights is None}",
                F.embedding_bag(
                    index, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
                ),
            )


def products() -> Iterator[tuple[str, Any]]:
    for m, k, n in ((1, 1, 1), (7, 3, 5), (100, 300, 20), (530, 64, 96), (50, 600, 8), (33, 17, 40)):
        a, b = torch.randn(m, k), torch.randn(k, n)
        yield f"product {m} {k} {n}", with_gradient(torch.matmul, a, b)
    yield "batches", with_gradient(torch.matmul, torch.randn(9, 20, 30), torch.randn(9, 30, 25))
    yield "linear", with_gradient(F.linear, torch.randn(5, 40, 33), torch.randn(18, 33), torch.randn(18))
    attention = nn.MultiheadAttention(64, 2)
    yield (
        "attention",
        with_gradient(lambda x: attention(x, x, x, need_weights=False)[0], torch.randn(12, 4, 64)),
    )
    with torch.no_grad():
        x = torch.randn(12, 4, 64)
        yield "attention in evaluation", attention.eval()(x, x, x, need_weights=False)[0]
    for channels, out, kernel, stride, padding, dilation in (
        (3, 8, 3, 2, 1, 1),
        (16, 20, 3, 1, 2, 2),
        (24, 40, 1, 1, 0, 1),
        (3, 16, 8, 8, 0, 1),
    ):
        yield f"convolution {channels} {out} {kernel}", with_gradient(
            lambda x, w, b, s=stride, p=padding, d=dilation: F.conv2d(x, w, b, s, p, d),
            torch.randn(3, channels, 32, 40), torch.randn(out, channels, kernel, kernel), torch.randn(out),
        )  # fmt: skip


def sparse() -> Iterator[tuple[str, Any]]:
    cells = torch.arange(24**3)[torch.randperm(24**3)[:3000]]
    xyz = torch.stack([cells % 24, cells // 24 % 24, cells // 576], 1) - 12
    geometry = Geometry(torch.cat([torch.arange(3000)[:, None] % 2, xyz], 1).int())
    features = torch.randn(3000, 20)
    for out, kernel, stride in ((8, 3, 1), (33, 3, 1), (20, 2, 2), (40, 1, 1)):
        yield (
            f"convolution {out} {kernel}",
            with_gradient(
                lambda x, w, k=kernel, s=stride: geometry.convolve(x, w, 1, k, s),
                features,
                torch.randn(kernel**3, 20, out),
            ),
        )
    norm = nn.BatchNorm1d(20)
    normalised = with_gradient(
        lambda x, y: geometry.normalise(x, norm, y, relu=True), features, features.flip(0)
    )
    yield "batch norm", [*normalised, *norm.buffers(), norm.weight.grad, norm.bias.grad]
    yield "average", with_gradient(lambda x: geometry.average(x, 4), features)
    coarse = torch.randn(len(geometry.coordinates(4)), 20)
    yield "interpolate", with_gradient(lambda x: geometry.interpolate(x, 4), coarse)


def optimisers() -> Iterator[tuple[str, Any]]:
    for name, build in {
        "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.05),
        "fused adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.05, fused=True),
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4, dampening=0.1),
    }.items():
        parameters = [nn.Parameter(torch.randn(1001)), nn.Parameter(torch.randn(37, 5))]
        optimiser = build(parameters)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = parameter.detach() * 0.3 + torch.linspace(0, 1, parameter.numel()).view_as(
                    parameter
                )
            optimiser.step()
        yield name, parameters


def drawn() -> Iterator[tuple[str, Any]]:
    yield "uniform", [torch.rand(999), torch.empty(37, 5).uniform_(-2, 2)]
    yield "normal", [torch.randn(n) for n in (7, 16, 1000, 1003)]
    yield "truncated", nn.init.trunc_normal_(torch.empty(1003), std=0.02)
    yield "others", [torch.randperm(1003), torch.randint(0, 99, (1003,)), torch.empty(999).bernoulli_(0.3)]
    yield "exponential", [torch.empty(999).exponential_(), torch.multinomial(torch.rand(50), 20)]


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
