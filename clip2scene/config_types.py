"""Types of the configuration's values: what a number, a name or a path must be, whatever it is for."""

import difflib
import math
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

T = TypeVar("T")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=10_000_000)]
Count = Annotated[int, Field(ge=1, le=10_000)]
"""Number of things that each take memory or files: scenes, images, samples of a batch."""
Side = Annotated[int, Field(ge=1, le=10_000)]
"""Height or width of an image, pixels."""
Rate = Annotated[float, Field(gt=0, le=1000)]
"""Learning rate."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]

_POWER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]{1,3}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def name(value: str) -> str:
    """Return a name that file names, shells, patterns and MLflow can hold; refuse any other."""
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"found the name {shortened(value)}; expected at most 64 letters without accents, digits, '_', "
            "'.' and '-', the first a letter or digit"
        )
    return value


Name = Annotated[str, AfterValidator(name)]


def _line(value: str) -> str:
    """Return a text of one line; refuse one that is empty or holds control characters."""
    if not value.strip() or not value.isprintable():
        raise ValueError(f"found {shortened(value)}; expected a text of one line")
    return value


Line = Annotated[str, AfterValidator(_line)]


def _place(value: Any) -> Any:
    """Expand ``~`` in a path; refuse one that is empty or holds control characters."""
    if not isinstance(value, str | Path):
        return value
    if not (text := str(value)).strip():
        raise ValueError("found an empty path; expected a file or folder")
    if any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in text):
        raise ValueError(f"found {text!r}; expected a path without line breaks and other control characters")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~somebody
        raise ValueError(f"found {text!r}; expected a path, or ~ for your own home folder") from None


Place = Annotated[Path, BeforeValidator(_place)]


class Section(BaseModel):
    """A section of the configuration: immutable, closed to keys it does not know, all numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_as_written(cls, values: Any) -> Any:
        """Let no true or false pass for a number; take ``1e3``, which YAML leaves a text, as a whole one."""
        if not isinstance(values, dict):
            return values
        changed = dict(values)
        for key in cls.model_fields.keys() & values.keys():
            kinds = set(_leaves(cls.model_fields[key].annotation))
            if kinds & {int, float} and bool not in kinds:
                value = values[key]
                both = isinstance(value, list | tuple)
                changed[key] = [_number(item, kinds) for item in value] if both else _number(value, kinds)
        return changed


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the plain types that a type is put together from; those of a mapping's values have their own."""
    if get_origin(annotation) is dict:
        return
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _leaves(part)


def _number(value: Any, kinds: set[Any]) -> Any:
    """Return a value as it is meant where a number is expected; true and false as words, which is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and float not in kinds and _POWER.fullmatch(value):
        number = float(value)
        return int(number) if math.isfinite(number) and number == int(number) else value
    return value


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return values none of which is given twice; raise a ValueError if one is."""
    if (twice := repeated(values)) is not None:
        raise ValueError(f"{twice!r} is given twice; expected each once")
    return values


def repeated(values: Iterable[Hashable]) -> Any:
    """Return the first value that has come before; None if there is none."""
    seen: set[Hashable] = set()
    return next((value for value in values if value in seen or seen.add(value)), None)


def explain(error: dict[str, Any], source: str, prefix: str, keys: Callable[[], Iterable[str]]) -> str:
    """Return what is wrong with one key in one line: file, key, what was found and what was expected.

    Args:
        error: An item of ``ValidationError.errors()``.
        source: The file.
        prefix: Key of the section that was checked, with a dot at its end; empty for the whole file.
        keys: Returns every key of the configuration, dotted.
    """
    loc = error["loc"]
    if loc[:1] == ("datasets",) and loc[2:3] == ("synthetic",):
        loc = loc[:3] + loc[4:]  # without the format, which pydantic adds
    if loc[-1:] == ("[key]",):
        loc = loc[:-1]
    key = (prefix + ".".join(map(str, loc))).removesuffix(".")
    where = f"{source}: {key}: " if key else f"{source}: "
    match error["type"]:
        case "extra_forbidden":
            words = "unknown key" + _nearest(str(loc[-1]), keys())
        case "missing":
            words = "is missing; expected a value for this key"
        case "model_type" | "model_attributes_type" | "dict_type":
            words = f"expected keys and their values, found {shortened(error['input'])}"
        case "union_tag_invalid":
            tag, valid = error["ctx"]["tag"], error["ctx"]["expected_tags"]
            words = f"found the format {tag!r}; expected one that can be synthetic: {valid}"
        case _:
            words = describe(error)
    return " ".join((where + words).split())


def _nearest(key: str, keys: Iterable[str]) -> str:
    """Return a hint for an unknown key: the nearest one, or the section of the one that has this name."""
    places = {name.rpartition(".")[2]: name for name in reversed(list(keys))}
    near = difflib.get_close_matches(key, sorted(places), n=1)
    if near == [key]:  # a key of another section
        near = [places[key]]
    return f", did you mean {near[0]}?" if near else ""


def describe(error: dict[str, Any]) -> str:
    """Return one of pydantic's errors in words, with what was found.

    Args:
        error: An item of ``ValidationError.errors()``.
    """
    if error["type"] == "value_error":  # a validator's own words, which say what was found
        return str(error["ctx"]["error"])
    if error["type"] == "path_type":
        return f"expected a path, found {shortened(error['input'])}"
    return f"{error['msg']}, found {shortened(error['input'])}"


def shortened(value: Any) -> str:
    """Return a value as it is written, cut where it is long."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
