"""The files that a run leaves behind, which are the truth; MLflow mirrors them. Imports no torch.

``run.json``       what was run, from what, by which code, where and when; written last, it names every file
``metrics.jsonl``  a line a logged step
``metrics.json``   final numbers of training, and its cost
``checkpoint.pt``  weights that other runs start from
``confusion.npz``  a confusion matrix a keyframe, of a run that predicts
``resume.pt``      state from which a killed run continues, and ``resume.before.pt``, the one before it;
                   gone when the run is finished
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import leftovers, naming, read_json, sha256, write_json
from clip2scene.portable.choices import choices
from clip2scene.provenance import commit, versions
from clip2scene.run_files import read_log

UNHASHED = frozenset({"run.json", "resume.pt", "resume.before.pt"})


@dataclass(frozen=True)
class Identity:
    """All that decides what a run computes, and nothing else.

    Attributes:
        kind: Stage.
        fields: What its row of the table of experiments says.
        settings: The settings that bear on it.
        code: Hash of each module that computes it (`clip2scene.provenance.code_of`).
        reads: Digest of everything that it reads, by role and name.
        survey: Digest of what it finds on the disk, for stages that look.
    """

    kind: str
    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    code: Mapping[str, str]
    reads: Mapping[str, str] = field(default_factory=dict)
    survey: str = ""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Identity":
        """Return the identity that a finished run's ``run.json`` holds."""
        return cls(**{name: description[name] for name in cls.__dataclass_fields__ if name in description})

    def values(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        values = {
            "kind": self.kind, "fields": dict(self.fields), "settings": dict(self.settings),
            "code": dict(self.code), "reads": dict(self.reads), "survey": self.survey,
        }  # fmt: skip
        return json.loads(json.dumps(values, default=str))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RunRecord:
    """A run's folder, and what is written into it.

    Attributes:
        folder: ``results/runs/<key>``; nothing else is kept in it.
        kind: Stage.
        seed: The run's seed.
        identity: What decides its result.
    """

    folder: Path
    kind: str
    seed: int
    identity: Identity

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
        """State from which a killed run continues."""
        return self.folder / "resume.pt"

    @property
    def resume_before(self) -> Path:
        """The state before `resume`, in case that one is damaged."""
        return self.folder / "resume.before.pt"

    @property
    def description(self) -> Path:
        """``run.json``."""
        return self.folder / "run.json"

    def begin(self, config: Config, device: str) -> None:
        """Start the run, or continue it where it was killed.

        Args:
            config: Names the device that was asked for, and the number of threads.
            device: Device that the run computes on.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in leftovers(self.folder):
            left.unlink()
        values = {
            "key": self.key,
            "status": "running",
            "fingerprint": self.identity.fingerprint,
            **self.identity.values(),
            "seed": self.seed,
            **commit(),
            "device": device,
            "device_asked": config.device,
            "machine": platform.machine(),
            "threads": config.threads,
            "processes": config.processes,
            "started": _now(),
            "ended": None,
            "packages": versions(),
            **choices(),
        }
        write_json(self.description, values)

    def log(self, values: dict[str, float]) -> None:
        """Append a line to ``metrics.jsonl``."""
        with naming(self._log), self._log.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def logged(self) -> list[dict[str, float]]:
        """Return the lines of ``metrics.jsonl``; see `read_log`."""
        return read_log(self._log)

    def log_size(self) -> int:
        """Return the number of bytes logged so far, for `rewind_log`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def rewind_log(self, size: int) -> None:
        """Cut the log back to `size` bytes: a resumed run takes the later steps again.

        Raises:
            InputError: the log is shorter, so that it is not the one that the saved state belongs to.
        """
        if self.log_size() < size:
            raise InputError(
                f"{self._log}: holds {self.log_size()} bytes; expected at least {size}, as {self.resume} "
                "says (remove that file, and the run starts again)"
            )
        if self._log.exists():
            os.truncate(self._log, size)

    def finish(
        self, metrics: Mapping[str, Any] | None = None, products: Mapping[str, str] | None = None
    ) -> None:
        """Write the final numbers and, last, ``run.json``, which marks the run as finished.

        Args:
            metrics: JSON values. Times and memory go under ``cost``: everything else is the same for the
                same fingerprint.
            products: Digests of what other runs may read, beside those of the files in the folder.
        """
        if metrics is not None:
            write_json(self.folder / "metrics.json", {"key": self.key, **metrics})
        description = read_json(self.description)
        files = {
            path.name: sha256(path)
            for path in sorted(self.folder.iterdir())
            if path.is_file() and path.name not in UNHASHED
        }
        result = {"files": files, "products": files | dict(products or {})}
        ended = {"status": "finished", "ended": _now()}
        write_json(self.description, description | ended | result)
        for state in (self.resume, self.resume_before):
            state.unlink(missing_ok=True)

    @property
    def _log(self) -> Path:
        return self.folder / "metrics.jsonl"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
