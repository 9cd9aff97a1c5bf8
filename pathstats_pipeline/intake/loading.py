"""Loads of the landing zone into the warehouse: each file once, whole or not at all.

Reads what the intake wrote and what anybody dropped there, validates it, and appends it. Knows no Dagster; the asset
`raw_events` calls `load_hours`.
"""

import collections
import contextlib
import dataclasses
import datetime as dt
import itertools
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Self

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.archive.manifest import ManifestError
from pathstats_pipeline.archive.redelivery import deleted_ids
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.events.formats.jsonl import CANONICAL_MAP, JsonFormat
from pathstats_pipeline.events.formats.parsed import draft_of, judge
from pathstats_pipeline.events.load import Load, LoadFacts
from pathstats_pipeline.events.schema import EVENT_NAMES, EVENT_SCHEMA
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.intake.lines import SourceError, open_source, read_blocks
from pathstats_pipeline.storage.landing import LandedFile, Landing, LandingError
from pathstats_pipeline.storage.objects import Objects, ObjectsError
from pathstats_pipeline.storage.warehouse import Warehouse

CHUNK_ROWS: Final = 250_000
"""Rows of a load that are in memory at once."""
_CANONICAL: Final = JsonFormat(CANONICAL_MAP, name="canonical")
OUTSIDE: Final = "outside the hour of its load"

_NO_LOAD: Final[tuple[type[BaseException], ...]] = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    pa.ArrowException,
    OSError,
    SourceError,
)
"""How the readers say that a file is damaged or none of theirs."""

_NO_ARCHIVE: Final = (ArchiveRefusedError, ManifestError, ObjectsError, VerificationError)
"""How the archive says that it can't be read, or isn't what it was."""

Chunk = tuple[pl.DataFrame, pl.DataFrame]
"""Events, and the rows or lines that could not become events (line_number, raw, reason, source)."""


@dataclasses.dataclass(frozen=True)
class LoadedHours:
    """What loading a window did: loads that were appended now, and files that can't be read, with the reason.

    `size_bytes` is the size of the files that were read now, by hour.
    """

    appended: tuple[LoadFacts, ...]
    unreadable: tuple[str, ...]
    size_bytes: Mapping[dt.datetime, int]


def load_hours(
    warehouse: Warehouse,
    landing: Landing,
    window: Window,
    now: dt.datetime,
    archive: Callable[[], Objects] | None = None,
) -> LoadedHours:
    """Append every load of a window that the warehouse doesn't know. A second run appends nothing.

    `archive` is asked for when events of an hour with new loads were cleaned up: those that come again are duplicates.
    A file that can't be read, or whose hour's archive can't, is left where it is and named in the result; the others
    are loaded.
    """
    known, loads = warehouse.known_loads(window), warehouse.loads(window)
    appended: list[LoadFacts] = []
    unreadable: list[str] = []
    sizes: collections.Counter[dt.datetime] = collections.Counter()
    for day, hours in itertools.groupby(window.hours(), key=dt.datetime.date):
        files, problems = _new_files(landing, hours, known)
        unreadable += problems
        if files:
            landing.mark_day(day)
        with _Redelivery(warehouse, archive, loads, files) as redelivery:
            for file in files:
                try:
                    redelivery.assert_known(file)
                    with landing.local_copy(file) as path:
                        appended.append(_append(warehouse, path, file, now))
                        sizes[file.load.hour] += path.stat().st_size
                except UnreadableLoadError as error:
                    unreadable.append(f"{landing.objects.uri}/{file.key}: {error}")
    return LoadedHours(tuple(appended), tuple(unreadable), sizes)


def _new_files(
    landing: Landing, hours: Iterable[dt.datetime], known: Collection[tuple[Load, bool]]
) -> tuple[list[LandedFile], list[str]]:
    """Files of these hours that aren't known, and what is wrong with the other hours."""
    files, problems = [], []
    for hour in hours:
        try:
            files += [file for file in landing.files(hour) if (file.load, file.rejected) not in known]
        except LandingError as error:
            problems.append(str(error))
    return files, problems


class _Redelivery:
    """While it is open, the warehouse knows the archived events of those hours of a day that new files belong to.

    The archive is read once for all of them, and only when events of such an hour were deleted.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        archive: Callable[[], Objects] | None,
        loads: Iterable[LoadFacts],
        files: Iterable[LandedFile],
    ) -> None:
        cleaned = {facts.load.hour for facts in loads if facts.deleted_rows}
        self._hours = cleaned & {file.load.hour for file in files if not file.rejected}
        self._warehouse, self._archive, self._loads = warehouse, archive, list(loads)
        self._problem: str | None = None

    def __enter__(self) -> Self:
        if self._hours:
            try:
                self._warehouse.remember_archived(deleted_ids(self._objects, self._hours, self._loads))
            except _NO_ARCHIVE as error:
                self._problem = f"not loaded: its hour was cleaned up, and the archive can't be read: {error}"
        return self

    def _objects(self) -> Objects:
        if self._archive is None:
            raise ArchiveRefusedError("there is none")
        return self._archive()

    def __exit__(self, *_: object) -> None:
        if self._hours:
            self._warehouse.forget_archived()

    def assert_known(self, file: LandedFile) -> None:
        """Raise UnreadableLoadError for a load of which nobody can say whether its events came before."""
        if self._problem and file.load.hour in self._hours and not file.rejected:
            raise UnreadableLoadError(self._problem)


class UnreadableLoadError(ValueError):
    """A file of the landing zone is no load in the event schema; one line."""


def _append(warehouse: Warehouse, path: pathlib.Path, file: LandedFile, now: dt.datetime) -> LoadFacts:
    if file.rejected:
        return warehouse.append_rejected(file.load, _rejected_lines(path), now)
    return warehouse.append_load(file.load, read_load(path, file), lambda events: digest_of(to_lines(events)), now)


def _rejected_lines(path: pathlib.Path) -> pl.DataFrame:
    with _damage(), pq.ParquetFile(path) as parquet:
        return _frame(parquet.read()).select("line_number", "raw", "reason", "source")


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turn what a reader says of a file that is no load into one line."""
    try:
        yield
    except _NO_LOAD as error:
        raise UnreadableLoadError(" ".join(str(error).split()) or type(error).__name__) from error


def _frame(data: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - narrows the type; a table is never a Series
    return frame


def read_load(path: pathlib.Path, file: LandedFile) -> Iterator[Chunk]:
    """The rows of a load in chunks, each row in one of the two frames.

    Raises UnreadableLoadError when the file is no load in the event schema.
    """
    source = pl.lit(file.key).alias("source")
    chunks = _parquet_chunks(path, file.load) if file.form == ".parquet" else _jsonl_chunks(path)
    with _damage():
        for events, rejected in chunks:
            inside = pl.col("event_time").is_between(*_bounds(file.load), closed="left")
            outside = events.filter(~inside)
            refused = pl.concat([rejected, _refused(outside, OUTSIDE)]).with_columns(source)
            identity = pl.concat_str(pl.lit(f"{file.load}-"), pl.col("line_number"))
            fresh = events.filter(inside).with_columns(pl.coalesce("event_id", identity).alias("event_id"))
            yield fresh.select(EVENT_NAMES).sort("event_time", "event_id"), refused.sort("line_number")


def _bounds(load: Load) -> tuple[dt.datetime, dt.datetime]:
    window = Window.of_hour(load.hour)
    return window.start, window.end


def _refused(events: pl.DataFrame, reason: str) -> pl.DataFrame:
    """Events that are no events after all, as rejected rows; their bytes are the row as JSON."""
    return events.select(
        "line_number",
        raw=pl.struct(EVENT_NAMES).struct.json_encode().cast(pl.Binary()),
        reason=pl.lit(reason),
    )


def _jsonl_chunks(path: pathlib.Path) -> Iterator[Chunk]:
    with open_source(path) as stream:
        for block in read_blocks(stream):
            parsed = _CANONICAL.parse_text(block)
            offset = block.first_line_number
            raw = pl.Series([block.raw(index) for index in parsed.rejected["index"]], dtype=pl.Binary())
            rejected = parsed.rejected.select(line_number=pl.col("index") + offset, raw=raw, reason="reason")
            yield parsed.events.with_columns(pl.col("line_number") + offset), rejected


def _parquet_chunks(path: pathlib.Path, load: Load) -> Iterator[Chunk]:
    # Arrow's reader, since a damaged file makes Polars' own abort the whole process.
    with pq.ParquetFile(path) as parquet:
        schema = _frame(parquet.schema_arrow.empty_table()).schema
        _refuse_other_schema(schema, load)
        offset = 0
        for batch in parquet.iter_batches(CHUNK_ROWS):
            batch.validate(full=True)  # text that is no UTF-8 would only fail inside the warehouse
            yield _chunk_of(_frame(batch), offset)
            offset += batch.num_rows


def _refuse_other_schema(schema: pl.Schema, load: Load) -> None:
    if missing := {"event_time", "path"} - set(schema.names()):
        raise UnreadableLoadError(f"load {load} has no column {' and no column '.join(sorted(missing))}")
    time = schema["event_time"]
    if not isinstance(time, pl.Datetime):
        raise UnreadableLoadError(f"load {load}: event_time is {time}, not a timestamp")


def _chunk_of(rows: pl.DataFrame, offset: int) -> Chunk:
    """Judge rows in the event schema, as far as they have it."""
    draft = rows.select(
        *(_cast(name, dtype, rows.schema[name]) for name, dtype in EVENT_SCHEMA.items() if name in rows.schema),
        index=pl.int_range(pl.len(), dtype=pl.Int64),
        reason=pl.lit(None, pl.String),
    )
    judged = judge(draft_of(draft))
    rejected = judged.rejected.select(
        line_number=pl.col("index") + (offset + 1),
        raw=rows[judged.rejected["index"]]
        .with_columns(cs.binary().bin.encode("base64"))  # JSON holds no bytes
        .select(pl.struct(pl.all()).struct.json_encode().cast(pl.Binary()))
        .to_series(),
        reason="reason",
    )
    return judged.events.with_columns(pl.col("line_number") + (offset + 1)), rejected


def _cast(name: str, dtype: pl.DataType, found: pl.DataType) -> pl.Expr:
    """A column in the event schema; what doesn't fit becomes NULL, and times with a zone become UTC."""
    column = pl.col(name)
    if isinstance(found, pl.Datetime) and found.time_zone:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.cast(dtype, strict=False)
