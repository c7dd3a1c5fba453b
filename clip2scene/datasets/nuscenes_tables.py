"""nuScenes' JSON tables, of which only the records and fields that an index uses are checked.

trainval's ``ego_pose.json`` and ``sample_data.json`` hold 2.6 million records each. An index uses a quarter
of them, and none of the million annotations; nuscenes-devkit reads everything.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError

from clip2scene.errors import InputError
from clip2scene.files import read_json

Vector = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Name = Annotated[str, Field(min_length=1)]
UNIT = 1e-3
"""Largest deviation of a quaternion's norm from 1."""


def _inside(value: str) -> str:
    """Refuse a path that leads out of the data root."""
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or "\0" in value:
        raise ValueError("expected a path relative to the data root")
    return value


def _unit(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Refuse a quaternion that is no rotation."""
    if abs(sum(number**2 for number in value) ** 0.5 - 1) > UNIT:
        raise ValueError(f"expected a quaternion of norm 1 to {UNIT:g}")
    return value


Quaternion = Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], AfterValidator(_unit)]
Place = Annotated[str, AfterValidator(_inside)]
Time = Annotated[int, Field(ge=0, lt=2**63)]
"""Microseconds since 1970."""


class Scene(BaseModel):
    """Record of ``scene.json``."""

    name: Name
    first_sample_token: Name
    nbr_samples: int | None = None


class Sample(BaseModel):
    """Record of ``sample.json``: a keyframe."""

    token: Name
    timestamp: Time
    next: str


class SampleData(BaseModel):
    """Record of ``sample_data.json``: a file of one sensor."""

    token: Name
    timestamp: Time
    ego_pose_token: Name
    calibrated_sensor_token: Name
    filename: Place
    prev: str
    height: int | None = None
    width: int | None = None


class Pose(BaseModel):
    """Record of ``ego_pose.json``."""

    translation: Vector
    rotation: Quaternion


class Calibration(Pose):
    """Record of ``calibrated_sensor.json``."""

    sensor_token: Name
    camera_intrinsic: list[list[FiniteFloat]]


class Sensor(BaseModel):
    """Record of ``sensor.json``."""

    channel: Name


class Lidarseg(BaseModel):
    """Record of ``lidarseg.json``; its token is that of the points in ``sample_data.json``."""

    filename: Place


R = TypeVar("R", bound=BaseModel)


class Table(Generic[R]):
    """A table whose records are checked when they are looked up.

    Attributes:
        path: JSON file.
    """

    def __init__(self, folder: Path, name: str, model: type[R]) -> None:
        """Read a table.

        Raises:
            InputError: the file is missing, is not JSON, is not a list of records, or two have one token.
        """
        self.path, self._model = folder / f"{name}.json", model
        records = read_json(self.path)
        if not isinstance(records, list):
            raise InputError(f"{self.path}: found {type(records).__name__}; expected a list of records")
        try:
            self._records: dict[str, dict[str, Any]] = {record["token"]: record for record in records}
        except (TypeError, KeyError):
            bad = next(n for n, r in enumerate(records) if not (isinstance(r, dict) and _has_token(r)))
            raise InputError(f"{self.path}: record {bad} has no token; expected a string") from None
        if len(self._records) != len(records):
            twice = _first_twice(record["token"] for record in records)
            raise InputError(f"{self.path}: token {twice!r} comes twice; expected one record for each")
        self._checked: dict[str, R] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, token: str) -> bool:
        return token in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def raw(self, token: str) -> dict[str, Any]:
        """Return a record as the file holds it."""
        return self._records[token]

    def get(self, token: str, referrer: str) -> R:
        """Return a record.

        Args:
            token: Its token.
            referrer: Record and field that refer to it, for the message.

        Raises:
            InputError: there is no such record, or a field is missing or of another type or range.
        """
        if token not in self._checked:
            record = self._records.get(token)
            if record is None:
                raise InputError(f"{self.path}: holds no token {token!r}, which {referrer} names")
            try:
                self._checked[token] = self._model.model_validate(record)
            except ValidationError as error:
                raise InputError(f"{self.path}: record {token}: {_explain(error)}") from None
        return self._checked[token]


class Tables:
    """The tables of a version that an index is built from."""

    def __init__(self, folder: Path) -> None:
        """Read the tables.

        Args:
            folder: Folder of a version, e.g. ``v1.0-mini``.

        Raises:
            InputError: a table is missing or damaged; ``lidarseg.json`` may be missing.
        """
        self.scene = Table(folder, "scene", Scene)
        self.sample = Table(folder, "sample", Sample)
        self.data = Table(folder, "sample_data", SampleData)
        self.pose = Table(folder, "ego_pose", Pose)
        self.calibration = Table(folder, "calibrated_sensor", Calibration)
        self.sensor = Table(folder, "sensor", Sensor)
        labelled = (folder / "lidarseg.json").exists()
        self.lidarseg = Table(folder, "lidarseg", Lidarseg) if labelled else None
        self._channels: dict[str, str] = {}
        self.keyframes = self._keyframes()

    def _keyframes(self) -> dict[str, dict[str, str]]:
        """Return the token in ``sample_data.json`` of each sample's key frame, by sample and channel."""
        keyframes: dict[str, dict[str, str]] = {}
        for token in self.data:
            record = self.data.raw(token)
            if flag := record.get("is_key_frame"):
                if flag not in (True, 1):  # the word "False" would count as true
                    expected = f"is_key_frame: expected true or false, found {flag!r}"
                    raise InputError(f"{self.data.path}: record {token}: {expected}")
                where = f"record {token} of {self.data.path}"
                sample, sensor = record.get("sample_token"), record.get("calibrated_sensor_token")
                if not isinstance(sample, str) or not isinstance(sensor, str):
                    field = "calibrated_sensor_token" if isinstance(sample, str) else "sample_token"
                    found = record.get(field)
                    raise InputError(
                        f"{self.data.path}: record {token}: {field}: expected a token, found {found!r}"
                    )
                keyframes.setdefault(sample, {})[self.channel(sensor, where)] = token
        return keyframes

    def channel(self, token: str, referrer: str) -> str:
        """Return the channel, e.g. ``CAM_FRONT``, of a calibrated sensor; see `Table.get`."""
        if token not in self._channels:
            sensor = self.calibration.get(token, referrer).sensor_token
            where = f"record {token} of {self.calibration.path}"
            self._channels[token] = self.sensor.get(sensor, where).channel
        return self._channels[token]

    def samples(self, scene: str) -> Iterator[Sample]:
        """Yield the keyframes of a scene, given its token, in their order.

        Raises:
            InputError: `next` leads to nothing or back, or to an earlier time.
        """
        first, seen = self.scene.get(scene, ""), set()
        token, referrer, time = first.first_sample_token, f"scene {first.name} of {self.scene.path}", None
        while token:
            if token in seen:
                raise InputError(f"{self.sample.path}: {referrer} has the `next` {token!r}, which leads back")
            seen.add(token)
            sample = self.sample.get(token, referrer)
            if time is not None and sample.timestamp <= time:
                raise InputError(
                    f"{self.sample.path}: record {token}: timestamp {sample.timestamp} is not after {time}, "
                    f"that of {referrer}, whose `next` it is"
                )
            token, referrer, time = sample.next, f"record {token}", sample.timestamp
            yield sample

    def earlier(self, data: SampleData, count: int) -> list[SampleData]:
        """Return up to `count` earlier records of a sensor, the latest first.

        Raises:
            InputError: `prev` leads to nothing or back, to another sensor, or to a later time.
        """
        found: list[SampleData] = []
        while data.prev and len(found) < count:
            here = f"record {data.token}"
            before = self.data.get(data.prev, here)
            channel, other = (
                self.channel(item.calibrated_sensor_token, f"record {item.token} of {self.data.path}")
                for item in (data, before)
            )
            if channel != other:
                found = f"{here} of {channel} has the `prev` {before.token} of {other}"
                raise InputError(f"{self.data.path}: {found}; expected one of {channel}")
            if before.token == data.token or before.timestamp > data.timestamp:
                raise InputError(
                    f"{self.data.path}: {here} of time {data.timestamp} has the `prev` {before.token} of "
                    f"time {before.timestamp}; expected an earlier one"
                )
            found.append(data := before)
        return found


def _has_token(record: dict[str, Any]) -> bool:
    return isinstance(record.get("token"), str)


def _first_twice(tokens: Iterator[str]) -> str:
    seen: set[str] = set()
    return next(token for token in tokens if token in seen or seen.add(token))


def _explain(error: ValidationError) -> str:
    """Return the first fault of a record in words."""
    item = error.errors()[0]
    field = ".".join(map(str, item["loc"]))
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"has no field {field}"
    found = repr(item["input"])
    found = found if len(found) < 80 else found[:77] + "..."
    return f"{field}: {message[0].lower()}{message[1:]}, found {found}"
