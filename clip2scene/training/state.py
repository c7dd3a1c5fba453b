"""State of a training run that is under way, from which a killed run continues.

It is written by time, and when the run is asked to stop. The state before the newest one is kept, and is used
where the newest is damaged: a SHA-256 stands at the head of the file and is checked when it is read. Random
streams have no state to save, as every step derives its own (`clip2scene.seeding`); nor has self-training,
which draws from the seed and the step.
"""

import hashlib
import io
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from clip2scene.errors import InputError
from clip2scene.files import atomic, first_line, naming, reading
from clip2scene.models.weights import keys, load_weights
from clip2scene.record import RunRecord

_HASH = hashlib.sha256().digest_size
_KINDS = {"steps": int, "module": dict, "optimiser": dict, "log_size": int}
_AGAIN = "remove the file, and the run starts again"


class State:
    """The state of a run on its disk; only the first process writes it.

    Args:
        fabric: Processes.
        run: The run.
        module: Module that is trained.
        optimiser: Its optimiser. The schedule of the learning rate is a function of the step.
        minutes: Time between two saved states.
    """

    def __init__(
        self, fabric: Fabric, run: RunRecord, module: nn.Module, optimiser: Optimizer, minutes: float
    ) -> None:
        self._fabric, self._run, self._module, self._optimiser = fabric, run, module, optimiser
        self._seconds, self._saved = 60 * minutes, time.monotonic()

    def refuse_full_disk(self) -> None:
        """Raise an InputError if the disk cannot hold what the run will write: three states, a checkpoint."""
        module = sum(value.nbytes for value in self._module.state_dict().values())
        trained = [each for group in self._optimiser.param_groups for each in group["params"]]
        momentum = sum(each.nbytes for each in trained if each.requires_grad)
        needed = 3 * (module + momentum) + module  # the newest, the one before, and one being written
        free = shutil.disk_usage(self._run.folder).free
        if free < needed:
            raise InputError(
                f"{self._run.folder}: its disk has {free / 2**20:.0f} MiB free; expected at least "
                f"{needed / 2**20:.0f} MiB, for the states and the checkpoint of the run"
            )

    def due(self) -> bool:
        """Say whether it is time to save."""
        return self._fabric.is_global_zero and time.monotonic() - self._saved >= self._seconds

    def save(self, steps: int) -> None:
        """Save the state after `steps` steps, whose log lines must be written.

        Raises:
            OSError: it cannot be written; it names the file. The states that were there stay.
        """
        values = {
            "steps": steps,
            "module": self._module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "log_size": self._run.log_size(),
        }
        write_state(self._run.resume, self._run.resume_before, values)
        self._saved = time.monotonic()

    def restore(self) -> int:
        """Restore the saved state, if there is one; returns the number of steps that it has behind it.

        Raises:
            InputError: a state that is whole does not fit the run.
        """
        path, values = self._newest()
        if values["steps"]:
            try:
                load_weights(self._module, values["module"], path)
                self._optimiser.load_state_dict(values["optimiser"])
            except InputError as error:
                raise InputError(f"{error} ({_AGAIN})") from None
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                reason = first_line(error)
                raise InputError(f"{path}: optimiser does not fit the run: {reason} ({_AGAIN})") from None
        if self._fabric.is_global_zero:
            self._run.rewind_log(values["log_size"])
        self._fabric.barrier()
        return values["steps"]

    def _newest(self) -> tuple[Path, dict[str, Any]]:
        """Return the newest state that is whole, or that of a run at its start."""
        damaged = []
        for path in (self._run.resume, self._run.resume_before):
            if not path.exists():
                continue
            try:
                values = read_state(path)
            except Damaged as error:
                damaged.append(str(error))
                continue
            self._tell(damaged, f"continuing after step {values['steps']}, from {path.name}")
            return path, values
        self._tell(damaged, "the run starts again")
        return self._run.resume, {"steps": 0, "log_size": 0}

    def _tell(self, damaged: list[str], then: str) -> None:
        if damaged and self._fabric.is_global_zero:
            print(f"warning: {'; '.join(damaged)}; {then}", file=sys.stderr, flush=True)


class Damaged(InputError):
    """Bytes that are not those that were written."""


def write_state(path: Path, before: Path, values: dict[str, Any]) -> None:
    """Write a state to `path`, whole or not at all; the one that was there becomes `before`.

    Raises:
        OSError: it cannot be written; it names `path`.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    with atomic(path) as temporary:
        with naming(path), temporary.open("wb") as file:
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
            file.write(buffer.getbuffer())
        if path.exists():
            path.replace(before)  # killed here, the run continues from `before`


def read_state(path: Path) -> dict[str, Any]:
    """Read a state that `write_state` wrote.

    Raises:
        Damaged: the file is not as it was written.
        InputError: the file cannot be read, or is no state.
    """
    with reading(path, "the state of a run"):
        content = memoryview(path.read_bytes())
    if len(content) <= _HASH or hashlib.sha256(content[_HASH:]).digest() != content[:_HASH]:
        raise Damaged(f"{path}: is damaged ({len(content)} bytes, whose SHA-256 is not the one at its head)")
    values = torch.load(io.BytesIO(content[_HASH:]), map_location="cpu", weights_only=True)
    for name, kind in _KINDS.items():
        value = values.get(name)
        if not isinstance(value, kind) or (kind is int and value < 0):
            raise InputError(f"{path}: found {keys(values)}; expected a run's state with {name} ({_AGAIN})")
    return values
