"""Conversion of published 3D networks to ours and back, tensor by tensor and offset by offset."""

from pathlib import Path

import pytest
import torch

from clip2scene.models.backbones import build_backbone
from clip2scene.models.published import Parts, from_published, to_published
from clip2scene.sparse import Geometry, SparseTensor

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints"
UNTRAINED = {"text_embeddings", "classifier"}  # modules that pre-training does not update
# network, input channels, method, the method's names of its heads, modules without a counterpart in ours
NETWORKS = [
    ("res16unet34c", 1, "slidr", {"linear"}, set()),
    ("res16unet34c", 1, "ppkt", {"linear"}, set()),
    ("res16unet34c", 1, "somebody's", set(), {"final"}),
    ("minkunet14a", 3, "clip2scene", {"semantic", "spatial_temporal"}, UNTRAINED),
    (
        "spvcnn",
        1,
        "clip2scene",
        {"semantic", "spatial_temporal"},
        UNTRAINED | {"point_mapping_global_random"},
    ),
]


def published(name: str) -> dict[str, torch.Tensor]:
    """Return a random state_dict with the names and shapes of the released class."""
    generator = torch.Generator().manual_seed(0)
    rows = (line.split("\t") for line in (GOLDEN / f"{name}.tsv").read_text().splitlines())
    sizes = {tensor: [int(edge) for edge in shape.split("x") if edge] for tensor, shape in rows}
    return {tensor: torch.rand(size, generator=generator) for tensor, size in sizes.items()}


@pytest.mark.parametrize(("name", "channels", "method", "heads", "rest"), NETWORKS)
def test_every_published_tensor_finds_its_place_and_comes_back(name, channels, method, heads, rest):
    weights, backbone = published(name), build_backbone(name, channels)
    parts = from_published(weights, backbone, method)
    assert {tensor: value.shape for tensor, value in parts.backbone.items()} == {
        tensor: value.shape for tensor, value in backbone.state_dict().items()
    }
    assert parts.heads.keys() == {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    assert {tensor.partition(".")[0] for tensor in parts.rest} == rest
    back = to_published(parts, type(backbone), method)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[tensor], weights[tensor]) for tensor in weights)
    # Both implementations define layers in data-flow order, so their tensors have the same order.
    trunk = to_published(Parts(parts.backbone, {}, {}), type(backbone), method)
    assert list(trunk) == [tensor for tensor in weights if tensor in trunk]


def test_heads_are_the_linear_maps_that_they_were():
    weights = published("minkunet14a")
    parts = from_published(weights, build_backbone("minkunet14a", 3), "clip2scene")
    features = torch.rand(5, 96)
    for ours, theirs in (("semantic", "final"), ("spatial_temporal", "local_feature")):
        expected = (
            features @ weights[f"{theirs}.kernel"] + weights[f"{theirs}.bias"]
        )  # ME: features.mm(kernel)
        linear = parts.heads[f"{ours}.weight"], parts.heads[f"{ours}.bias"]
        torch.testing.assert_close(torch.nn.functional.linear(features, *linear), expected)


# The offset of each matrix of a kernel, in the order of the engines.
TORCHSPARSE_2 = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
MINKOWSKI_2 = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
BOTH_3 = [(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
LAYERS = [
    ("spvcnn", "stage1.0.net.0.kernel", "down.0.conv.0", TORCHSPARSE_2),
    ("spvcnn", "up4.0.net.0.kernel", "up.3.conv.0", TORCHSPARSE_2),
    ("spvcnn", "stem.3.kernel", "stem.1.0", BOTH_3),
    ("minkunet14a", "conv1p1s2.kernel", "down.0.conv.0", MINKOWSKI_2),
    ("minkunet14a", "convtr7p2s2.kernel", "up.3.conv.0", MINKOWSKI_2),
    ("minkunet14a", "block1.0.conv1.kernel", "down.0.blocks.0.conv1", BOTH_3),
]


@pytest.mark.parametrize(("name", "theirs", "ours", "offsets"), LAYERS)
def test_a_kernel_meets_the_offsets_that_it_met(name, theirs, ours, offsets):
    """Give offset (x, y, z) the weight 100 x + 10 y + z + 200, so that an output value reveals its offset."""
    network = build_backbone(name, 1, width=0.125)
    weights = to_published(Parts(network.state_dict(), {}, {}), type(network), "")
    weights[theirs] = torch.zeros_like(weights[theirs])
    for matrix, (x, y, z) in zip(weights[theirs], offsets, strict=True):
        matrix[0, 0] = 100 * x + 10 * y + z + 200
    network.load_state_dict(from_published(weights, network, "").backbone)
    layer = network.get_submodule(ours)

    voxel = torch.tensor([[0, -4, 2, 6]])
    neighbours = torch.tensor([(0, *offset) for offset in offsets])
    geometry = Geometry((voxel + neighbours).int())
    inputs = geometry.coordinates(2 if layer.transposed else 1)
    for place in range(len(inputs)):
        features = torch.zeros(len(inputs), layer.kernel.shape[1])
        features[place, 0] = 1
        result = layer(SparseTensor(features, geometry, 2 if layer.transposed else 1))
        outputs = geometry.coordinates(result.stride)
        # Convolution: output o reads input o + offset. Transposed, the same pairs run from o to o + offset.
        sign = -1 if layer.transposed else 1
        for output, value in zip(outputs, result.features[:, 0].tolist(), strict=True):
            _, x, y, z = (sign * (inputs[place] - output)).tolist()
            assert value == (100 * x + 10 * y + z + 200 if (x, y, z) in offsets else 0)
