"""3D networks at full width compared with the official implementations (tests/golden/README.md)."""

from copy import deepcopy

import pytest
import torch
from deterministic import difference, draw, golden, street, weight

from clip2scene.config import parse_config
from clip2scene.method.base import Resources
from clip2scene.method.clip2scene import Clip2Scene
from clip2scene.models.backbones import build_backbone

CONFIG = parse_config({"datasets": {"any": {"root": "data"}}}, "test")
COORDINATES = street(clouds=2, n=500)


def spvcnn():
    """Return SPVCNN, its input, number of classes, and scored linear map (weight, bias), all in float32."""
    features = draw("features", len(COORDINATES), 1)
    mapping = weight("point_mapping_global.weight", (512, 480)), weight("point_mapping_global.bias", (512,))
    return build_backbone("spvcnn", 1), features, 16, mapping


def minkunet14a():
    """Return the same for MinkUNet14A, in float64."""
    features = draw("colours", len(COORDINATES), 3).double()
    mapping = weight("final.kernel", (96, 512)).T, weight("final.bias", (1, 512))[0]
    return build_backbone("minkunet14a", 3).double(), features, 20, mapping


# float32: rounding of some 40 layers. float64: rounding of the stored official numbers.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-6}
PARAMETERS = {"spvcnn": 22_543_168, "minkunet14a": 8_162_144}  # ../shared/reference/paper.md, section 6


def load_official(network, names, even_kernels_z_fastest):
    """Load the weights of the official network, whose tensors have other names but the same order.

    Args:
        network: Network, changed in place.
        names: Official tensor names.
        even_kernels_z_fastest: True if offsets of kernel size 2 are ordered with z fastest, as in torchsparse
            1.4.0. MinkowskiEngine and our engine order x fastest; for kernel size 3, all three do.
    """
    for (name, tensor), official in zip(network.state_dict().items(), names, strict=True):
        assert name.rpartition(".")[2] == official.rpartition(".")[2]
        if tensor.is_floating_point():
            value = weight(official, tensor.shape)
            if even_kernels_z_fastest and name.endswith("kernel") and len(value) == 8:
                value = value.unflatten(0, (2, 2, 2)).transpose(0, 2).flatten(0, 2)
            tensor.copy_(value)


@pytest.fixture(scope="module", params=[spvcnn, minkunet14a])
def case(request, tmp_path_factory):
    """Return a network's name, the network, its input, its method, the official numbers and a tolerance."""
    name = request.param.__name__
    network, features, classes, mapping = request.param()
    official = golden(name)
    load_official(network, official["names"], even_kernels_z_fastest=name == "spvcnn")
    text = {"prompts": [""] * classes, "embeddings": weight("text", (classes, 512))}
    path = tmp_path_factory.mktemp("text") / "text.pt"
    torch.save(text, path)
    method = Clip2Scene(CONFIG, "released", network, Resources(text=path))
    method.semantic.weight.data, method.semantic.bias.data = (part.to(features.dtype) for part in mapping)
    return name, network, features, method, official, TOLERANCES[features.dtype]


def test_parameters(case):
    """Count the parameters of the trunk alone and with heads.

    Heads are the maps into CLIP's space (the official SPVCNN has one more) and a classifier.
    """
    name, network, _, method, official, _ = case
    trunk = sum(parameter.numel() for parameter in network.parameters())
    heads = {"spvcnn": (3, 480 * 64 + 64), "minkunet14a": (2, 96 * 512 + 512)}[name]
    mapping = sum(parameter.numel() for parameter in method.semantic.parameters())
    assert trunk == official["parameters_trunk"]
    assert trunk + heads[0] * mapping + heads[1] == official["parameters"] == PARAMETERS[name]


@torch.no_grad()
def test_evaluation(case):
    _, network, features, method, official, tolerance = case
    result = network.eval()(COORDINATES, features)
    assert difference(result[::50], official["evaluated"]) < tolerance
    scores = method.classify(result, method.text)
    assert not official["scores"][:, 0].any()  # the ignored class; ours has no column for it
    # scores are computed from float32 features
    assert difference(scores[::5], official["scores"][:, 1:]) < max(tolerance, 1e-5)


def test_training(case):
    """Compare features in training mode, running batch norm statistics, and gradients where recorded."""
    _, network, features, _, official, tolerance = case
    network, features = deepcopy(network).train(), features.clone().requires_grad_()
    result = network(COORDINATES, features)
    assert difference(result[::50], official["trained"]) < tolerance
    for kind in ("running_mean", "running_var"):
        moved = torch.cat([tensor for name, tensor in network.state_dict().items() if name.endswith(kind)])
        assert difference(moved, official[kind]) < tolerance
    if "gradient" in official:
        (result * draw("upstream", *result.shape)).sum().backward()
        assert difference(features.grad, official["gradient"]) < tolerance
        norms = torch.stack([parameter.grad.norm() for parameter in network.parameters()])
        assert difference(norms / official["gradient_norms"], torch.ones(len(norms))) < tolerance
