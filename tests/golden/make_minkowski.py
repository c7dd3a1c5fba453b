"""Compute MinkowskiEngine 0.5.4's operators and valeoai/SLidR's Res16UNet34C, forward and backward.

python tests/golden/make_minkowski.py SLIDR
"""

import minkowski_cases as cases
import numpy as np
import torch
from deterministic import draw
from official import arguments, bare_package, fill, save

from clip2scene.sparse.minkowski import ME  # MinkowskiEngine, patched for current Python

(root,) = arguments(__doc__, slidr="14729d0")
bare_package("model", root / "model")
assert ME.__version__ == "0.5.4"

from model.res16unet import Res16UNet34C  # noqa: E402


def sorted_rows(coordinates: torch.Tensor) -> torch.Tensor:
    """Return the order [V] that sorts coordinates [V, 4] by cloud, z, y, x."""
    cloud, x, y, z = coordinates.numpy().T
    return torch.from_numpy(np.lexsort((x, y, z, cloud)))


def at_stride(stride: int, channels: int, *kind: object) -> tuple[ME.SparseTensor, torch.Tensor]:
    """Return a sparse tensor at a stride, and its features [V, channels] in sorted order."""
    origin = ME.SparseTensor(torch.zeros(len(voxels), 1), voxels)
    manager, key = origin.coordinate_manager, origin.coordinate_map_key
    for _ in range(stride.bit_length() - 1):
        key = manager.stride(key, 2)
    order = sorted_rows(manager.get_coordinates(key))
    features = cases.case(*kind, rows=len(order), channels=channels).requires_grad_()
    tensor = ME.SparseTensor(features[order.argsort()], coordinate_map_key=key, coordinate_manager=manager)
    return tensor, features


def record(name: str, result: torch.Tensor, *variables: torch.Tensor) -> None:
    """Record a sorted result [V, C], and its gradients for the upstream values of `name`."""
    upstream = cases.case(name, "upstream", rows=len(result), channels=result.shape[1])
    gradients = torch.autograd.grad(result, variables, upstream)
    numbers[name] = result
    numbers.update({f"{name}_gradient{i}": gradient for i, gradient in enumerate(gradients)})


def exact(numbers: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Convert the numbers to arrays, which `save` does not round."""
    return {name: value.detach().numpy() for name, value in numbers.items()}


numbers: dict[str, torch.Tensor] = {}
voxels = cases.block()
for kind in cases.CONVOLUTIONS:
    kernel_size, stride, dilation, transposed = kind
    layer = ME.MinkowskiConvolutionTranspose if transposed else ME.MinkowskiConvolution
    layer = layer(2, 3, kernel_size=kernel_size, stride=stride, dilation=dilation, dimension=3).double()
    weight = cases.kernel(*kind, kernel_size=kernel_size)
    layer.kernel.data.copy_(weight.view_as(layer.kernel))
    tensor, features = at_stride(stride if transposed else 1, cases.IN_CHANNELS, *kind)
    output = layer(tensor)
    record(cases.name(*kind), output.F[sorted_rows(output.C)], features, layer.kernel)

tensor, features = at_stride(1, 3, "norm")
norm = ME.MinkowskiBatchNorm(3).double()
record("norm", norm(tensor).F[sorted_rows(tensor.C)], features, norm.bn.weight, norm.bn.bias)
numbers |= {"norm_mean": norm.bn.running_mean, "norm_variance": norm.bn.running_var}

for stride in cases.POOLINGS:
    tensor, features = at_stride(1, 3, "average", stride)
    output = ME.MinkowskiAvgPooling(kernel_size=stride, stride=stride, dimension=3)(tensor)
    record(f"average{stride}", output.F[sorted_rows(output.C)], features)
    tensor, features = at_stride(stride, 3, "interpolate", stride)
    points = voxels[sorted_rows(voxels)].double()
    record(f"interpolate{stride}", ME.MinkowskiInterpolation()(tensor, points), features)
    ones = ME.SparseTensor(
        torch.ones(len(features), 1).double(),
        coordinate_map_key=tensor.coordinate_map_key,
        coordinate_manager=tensor.coordinate_manager,
    )
    numbers[f"share{stride}"] = ME.MinkowskiInterpolation()(ones, points)

quantised, _, inverse = ME.utils.sparse_quantize(
    cases.POINTS, return_index=True, return_inverse=True, quantization_size=0.1
)
numbers["quantised"] = quantised[inverse]
numbers["quantised_count"] = torch.tensor(len(quantised))
save("minkowski_operators", **exact(numbers))

voxels = cases.streets()
features = draw("features", len(voxels), cases.NETWORK_CHANNELS).double().requires_grad_()
config = {"normalize_features": False, "bn_momentum": 0.05, "kernel_size": 3}
network = Res16UNet34C(cases.NETWORK_CHANNELS, 64, config)
with torch.no_grad():
    fill(network)
network.double()
kept = {}
network.final.register_forward_hook(lambda _, inputs, output: kept.update(tensor=inputs[0]))


def trunk(training: bool) -> torch.Tensor:
    """Return the input [V, 96] of the last layer, in the order of the voxels."""
    network.train(training)
    network(ME.SparseTensor(features, voxels))
    theirs = kept["tensor"]
    rows = torch.empty(len(voxels), dtype=torch.int64)
    rows[sorted_rows(voxels)] = sorted_rows(theirs.C)
    return theirs.F[rows]


with torch.no_grad():
    evaluated = trunk(training=False)
trained = trunk(training=True)
(trained * draw("upstream", *trained.shape)).sum().backward()
state = {name: value for name, value in network.state_dict().items() if not name.startswith("final")}
weights = {name: value for name, value in network.named_parameters() if not name.startswith("final")}
numbers = {
    "parameters": torch.tensor(sum(weight.numel() for weight in weights.values())),
    "evaluated": evaluated[::20],
    "trained": trained[::20],
    "gradient": features.grad,
    "gradients": torch.stack([cases.fingerprint(name, weight.grad) for name, weight in weights.items()]),
    "statistics": torch.stack([value.mean() for name, value in state.items() if "running" in name]),
}
save("res16unet34c", names=list(state), **exact(numbers))
