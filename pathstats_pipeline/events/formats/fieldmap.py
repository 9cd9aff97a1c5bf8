"""Field maps: which JSON key becomes which column, told in a TOML file. Maps ship in `events/maps`; users bring theirs.

Reading and checking a map is here; reading lines by it is in `jsonl`. The form of the file is told in docs/formats.md.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast

from pathstats_pipeline.events import maps
from pathstats_pipeline.events.formats.times import TIME_FORMS
from pathstats_pipeline.events.formats.values import TimeUnit
from pathstats_pipeline.events.schema import EVENT_SCHEMA

KeyPath = tuple[str | int, ...]
"""Where a value stands: object keys, and positions in arrays."""

REQUEST_LINE: Final = "request"
"""A key that holds a whole request line (`GET /a HTTP/1.1`) serves as method and path where those are missing."""

_UNITS: Final = ("s", "ms", "us", "ns")
_TOP_LEVEL: Final = ("name", "time", "response_time", "columns")


class FieldMapError(ValueError):
    """A field map that can't be used. One line, which names the file and the key."""


@dataclasses.dataclass(frozen=True)
class FieldMap:
    """A checked map. `columns` gives each column the places to look at, in this order; the first value counts.

    `time` holds the forms of `event_time`, tried in this order; `response_time` is the unit of `response_time_ms`.
    With `verbatim` the path is taken as it stands, query and all: that is for our own lines.
    """

    name: str
    columns: Mapping[str, tuple[KeyPath, ...]]
    time: tuple[str, ...] = ("rfc3339",)
    response_time: TimeUnit = "ms"
    verbatim: bool = False


def load_map(path: Path) -> FieldMap:
    """Read and check a user's map."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FieldMapError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FieldMapError(f"{path}: not UTF-8 text") from error
    return _checked(str(path), text)


@functools.cache
def shipped_maps() -> tuple[FieldMap, ...]:
    """Give the maps of the package, in the order of their file names."""
    files = (file for file in resources.files(maps).iterdir() if file.name.endswith(".toml"))
    return tuple(_checked(file.name, file.read_text("utf-8")) for file in sorted(files, key=lambda file: file.name))


def _checked(source: str, text: str) -> FieldMap:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FieldMapError(f"{source}: not TOML: {' '.join(str(error).split())}") from error
    for key in table:
        if key not in _TOP_LEVEL:
            raise FieldMapError(f"{source}: {key}: unknown key; known are {', '.join(_TOP_LEVEL)}")
    columns = _columns(source, table.get("columns"))
    return FieldMap(
        name=_name(source, table),
        columns=columns,
        time=_time_forms(source, table.get("time", "rfc3339")),
        response_time=_unit(source, table, needed="response_time_ms" in columns),
    )


def _name(source: str, table: Mapping[str, Any]) -> str:
    name = table.get("name", source.rpartition("/")[2].removesuffix(".toml"))
    if not isinstance(name, str) or not name:
        raise FieldMapError(f"{source}: name: must be a text")
    return name


def _time_forms(source: str, given: Any) -> tuple[str, ...]:
    forms = given if isinstance(given, list) else [given]
    if not forms or any(form not in TIME_FORMS for form in forms if isinstance(form, str)):
        raise FieldMapError(f"{source}: time: must be of {', '.join(TIME_FORMS)}")
    if not all(isinstance(form, str) for form in forms):
        raise FieldMapError(f"{source}: time: must be a text or a list of texts")
    return tuple(forms)


def _unit(source: str, table: Mapping[str, Any], *, needed: bool) -> TimeUnit:
    unit = table.get("response_time")
    if unit is None and not needed:
        return "ms"
    if unit not in _UNITS:
        raise FieldMapError(f"{source}: response_time: must be one of {', '.join(_UNITS)}")
    return cast("TimeUnit", unit)


def _columns(source: str, given: Any) -> dict[str, tuple[KeyPath, ...]]:
    if not isinstance(given, dict):
        raise FieldMapError(f"{source}: columns: a table [columns] is needed")
    known = (*EVENT_SCHEMA, REQUEST_LINE)
    columns: dict[str, tuple[KeyPath, ...]] = {}
    for column, value in given.items():
        if column not in known:
            raise FieldMapError(f"{source}: columns.{column}: no such column; known are {', '.join(known)}")
        places = value if isinstance(value, list) else [value]
        columns[column] = tuple(_key_path(f"{source}: columns.{column}", place) for place in places)
        if not columns[column]:
            raise FieldMapError(f"{source}: columns.{column}: names no key")
    if "event_time" not in columns:
        raise FieldMapError(f"{source}: columns.event_time: is needed")
    if "path" not in columns and REQUEST_LINE not in columns:
        raise FieldMapError(f"{source}: columns.path: is needed (or columns.{REQUEST_LINE})")
    _refuse_conflicts(source, columns)
    return columns


def _key_path(where: str, place: Any) -> KeyPath:
    steps = place.split(".") if isinstance(place, str) else place
    if not isinstance(steps, list) or not steps or not isinstance(steps[0], str):
        raise FieldMapError(f"{where}: must be a dotted key, or a list of places")
    for step in steps:
        text = isinstance(step, str) and step and not {"'", '"', "\\"} & set(step)
        if not text and (not isinstance(step, int) or isinstance(step, bool) or step < 0):
            raise FieldMapError(f"{where}: {step!r} is neither a key nor a position in an array")
    return tuple(steps)


def _refuse_conflicts(source: str, columns: Mapping[str, tuple[KeyPath, ...]]) -> None:
    """Refuse a key that is a value in one place and an object or an array in another."""
    paths = {path for places in columns.values() for path in places}
    kinds: dict[KeyPath, type] = {}
    for path in paths:
        for depth in range(1, len(path)):
            kind = type(path[depth])
            if path[:depth] in paths or kinds.setdefault(path[:depth], kind) is not kind:
                key = ".".join(map(str, path[:depth]))
                raise FieldMapError(
                    f"{source}: columns: {key} is used both as a value and as something that holds values"
                )
