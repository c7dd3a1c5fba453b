"""A run as the function of its stage sees it."""

from dataclasses import dataclass
from pathlib import Path

from clip2scene.config import Config
from clip2scene.record import RunRecord
from clip2scene.runs import Run


@dataclass(frozen=True)
class Task:
    """A run that is to be computed.

    Attributes:
        config: The configuration as the run sees it: its variant merged, data roots resolved.
        run: The run.
        record: Its folder, and what is written into it.
        inputs: The files that it reads, by role as its stage names them (`clip2scene.stages.base.Stage`).
        processes: Worker processes that a stage may use; they change no result.
        part: ``K-of-N`` if only the K-th of N parts of the run is to be computed, else "".
    """

    config: Config
    run: Run
    record: RunRecord
    inputs: dict[str, Path]
    processes: int = 1
    part: str = ""
