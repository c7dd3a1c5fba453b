"""Helpers to run official code unchanged from a checkout, on a CPU, without its unused dependencies."""

import argparse
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from deterministic import weight
from torch import nn

HERE = Path(__file__).parent


def arguments(description: str, **commits: str) -> list[Path]:
    """Parse the checkouts given on the command line, check their commits, and add them to the import path.

    `torch.load` and `Tensor.cuda` are patched to stay on the CPU.

    Args:
        description: Description of the script.
        commits: Expected commit of each repository.

    Returns:
        Paths of the checkouts, in the order of `commits`.
    """
    parser = argparse.ArgumentParser(description=description)
    for repository, commit in commits.items():
        parser.add_argument(repository, type=Path, help=f"checkout at {commit}")
    given = {name: path.resolve() for name, path in vars(parser.parse_args()).items()}
    for repository, commit in commits.items():
        git = ["git", "-C", given[repository], "rev-parse", "HEAD"]
        found = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
        if not found.startswith(commit):
            parser.error(f"{given[repository]}: expected commit {commit}, found {found}")
        sys.path.insert(0, str(given[repository]))
    torch.load = _to_cpu(torch.load)
    torch.Tensor.cuda = lambda self: self
    return list(given.values())


def _to_cpu(load: Any) -> Any:
    return lambda path, map_location=None: load(path, map_location="cpu")


def stand_in(name: str, **attributes: Any) -> None:
    """Replace a module that the official code imports, but that has no part in the numbers, by a stand-in.

    Attributes that are not given are empty classes.
    """
    module = _StandIn(name)
    module.__path__ = []
    vars(module).update(attributes)
    sys.modules[name] = module


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def bare_package(name: str, folder: Path) -> None:
    """Make modules of a package importable without running its ``__init__``, which imports all of them."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def fill(module: nn.Module, without: str | tuple[str, ...] = ()) -> None:
    """Set every floating-point tensor of a module to the `weight` of its name.

    Args:
        module: Module, changed in place.
        without: Name prefixes of tensors that keep their values.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not name.startswith(without):
            tensor.copy_(weight(name, tensor.shape))


def describe(network: nn.Module, heads: tuple[str, ...]) -> dict[str, Any]:
    """Return the tensor names of a network's trunk, and the numbers of parameters of network and trunk.

    Args:
        network: Network with its heads.
        heads: Name prefixes of the tensors outside the trunk.
    """
    trunk = [name for name in network.state_dict() if not name.startswith(heads)]
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return {
        "names": np.array(trunk),
        "parameters": sum(sizes.values()),
        "parameters_trunk": sum(sizes.get(name, 0) for name in trunk),
    }


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the concatenated running means and variances of all batch norms."""
    state = network.state_dict()
    kinds = ("running_mean", "running_var")
    return {kind: torch.cat([v for name, v in state.items() if name.endswith(kind)]) for kind in kinds}


def save(name: str, **arrays: Any) -> None:
    """Write arrays next to this file and print a summary; tensors are rounded to float32, arrays are not."""
    path = HERE / f"{name}.npz"
    values = {
        key: value.detach().float().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        for key, value in arrays.items()
    }
    np.savez_compressed(path, **values)
    print(f"{path}: {path.stat().st_size} bytes")
    for key, value in values.items():
        spread = "" if value.dtype.kind == "U" else f": {value.mean():.6g} +- {value.std():.6g}"
        print(f"  {key} {value.dtype} {list(value.shape)}{spread}")
