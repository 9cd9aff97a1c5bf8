"""JSON lines, by a field map: one object a line. Our own lines (`canonical`) are a map, too.

A block is decoded in slices. A slice with a line that is no JSON costs a second look at it; one with a line of
another shape than the map's is read by JSON path, some ten times slower.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.events.formats.fieldmap import REQUEST_LINE, FieldMap, KeyPath
from pathstats_pipeline.events.formats.mapped import mapped_events, places_of
from pathstats_pipeline.events.formats.parsed import (
    LINE_LIMIT_BYTES,
    ParsedLines,
    TextBlock,
    account,
    drafts_of,
    numbered,
    settle,
)
from pathstats_pipeline.events.formats.transport import without_prefix
from pathstats_pipeline.events.schema import EVENT_SCHEMA

CANONICAL_MAP: Final = FieldMap(
    name="canonical",
    columns={name: ((name,),) for name in EVENT_SCHEMA},
    time=("rfc3339",),
    response_time="ms",
    verbatim=True,
)
"""Our own lines: the columns of an event, as in the archive."""

_SLICE_LINES: Final = 8192
"""Decoded at once: larger slices are not faster, much smaller ones are slower."""

_ENVOY_TEXT: Final = r'^\[[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z\] "'
_NOT_JSON: Final = "not JSON"
_NO_OBJECT: Final = "not a JSON object"


@dataclasses.dataclass(frozen=True)
class JsonFormat:
    """JSON lines as a field map tells them."""

    field_map: FieldMap
    name: str = "jsonl"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Read a block of lines."""
        return account(lines, self.draft)

    def parse_text(self, block: TextBlock) -> ParsedLines:
        """Read a block of lines, slice by slice: only where a slice isn't all usual, its lines are taken apart."""
        places = places_of(self.field_map)
        usual, decoded, others = _usual(block), [], []
        for start in range(0, usual.size, _SLICE_LINES):
            rows = self._decode_text(block, start, usual[start : start + _SLICE_LINES], places)
            if rows is None:
                others.append(pl.int_range(start, min(start + _SLICE_LINES, usual.size), dtype=pl.Int64, eager=True))
            else:
                decoded.append(rows)
        drafts = [mapped_events(pl.concat(decoded), self.field_map, pl.lit(value=False))] if decoded else []
        if others:
            drafts += drafts_of(numbered(block.lines)[pl.concat(others)], self.draft)
        return settle(drafts)

    def _decode_text(
        self, block: TextBlock, start: int, usual: npt.NDArray[np.bool_], places: Sequence[KeyPath]
    ) -> pl.DataFrame | None:
        """Decode some lines as they stand; None where a line is unusual or asks for a second look at its text."""
        if not usual.all():
            return None
        begin = int(block.ends[start - 1]) + 1 if start else 0
        rows = _decode(block.text[begin : int(block.ends[start + usual.size - 1])], usual.size, places)
        if rows is None or rows.select(self._has_no_path().any()).item():
            return None
        return rows.insert_column(0, pl.int_range(start, start + usual.size, dtype=pl.Int64, eager=True).alias("index"))

    def _has_no_path(self) -> pl.Expr:
        return pl.all_horizontal(pl.col(repr(place)).is_null() for place in self._path_places())

    def _path_places(self) -> tuple[KeyPath, ...]:
        return (*self.field_map.columns.get("path", ()), *self.field_map.columns.get(REQUEST_LINE, ()))

    def draft(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Give the drafts of a frame of `index` and `line`; for formats whose files hold JSON lines, too."""
        frame = without_prefix(frame).with_columns(pl.col("line").str.strip_chars(" \t\r"))
        line = pl.col("line")
        objects = line.str.starts_with("{") & line.str.ends_with("}") & ~line.str.contains("\n", literal=True)
        candidates = frame.filter(objects)
        others = frame.filter(~objects) if candidates.height < frame.height else frame.clear()
        decoded, broken = _decoded(candidates, places_of(self.field_map))
        return [
            *([mapped_events(pl.concat(decoded), self.field_map, self._is_null())] if decoded else []),
            *(part.select("index", reason=pl.lit(_NOT_JSON)) for part in broken),
            others.select("index", reason=_why_no_object(line)),
        ]

    def _is_null(self) -> pl.Expr:
        """Tell whether a path key stands in the line with the value null: a request without a path, not a gap."""
        keys = [str(place[-1]) for place in self._path_places() if isinstance(place[-1], str)]
        escaped = "|".join(_regex_literal(key) for key in keys)
        return pl.col("line").str.contains(rf'"(?:{escaped})"[ \t]*:[ \t]*null') if keys else pl.lit(value=False)


def _usual(block: TextBlock) -> npt.NDArray[np.bool_]:
    """Tell for each line whether it is an object with nothing around it, and short enough: so almost all are."""
    text, ends = np.frombuffer(block.text, np.uint8), block.ends
    starts = np.concatenate([[0], ends[:-1] + 1])
    opened = text[np.minimum(starts, text.size - 1)] == ord("{")
    closed = text[ends - 1] == ord("}")
    usual: npt.NDArray[np.bool_] = opened & closed & (ends > starts) & (ends - starts <= LINE_LIMIT_BYTES)
    return usual


def _regex_literal(text: str) -> str:
    return "".join(rf"\x{{{ord(char):x}}}" for char in text)


def _why_no_object(line: pl.Expr) -> pl.Expr:
    other_json = line.str.json_path_match("$").is_not_null() | (line == "null")
    return (
        pl.when(line.str.contains(_ENVOY_TEXT))
        .then(pl.lit("Envoy text log line; the format envoy reads it"))
        .when(other_json)
        .then(pl.lit(_NO_OBJECT))
        .otherwise(pl.lit(_NOT_JSON))
    )


def _decoded(frame: pl.DataFrame, places: Sequence[KeyPath]) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
    """Decode objects to frames of `index`, `line` and one text column for each place; and give what is not JSON."""
    decoded: list[pl.DataFrame] = []
    broken: list[pl.DataFrame] = []
    for start in range(0, frame.height, _SLICE_LINES):
        part = frame.slice(start, _SLICE_LINES)
        fast = _decode_fast(part, places)
        if fast is None:
            valid = part["line"].str.json_path_match("$").is_not_null()
            broken.append(part.filter(~valid))
            part = part.filter(valid)
            fast = _decode_fast(part, places) if not valid.all() and valid.any() else None
        decoded.append(_decode_carefully(part, places) if fast is None else fast)
    return decoded, broken


def _decode_fast(frame: pl.DataFrame, places: Sequence[KeyPath]) -> pl.DataFrame | None:
    """Decode all lines at once; None where any of them is no JSON or has another shape than the map."""
    rows = _decode(frame["line"].str.join("\n").cast(pl.Binary)[0], frame.height, places)
    return None if rows is None else frame.hstack(rows)


def _decode(text: bytes, height: int, places: Sequence[KeyPath]) -> pl.DataFrame | None:
    """Decode so many lines to one text column for each place; None where Polars finds other lines or shapes."""
    try:
        rows = pl.read_ndjson(text, schema=_shape(places))
    except pl.exceptions.PolarsError:
        return None
    if rows.height != height:
        return None
    return rows.select(_value(place).alias(repr(place)) for place in places)


def _decode_carefully(frame: pl.DataFrame, places: Sequence[KeyPath]) -> pl.DataFrame:
    """Decode valid JSON of any shape; a value of another shape than the map's counts as missing."""
    return frame.with_columns(
        pl.col("line").str.json_path_match(_json_path(place)).alias(repr(place)) for place in places
    )


def _json_path(place: KeyPath) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f"['{step}']" for step in place)


def _value(place: KeyPath) -> pl.Expr:
    value = pl.col(str(place[0]))
    for step in place[1:]:
        value = value.list.get(step, null_on_oob=True) if isinstance(step, int) else value.struct.field(step)
    return value


def _shape(places: Sequence[KeyPath]) -> dict[str, pl.DataType]:
    """Give the schema that holds just these places, with text at the leaves."""
    tree: dict[str | int, Any] = {}
    for place in places:
        node = tree
        for step in place:
            node = node.setdefault(step, {})
    return {str(key): _dtype(node) for key, node in tree.items()}


def _dtype(node: dict[str | int, Any]) -> pl.DataType:
    if not node:
        return pl.String()
    if all(isinstance(step, int) for step in node):
        inner: dict[str | int, Any] = {}
        for child in node.values():
            inner |= child
        return pl.List(_dtype(inner))
    return pl.Struct({str(key): _dtype(child) for key, child in node.items()})
