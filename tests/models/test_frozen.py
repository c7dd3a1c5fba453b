import torch
from torch import nn

from clip2scene.models.frozen import Frozen


def test_a_frozen_network_moves_with_its_owner_and_is_otherwise_no_part_of_it():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    owner = nn.Sequential(nn.Linear(2, 2), Frozen(network)).train().to(torch.float64)
    assert network[0].weight.dtype == torch.float64
    assert not network.training
    assert list(owner.state_dict()) == ["0.weight", "0.bias"]
    assert len(list(owner.parameters())) == 2
    assert not owner[1](torch.ones(3, 2, dtype=torch.float64, requires_grad=True)).requires_grad
