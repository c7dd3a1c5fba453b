"""3D networks: their size, and properties that hold for any weights."""

import sys

import pytest
import torch

from clip2scene.errors import InputError
from clip2scene.models.backbones import build_backbone


def street(seed: int = 0, clouds: int = 2, n: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Return voxels [V, 4] int32 of a ground and a wall per cloud, and features [V, 1] float32."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.randint(-24, 24, (n, 2), generator=generator)
    up = torch.randint(-1, 1, (n, 1), generator=generator)
    ground, wall = torch.cat([plane, up - 4], 1), torch.cat([plane[:, :1], up + 12, plane[:, 1:] // 2], 1)
    cloud = torch.randint(0, clouds, (2 * n, 1), generator=generator)
    voxels = torch.unique(torch.cat([cloud, torch.cat([ground, wall])], 1), dim=0)
    voxels = voxels[torch.randperm(len(voxels), generator=generator)].int()
    return voxels, torch.rand(len(voxels), 1, generator=generator)


@pytest.mark.parametrize(
    ("name", "in_channels", "parameters", "out_channels"),
    [
        ("res16unet34c", 1, 37_842_976, 96),  # ../shared/reference/paper.md, section 6
        ("minkunet14a", 3, 8_013_152, 96),
        ("spvcnn", 1, 21_718_880 + 54_688, 480),
    ],
)
def test_parameters_are_as_many_as_the_published_networks_have(name, in_channels, parameters, out_channels):
    network = build_backbone(name, in_channels, width=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.out_channels == out_channels


@pytest.mark.parametrize("name", ["spvcnn", "minkunet14a", "res16unet34c"])
def test_the_order_of_the_voxels_changes_nothing(name):
    torch.manual_seed(0)
    network = build_backbone(name, 1, width=0.25)
    coordinates, features = street()
    result = network(coordinates, features)
    assert result.shape == (len(coordinates), network.out_channels)
    order = torch.randperm(len(coordinates))
    assert torch.equal(network(coordinates[order], features[order]), result[order])


@pytest.mark.parametrize("name", ["spvcnn", "minkunet14a", "res16unet34c"])
def test_moving_a_cloud_by_the_coarsest_stride_changes_nothing(name):
    torch.manual_seed(0)
    network = build_backbone(name, 1, width=0.25)
    coordinates, features = street(clouds=1)
    moved = coordinates + torch.tensor([0, -32, 16, 48], dtype=torch.int32)
    torch.testing.assert_close(network(moved, features), network(coordinates, features))


@pytest.mark.parametrize("name", ["spvcnn", "minkunet14a", "res16unet34c"])
def test_clouds_do_not_see_each_other_in_evaluation(name):
    torch.manual_seed(0)
    network = build_backbone(name, 1, width=0.25).eval()
    coordinates, features = street(clouds=2)
    first = coordinates[:, 0] == 0
    alone = network(coordinates[first], features[first])
    torch.testing.assert_close(network(coordinates, features)[first], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["spvcnn", "minkunet14a", "res16unet34c"])
def test_training_fits_and_repeats_bit_for_bit(name):
    coordinates, features = street()
    target = (coordinates[:, 3] > 0).long() + 2 * (coordinates[:, 1] > 0).long()

    def train(steps):
        torch.manual_seed(0)
        network = build_backbone(name, 1, width=0.125)
        head = torch.nn.Linear(network.out_channels, 4)
        parameters = [*network.parameters(), *head.parameters()]
        optimiser = torch.optim.Adam(parameters, 0.01)
        losses = []
        for _ in range(steps):
            loss = torch.nn.functional.cross_entropy(head(network(coordinates, features)), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert all(parameter.grad is not None for parameter in parameters)
        return losses, parameters

    losses, weights = train(10)
    assert losses[-1] < 0.5 * losses[0]
    again, repeated = train(10)
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(weights, repeated, strict=True))


@pytest.mark.parametrize("name", ["spvcnn", "minkunet14a", "res16unet34c"])
def test_bf16_autocast_stays_near_float32(name):
    torch.manual_seed(0)
    network = build_backbone(name, 1, width=0.25)
    coordinates, features = street()
    exact = network(coordinates, features)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(coordinates, features)
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < 0.1 * exact.norm()
    rounded.float().square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_width_scales_every_layer():
    network = build_backbone("spvcnn", 1, width=0.25)
    assert network.out_channels == 120
    widths = {module.num_features for module in network.modules() if hasattr(module, "num_features")}
    assert widths == {8, 16, 24, 32, 64}
    assert build_backbone("res16unet34c", 1, width=0.01).out_channels == 4


def test_wrong_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="'SPVCN' is not known, did you mean 'spvcnn'"):
        build_backbone("SPVCN", 1, 1)
    with pytest.raises(InputError, match="did you mean 'native'"):
        build_backbone("spvcnn", 1, 1, backend="nativ")


def test_a_backend_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)  # simulates a missing package
    monkeypatch.delitem(sys.modules, "clip2scene.sparse.minkowski", raising=False)
    with pytest.raises(InputError, match=r"MinkowskiEngine is not installed.*clip2scene\[minkowski\]"):
        build_backbone("spvcnn", 1, 1, backend="minkowski")


def test_an_empty_cloud_is_refused():
    with pytest.raises(InputError, match="empty"):
        build_backbone("spvcnn", 1, 0.25)(torch.empty(0, 4, dtype=torch.int32), torch.empty(0, 1))
