"""The cost of every run of a study, as a pilot writes it into ``plan.json``. Imports no torch."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clip2scene.config import Config
from clip2scene.errors import InputError
from clip2scene.files import read_object, write_json


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Time(_Part):
    """Seconds of a run: those of its process, those of the run itself, and those of each unit of its work."""

    start: float = Field(ge=0)
    """Of the process: the interpreter and its imports until the stage's function is called, and its end."""
    fixed: float = Field(ge=0)
    """Of the function, whatever the number of units: models, files, the first step's compilation."""
    unit: float = Field(ge=0)
    """A unit: a step, a keyframe or an image."""

    def total(self, units: int, start: bool = True) -> float:
        """Return the seconds of a run of so many units, with or without the start of its process."""
        return self.start * start + self.fixed + units * self.unit

    def whole(self, units: int) -> Self:
        """Return the time of a run that has no units: what so many took is fixed."""
        return self.model_copy(update={"fixed": self.fixed + units * self.unit, "unit": 0.0})


class Kind(_Part):
    """Runs that cost the same a unit: those of one stage, with the same settings and the same code."""

    stage: str
    """Stage."""
    title: str
    """The run that was measured, in words."""
    unit: str
    """Name of a unit: step, frame or image; empty for a run that was measured as a whole."""
    measured: int = Field(ge=0)
    """Units that were measured."""
    seconds: Time
    """As a clock measured them."""
    cpu_seconds: Time
    """As the processes' own clocks did, loader workers left out."""
    waiting: float = Field(ge=0, le=1)
    """Share of the time of a unit in which the loader was waited for."""
    memory_mib: float
    """Peak memory of the process and of its workers, MiB; what loader processes share counts once."""
    gpu_memory_mib: float
    """Peak memory that torch held on the GPU, MiB."""
    batch_mib: float
    """The largest batch that loader workers handed over, MiB."""
    open_files: int
    """The most files that the process had open while it was fed."""
    bytes: int
    """Size of the files that it leaves, without `unit_bytes`."""
    unit_bytes: float
    """Size of the files that grow, a unit."""


class RunCost(_Part):
    """Cost of one run."""

    kind: str
    """Key of its `Kind`."""
    units: int
    """Units of its work."""
    validated: int
    """Keyframes that it is validated on while it trains, each as often as it is seen."""
    seconds: float
    """Seconds, that of the process's start included where it starts one."""
    cpu_seconds: float
    """The same by the processes' own clocks."""
    bytes: int
    """Size of the files that it leaves."""


class Need(_Part):
    """A resource: how much of it the study needs, and how much the machine has."""

    what: str
    needed: float
    available: float
    unit: str

    @property
    def enough(self) -> bool:
        """Say whether there is enough of it."""
        return self.needed <= self.available


class Costs(_Part):
    """Content of ``plan.json``: every run of a study with its cost, measured where the pilot ran."""

    machine: str
    """Processor, number of cores, GPU."""
    made: str
    """Time of the pilot."""
    processes: int
    """Processes of a run that trains, each with a GPU."""
    stand_ins: list[str]
    """Inputs that were not there and were replaced for the pilot, a line each."""
    kinds: dict[str, Kind]
    runs: dict[str, RunCost]
    """By key."""
    needs: list[Need]

    @property
    def on_gpu(self) -> bool:
        """Say whether the pilot computed on a GPU."""
        return any(kind.gpu_memory_mib for kind in self.kinds.values())

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            InputError: it is missing, or is not what `write` wrote.
        """
        if not path.exists():
            raise InputError(f"{path}: no such file; `clip2scene pilot` writes it")
        try:
            return cls.model_validate(read_object(path))
        except ValidationError as error:
            item = error.errors()[0]
            field = ".".join(map(str, item["loc"]))
            raise InputError(
                f"{path}: {field}: {item['msg']}; write it again with `clip2scene pilot`"
            ) from None


def plan_file(config: Config) -> Path:
    """Return the file in which a study's costs lie."""
    return config.results / "plan.json"
