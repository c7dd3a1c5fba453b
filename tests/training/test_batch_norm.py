"""Batch norm over two processes against one process that has the features of both."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torch import distributed, nn

from clip2scene.training.batch_norm import SyncBatchNorm1d, synchronise

PARTS = (0, 5, 12)  # rows of the two processes


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.05), nn.ReLU(), nn.Linear(4, 2))


def rows():
    return 3 + 2 * torch.randn(12, 3, generator=torch.Generator().manual_seed(1))


def step(module, x):
    """Return outputs, gradients and state after a pass; the loss is the sum of the squared outputs."""
    out = module(x)
    out.square().sum().backward()
    return out.detach(), [p.grad for p in module.parameters()], module.state_dict()


def work(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    module = network()
    names = list(module.state_dict())
    parameters = list(module.parameters())
    synchronise(module)
    assert isinstance(module[1], SyncBatchNorm1d)
    assert list(module.state_dict()) == names
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    torch.save(step(module, rows()[PARTS[rank] : PARTS[rank + 1]]), f"{folder}/{rank}.pt")
    assert torch.equal(module.eval()(rows()), module(rows()))
    distributed.destroy_process_group()


def test_two_processes_normalise_and_learn_as_one(tmp_path):
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path]) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    out, gradients, state = step(network(), rows())
    torch.testing.assert_close(torch.cat([part[0] for part in results]), out, atol=1e-5, rtol=1e-5)
    summed = [a + b for a, b in zip(results[0][1], results[1][1], strict=True)]
    for found, expected in zip(summed, gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for _, _, found in results:
        for name, value in state.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_one_process_keeps_its_layers():
    module = network()
    synchronise(module)
    assert type(module[1]) is nn.BatchNorm1d


def test_statistics_of_processes_apart_would_differ():
    """Guard of the first test: normalised by themselves, the two parts give something else."""
    alone = torch.cat([network()(rows()[a:b]) for a, b in pairwise(PARTS)])
    assert (alone - network()(rows())).abs().max() > 0.05
    with pytest.raises(ValueError, match="more than 1 value"):
        network()(rows()[:1])


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
