"""Weights are loaded as a whole or not at all, and every refusal names the tensor."""

import pytest
import torch
from torch import nn

from clip2scene.errors import InputError
from clip2scene.models.backbones import build_backbone
from clip2scene.models.weights import load_published, load_weights, read_checkpoint, write_checkpoint


def layers() -> nn.Sequential:
    """Return a small network with 7 tensors, one of which counts batches."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dict of other values."""
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value + 5
        for name, value in network.state_dict().items()
    }


def copy_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_weights_are_loaded_as_they_are():
    network, source = layers(), layers()
    nn.init.normal_(source[1].running_mean)
    load_weights(network, source.state_dict(), "here")
    assert same(network.state_dict(), source.state_dict())


def test_counters_of_batch_norm_may_be_missing():
    """Networks saved by old versions of torch have none, and nothing reads them."""
    network = layers()
    weights = {name: value for name, value in weights_of(network).items() if "num_batches" not in name}
    load_weights(network, weights, "here")
    assert torch.equal(network[1].running_var, weights["1.running_var"])


def without(*names):
    return lambda weights: {name: value for name, value in weights.items() if name not in names}


def replaced(name, change):
    return lambda weights: weights | {name: change(weights[name])}


def poisoned(value):
    def poison(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return poison


REFUSED = [
    (without("1.running_mean"), r"here: lacks 1\.running_mean; expected the model's 7 tensors"),
    (without("0.weight", "0.bias"), r"here: lacks 0\.weight, 0\.bias"),
    (lambda weights: weights | {"head.bias": torch.rand(2)}, r"here: holds, .* head\.bias; expected"),
    (replaced("0.weight", torch.t), r"here: 0\.weight has the shape \[3, 4\]; expected \[4, 3\]"),
    (replaced("1.bias", lambda value: value[0]), r"here: 1\.bias has the shape \[\]; expected \[4\]"),
    (
        replaced("1.running_var", poisoned(float("nan"))),
        r"here: 1\.running_var holds values that are not",
    ),
    (replaced("0.bias", poisoned(float("-inf"))), r"here: 0\.bias holds values that are not finite"),
    (lambda weights: {}, r"here: lacks 0\.weight"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(change, message):
    network = layers()
    before = copy_of(network)
    with pytest.raises(InputError, match=message):
        load_weights(network, change(weights_of(network)), "here")
    assert same(network.state_dict(), before)


def test_of_many_names_the_first_few_are_listed():
    with pytest.raises(InputError) as error:
        load_weights(nn.ModuleList(layers() for _ in range(4)), {}, "here")
    assert str(error.value).startswith("here: lacks 0.0.weight, 0.0.bias, 0.1.weight")
    assert "and 16 more; expected the model's 28 tensors" in str(error.value)  # 24 without the counters


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    """Return a 3D network of 130 tensors, the least wide there is."""
    return build_backbone("minkunet14a", 1, width=0.01)


def test_a_published_network_may_lack_a_few_tensors(backbone):
    names = list(backbone.state_dict())
    lacking = names[-(len(names) // 20) :]  # the most that leaves 95 %
    before, weights = copy_of(backbone), without(*lacking)(weights_of(backbone))
    weights["classifier.weight"] = torch.rand(3)  # of no counterpart: left alone
    assert load_published(backbone, weights, "here") == lacking
    after = backbone.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in lacking)
    assert all(torch.equal(after[name], weights[name]) for name in names if name not in lacking)


def published(change, backbone):
    before, weights = copy_of(backbone), change(weights_of(backbone))
    with pytest.raises(InputError) as error:
        load_published(backbone, weights, "here")
    assert same(backbone.state_dict(), before)
    return str(error.value)


def test_a_published_network_that_lacks_more_is_refused(backbone):
    names = list(backbone.state_dict())
    few = len(names) // 20 + 1
    message = published(without(*names[-few:]), backbone)
    assert f"holds {len(names) - few} of the model's {len(names)} tensors, expected at least 95%" in message
    assert f"missing: {names[-few]}" in message


def test_the_first_layer_of_a_published_network_must_be_there(backbone):
    """One tensor of 130: without this rule it would be taken, and see random features."""
    first = next(iter(backbone.state_dict()))
    message = published(without(first), backbone)
    assert message == f"here: lacks {first}, the first layer, which would start at random"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value[:-1], "has the shape"),
        (poisoned(float("nan")), "holds values that are not finite"),
    ],
)
@pytest.mark.parametrize("place", [0, -2])
def test_a_tensor_of_a_published_network_that_does_not_fit_is_named(backbone, place, change, message):
    name = [name for name in backbone.state_dict() if "num_batches" not in name][place]
    assert published(replaced(name, change), backbone).startswith(f"here: {name} {message}")


def test_equal_checkpoints_make_equal_bytes(tmp_path):
    for name in ("a.pt", "another name.pt"):
        write_checkpoint(tmp_path / name, {"weights": torch.arange(3)})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another name.pt").read_bytes()
    assert torch.equal(read_checkpoint(tmp_path / "a.pt")["weights"], torch.arange(3))
