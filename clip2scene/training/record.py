"""What a run leaves behind: a folder of files, which are the truth; MLflow mirrors them. Imports no torch.

``run.json``       what was run, from what, by which code, where and when; its status
``metrics.jsonl``  a line a logged step
``metrics.json``   final numbers; present only when the run is finished
``checkpoint.pt``  weights that other runs start from
``resume.pt``      where a killed run continues; gone when the run is finished
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.experiments import digest
from clip2scene.files import read_json, sha256, write_json
from clip2scene.provenance import commit, versions


@dataclass(frozen=True)
class RunRecord:
    """A run and its folder.

    Attributes:
        folder: ``results/runs/<key>``; nothing else is kept in it.
        kind: Which stage, e.g. ``pretrain``.
        parameters: What identifies the run, flat.
        seed: The run's seed.
        inputs: SHA-256 of each file that the run reads, by path.
        code: Hash of the source that the stage uses (`clip2scene.provenance.code_hash`).
    """

    folder: Path
    kind: str
    parameters: dict[str, Any]
    seed: int
    inputs: dict[str, str]
    code: str

    @classmethod
    def of(
        cls, folder: Path, kind: str, parameters: dict[str, Any], seed: int, inputs: Iterable[Path], code: str
    ) -> Self:
        """A run that reads the files `inputs`.

        Raises:
            InputError: one of them does not exist.
        """
        hashes = {}
        for path in inputs:
            if not path.is_file():
                raise InputError(f"{path}: no such file; the {kind} run {folder.name} reads it")
            hashes[str(path)] = sha256(path)
        return cls(folder, kind, parameters, seed, hashes, code)

    @property
    def key(self) -> str:
        """The run's key: its folder's name."""
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        """Weights that other runs start from."""
        return self.folder / "checkpoint.pt"

    @property
    def resume(self) -> Path:
        """Where a killed run continues."""
        return self.folder / "resume.pt"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the result: parameters, seed, source, content of the files read."""
        identity = (self.kind, self.parameters, self.seed, self.code, sorted(self.inputs.values()))
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def finished(self) -> bool:
        """Whether this very run, by its fingerprint, has left its final numbers."""
        path = self.folder / "metrics.json"
        return path.exists() and read_json(path).get("fingerprint") == self.fingerprint

    def begin(self, config: Config, device: str) -> None:
        """Start the run, or continue it where it was killed; what another fingerprint left is removed."""
        path = self.folder / "run.json"
        if not path.exists() or read_json(path)["fingerprint"] != self.fingerprint:
            shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "metrics.json").unlink(missing_ok=True)
        values = {
            "key": self.key,
            "kind": self.kind,
            "status": "running",
            "fingerprint": self.fingerprint,
            "config": digest(config.model_dump(mode="json")),
            "parameters": self.parameters,
            "seed": self.seed,
            "inputs": self.inputs,
            "code": self.code,
            **commit(),
            "device": device,
            "machine": platform.machine(),
            "threads": config.threads,
            "started": _now(),
            "ended": None,
            "packages": versions(),
        }
        write_json(path, values)

    def log(self, values: dict[str, float]) -> None:
        """Append a line to ``metrics.jsonl``."""
        with self._log.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def logged(self) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl``."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def log_size(self) -> int:
        """Bytes logged so far, for `rewind_log`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def rewind_log(self, size: int) -> None:
        """Forget what was logged after the log had `size` bytes: steps that a resumed run takes again."""
        if self._log.exists():
            os.truncate(self._log, size)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the final numbers, which marks the run as finished.

        Args:
            metrics: JSON values. Times and memory go under ``cost``, which tables do not read: everything
                else is the same for the same fingerprint.
        """
        description = read_json(self.folder / "run.json")
        write_json(self.folder / "run.json", description | {"status": "finished", "ended": _now()})
        identity = {"key": self.key, "fingerprint": self.fingerprint, "config": description["config"]}
        write_json(self.folder / "metrics.json", identity | metrics)
        self.resume.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self.folder / "metrics.jsonl"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
