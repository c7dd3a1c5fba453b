"""A training step rarely waits for the device: operators that do are counted, by the file that calls them.

A GPU runs behind the host until something must be known there: a number (``item``), or the size of a result
that depends on values (``nonzero``, ``unique``, a boolean index). They are counted on the CPU, where each
operator is seen, and so are calls that bring a tensor to the host; kernels of the CPU's own are left out.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import clip2scene
from clip2scene.method.base import Progress

ROOT = Path(clip2scene.__file__).parents[1]
WAIT = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive",
    "bincount", "repeat_interleave", "equal",
}  # fmt: skip
READS = ("tolist", "cpu", "numpy")
KERNELS = ("/sparse/fetch_on_demand.py", "/sparse/search.py", "/portable/")
MOST = {
    "clip2scene": {"method": 3, "sparse": 38},
    "ppkt": {"baselines": 0, "sparse": 38},
    "slidr": {"baselines": 4, "sparse": 40},
    "finetune": {"training": 2, "sparse": 38},
}
"""Times that a step of each method waits, at most, by package."""


class Waits(TorchDispatchMode):
    """Counts operators that wait for the device, by the project's file that calls them."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        mask = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in WAIT or mask:
            self.note(name)
        return operator(*args, **(kwargs or {}))

    def noting(self, name):
        method = getattr(torch.Tensor, name)
        return lambda *args, **kwargs: (self.note(name), method(*args, **kwargs))[1]

    def note(self, name):
        frame = sys._getframe()
        while frame and not self._ours(frame.f_code.co_filename):
            frame = frame.f_back
        where = frame.f_code.co_filename if frame else "?"
        if not any(kernel in where for kernel in KERNELS):
            self.count[str(Path(where).relative_to(ROOT)), frame.f_lineno, name] += 1

    @staticmethod
    def _ours(file):
        return file.startswith(str(ROOT)) and "/.venv/" not in file and file != __file__

    def of(self, package):
        return sum(n for (file, *_), n in self.count.items() if f"{package}/" in f"{file}/")


@pytest.mark.parametrize("name", MOST)
def test_a_step_waits_for_the_device_a_few_times(name, build_method, make_batch):
    module, batch = build_method(name).train(), make_batch()
    batch.labels = batch.inverse % 5
    with Waits() as waits, pytest.MonkeyPatch.context() as patch:
        for read in READS:  # of a tensor that is on the CPU, no operator is called
            patch.setattr(torch.Tensor, read, waits.noting(read))
        sum(module.training_step(batch, Progress(0, 2, 0, 0)).values()).backward()
    found = {package: waits.of(package) for package in MOST[name]}
    listed = "\n".join(map(str, sorted(waits.count.items())))
    assert all(found[package] <= most for package, most in MOST[name].items()), listed
    assert sum(found.values()) == sum(waits.count.values()), listed  # nothing waits elsewhere
