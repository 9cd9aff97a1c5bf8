"""Log files into the landing zone: each line an accepted event, a rejected line, or one that was ingested before.

A file is surveyed first, to its end: what it shares with files ingested before, and that it can be read at all.
Only then are its loads published, block by block, in bounded memory. The ids of events and loads come from where the
lines stand, so that a run that died is finished by the next one without doubling or losing a line.
"""

import collections
import dataclasses
import datetime as dt
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.parsed import LogFormat, ParsedLines
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES, PARSED_SCHEMA, REJECTED_SCHEMA
from pathstats_pipeline.events.window import naive_utc
from pathstats_pipeline.intake.lines import LineBlock, Source, SourceError, open_source, read_blocks
from pathstats_pipeline.intake.sources import Segment, next_segments, survey
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.landing import Landing

CLOCK_NEVER_SET: Final = dt.datetime(2000, 1, 2)  # noqa: DTZ001 - naive UTC
"""Clocks that were never set begin in 1970 or 2000; where no first partition is set, earlier lines are rejected."""
FUTURE_TOLERANCE: Final = dt.timedelta(days=1)
"""How far ahead of ours an event's clock may be; beyond, its line is rejected."""
SAMPLE_LINES: Final = 2_000
SETTLED_AFTER: Final = dt.timedelta(seconds=60)
"""Buffers of servers and log shippers are flushed sooner: a line that is still half after that stays half."""
LOAD_ROWS: Final = 1_000_000
"""Rows gathered before loads are published: it bounds memory and, with the file alone, decides where loads end."""
TOO_EARLY_SHARE: Final = 0.5
"""A file of which a larger share lies before the first partition is refused: a setting is wrong, not its lines."""

FormatChooser = Callable[[pl.Series], LogFormat]
"""Picks the format of a file from a sample of its lines."""


@dataclasses.dataclass(frozen=True)
class Intake:
    """Where and under which limits files are ingested; `first_hour` and `now` are naive UTC.

    `finished` says that nobody writes to the files any more: a last line without its line end is then a line, too.
    """

    landing: Landing
    first_hour: dt.datetime
    now: dt.datetime
    choose_format: FormatChooser
    load_rows: int = LOAD_ROWS
    finished: bool = False


@dataclasses.dataclass(frozen=True)
class IngestReport:
    """What became of a file's lines: accepted + rejected + before + unfinished = lines.

    `unfinished` is 1 where the last line was left for the next time, since it may still be in the writing.
    `hours` are those that the file has loads in, also from earlier times; `first` and `last` are of the accepted.
    """

    path: pathlib.Path
    format_name: str = "-"
    accepted: int = 0
    rejected: int = 0
    before: int = 0
    unfinished: int = 0
    loads: int = 0
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    hours: frozenset[dt.datetime] = frozenset()
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @property
    def lines(self) -> int:
        """All lines of the file."""
        return self.accepted + self.rejected + self.before + self.unfinished


def first_hour(settings: Settings) -> dt.datetime:
    """The first hour that events may lie in: the first partition's where it is set."""
    start = settings.start_date
    return dt.datetime.combine(start, dt.time()) if start else CLOCK_NEVER_SET


def ingest_files(paths: Iterable[pathlib.Path], intake: Intake) -> tuple[list[IngestReport], list[str]]:
    """Ingest files one by one; what became of those that can be read, and one line for each that can't."""
    reports, problems = [], []
    for path in paths:
        try:
            reports.append(ingest_file(path, intake))
        except SourceError as error:
            problems.append(str(error))
    return reports, problems


def ingest_file(path: pathlib.Path, intake: Intake) -> IngestReport:
    """Ingest what wasn't ingested before of a log file: plain, gzip or zstd.

    Raises SourceError, having published nothing of it, when the file can't be read to its end or lies before the
    first partition for the most part.
    """
    known = _known_segments(intake.landing)
    file = _file_of(path)
    with open_source(path) as stream:
        beginning = survey(stream, [segment.end for segment in known])
        unfinished = beginning.is_cut and not (intake.finished or stream.compressed or _is_settled(path, intake.now))
    if unfinished:
        beginning = beginning.whole_lines()
    segments, before, hours = next_segments(_source_path(path), beginning, known, intake.now)
    report = IngestReport(path, before=before, unfinished=int(unfinished), hours=frozenset(hours))
    if not segments:
        return report
    reader = _reader_of(path, intake)
    for segment in segments:
        intake.landing.objects.put(segment.key, segment.to_json())
        with open_source(path) as stream:
            # Whoever rotates logs may have put another file in this place, since this one was surveyed.
            if _file_of(path) != file:
                raise SourceError(f"{path}: was replaced while it was read; run again")
            report = _ingest_segment(stream, segment, reader, intake, report)
    return report


def _is_settled(path: pathlib.Path, now: dt.datetime) -> bool:
    """Whether nobody has written to a file for a while; a clock that is far off settles it, too."""
    written = naive_utc(dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC))
    return abs(now - written) > SETTLED_AFTER


def _file_of(path: pathlib.Path) -> tuple[int, int]:
    """Which file stands at a path, whatever is in it."""
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    return status.st_dev, status.st_ino


def _known_segments(landing: Landing) -> list[Segment]:
    return [Segment.from_json(landing.objects.get(key) or b"") for key in landing.objects.list("_sources/")]


def _source_path(path: pathlib.Path) -> str:
    """The path by which a short file is known, the same before and after it is compressed."""
    resolved = str(path.resolve())
    return resolved.removesuffix(".gz").removesuffix(".zst")


class _Reader:
    """Reads blocks by the format of a file; what was made of its first block is kept until that one comes again."""

    def __init__(self, log_format: LogFormat, first: tuple[pl.Series, ParsedLines] | None) -> None:
        self.format_name = log_format.name
        self._format = log_format
        self._first = first

    def parse(self, lines: pl.Series) -> ParsedLines:
        first, self._first = self._first, None
        return first[1] if first and first[0].equals(lines) else self._format.parse(lines)


def _reader_of(path: pathlib.Path, intake: Intake) -> _Reader:
    with open_source(path) as stream:
        block = next(read_blocks(stream), None)
    log_format = intake.choose_format(block.lines.head(SAMPLE_LINES) if block else pl.Series([], dtype=pl.String))
    if block is None:
        return _Reader(log_format, None)
    parsed = log_format.parse(block.lines)
    _refuse_if_too_early(path, parsed.events, intake.first_hour)
    return _Reader(log_format, (block.lines, parsed))


def _refuse_if_too_early(path: pathlib.Path, events: pl.DataFrame, first_hour: dt.datetime) -> None:
    early = events.filter(pl.col("event_time") < first_hour)
    if len(early) > TOO_EARLY_SHARE * len(events):
        first = early.select(pl.col("event_time").min()).item()
        raise SourceError(
            f"{path}: its events begin on {first:%Y-%m-%d}, before the first partition; nothing was ingested: "
            f"set PATHSTATS_START_DATE={first:%Y-%m-%d} or earlier (unset, it is {CLOCK_NEVER_SET:%Y-%m-%d})"
        )


def _ingest_segment(
    stream: Source, segment: Segment, reader: _Reader, intake: Intake, report: IngestReport
) -> IngestReport:
    """Publish a segment's loads, then record that it is done."""
    report = dataclasses.replace(report, format_name=reader.format_name)
    earlier_lines = report.accepted + report.rejected
    gatherer = _Gatherer(segment, intake.landing, segment.planned_at.replace(minute=0, second=0, microsecond=0))
    for block in read_blocks(_span(stream, segment)):
        parsed = reader.parse(block.lines)
        events, rejected = _judge(parsed.events, parsed.rejected, intake)
        report = _counted(report, events, rejected)
        gatherer.add(_identified(events, segment, block), _rejected_rows(rejected, segment, block), intake.load_rows)
    gatherer.publish()
    lines = report.accepted + report.rejected - earlier_lines
    done = dataclasses.replace(segment, lines=lines, hours=tuple(sorted(gatherer.hours)), done=True)
    intake.landing.objects.put(done.key, done.to_json())
    return dataclasses.replace(report, loads=report.loads + gatherer.loads, hours=report.hours | gatherer.hours)


def _span(stream: Source, segment: Segment) -> "_Limited":
    """The bytes of a segment. Skipping reads, since compressed streams can't seek."""
    left = segment.start
    while left:
        left -= len(_read(stream, min(left, 1 << 20)))
    return _Limited(stream, segment.end - segment.start)


def _read(stream: Source, size: int) -> bytes:
    """Bytes that the survey has seen; raises SourceError when they aren't there any more."""
    if data := stream.read(size):
        return data
    raise SourceError(f"{stream.name}: was cut short while it was read; run again")


class _Limited:
    """At most so many bytes of a stream: a file that grows while it is read is read as it was surveyed.

    Reading gives less than was asked for only at the end: where blocks end decides where loads end.
    """

    def __init__(self, stream: Source, limit: int) -> None:
        self.name = stream.name
        self._stream = stream
        self._left = limit

    def read(self, size: int, /) -> bytes:
        """The next bytes, as they come from the stream where it gives them at once."""
        wanted = min(size, self._left)
        self._left -= wanted
        pieces = []
        while wanted:
            pieces.append(_read(self._stream, wanted))
            wanted -= len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _judge(events: pl.DataFrame, rejected: pl.DataFrame, intake: Intake) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Move the events that no partition can hold to the rejected lines."""
    latest = intake.now + FUTURE_TOLERANCE
    early, late = pl.col("event_time") < intake.first_hour, pl.col("event_time") > latest
    if not len(events) or not events.select((early | late).any()).item():
        return events, rejected
    reason = (
        pl.when(early)
        .then(pl.lit(f"before the first partition ({intake.first_hour:%Y-%m-%d})"))
        .otherwise(pl.lit("more than a day in the future"))
    )
    moved = events.filter(early | late).select(pl.col("line_number").alias("index"), reason.alias("reason"))
    return events.filter(~(early | late)), pl.concat([rejected, moved]).sort("index")


def _counted(report: IngestReport, events: pl.DataFrame, rejected: pl.DataFrame) -> IngestReport:
    reasons = report.reasons + collections.Counter(dict(rejected["reason"].value_counts().iter_rows()))
    first: dt.datetime | None
    last: dt.datetime | None
    first, last = events.select(first=pl.col("event_time").min(), last=pl.col("event_time").max()).row(0)
    return dataclasses.replace(
        report,
        accepted=report.accepted + len(events),
        rejected=report.rejected + len(rejected),
        reasons=reasons,
        first=min(filter(None, (report.first, first)), default=None),
        last=max(filter(None, (report.last, last)), default=None),
    )


def _identified(events: pl.DataFrame, segment: Segment, block: LineBlock) -> pl.DataFrame:
    """The events with their line numbers in the file and, where the producer gave none, their ids."""
    line_number = pl.col("line_number") + (segment.first_line + block.first_line_number - 1)
    identity = pl.format(f"{segment.source_id}-{{}}", line_number)
    return events.with_columns(line_number.alias("line_number"), pl.coalesce("event_id", identity).alias("event_id"))


def _rejected_rows(rejected: pl.DataFrame, segment: Segment, block: LineBlock) -> pl.DataFrame:
    raw = [block.raw(index) for index in rejected["index"]]
    return rejected.select(
        line_number=pl.col("index") + (segment.first_line + block.first_line_number - 1),
        raw=pl.Series(raw, dtype=pl.Binary()),
        reason="reason",
    )


class _Gatherer:
    """Gathers the rows of a segment and publishes them as loads, one for each hour that they touch."""

    def __init__(self, segment: Segment, landing: Landing, fallback_hour: dt.datetime) -> None:
        self._segment = segment
        self._landing = landing
        self._hour = fallback_hour
        self._events: list[pl.DataFrame] = []
        self._rejected: list[pl.DataFrame] = []
        self._rows = 0
        self._part = 0
        self.loads = 0
        self.hours: set[dt.datetime] = set()

    def add(self, events: pl.DataFrame, rejected: pl.DataFrame, load_rows: int) -> None:
        """Take a block's rows; publish when enough have come together."""
        self._events.append(events)
        self._rejected.append(rejected)
        self._rows += len(events) + len(rejected)
        if self._rows >= load_rows:
            self.publish()

    def publish(self) -> None:
        """Publish what was gathered. A load that is there already was published by a run that died."""
        events = pl.concat(self._events or [pl.DataFrame(schema=PARSED_SCHEMA)])
        rejected = pl.concat(self._rejected or [pl.DataFrame(schema=REJECTED_SCHEMA)])
        hours = events.select("line_number", hour=pl.col("event_time").dt.truncate("1h"))
        for hour, rows in _by_hour(events):
            self._landing.mark_day(hour.date())
            self._landing.publish(self._load(hour), rows.select(EVENT_NAMES).sort("event_time", "event_id"))
            self.loads += 1
            self.hours.add(hour)
        for hour, rows in _by_hour_before(rejected, hours, self._hour):
            source = pl.lit(self._segment.path).alias("source")
            self._landing.mark_day(hour.date())
            self._landing.publish(self._load(hour), rows.with_columns(source), rejected=True)
            self.hours.add(hour)
        if len(hours):
            self._hour = hours.select(pl.col("hour").last()).item()
        self._events, self._rejected, self._rows = [], [], 0
        self._part += 1

    def _load(self, hour: dt.datetime) -> Load:
        segment = self._segment
        return Load(hour, f"{segment.source_id}-{hour:%Y%m%d%H}-{segment.end}-{self._part:04d}")


def _by_hour(events: pl.DataFrame) -> Iterator[tuple[dt.datetime, pl.DataFrame]]:
    keyed = events.with_columns(hour=pl.col("event_time").dt.truncate("1h"))
    for (hour,), rows in keyed.partition_by("hour", as_dict=True).items():
        yield hour, rows


def _by_hour_before(
    rejected: pl.DataFrame, hours: pl.DataFrame, fallback: dt.datetime
) -> Iterator[tuple[dt.datetime, pl.DataFrame]]:
    """Rejected lines by the hour of the accepted line before them, since they have no time of their own."""
    keyed = rejected.join_asof(hours.sort("line_number"), on="line_number").with_columns(
        pl.col("hour").fill_null(hours["hour"].first() or fallback)
    )
    for (hour,), rows in keyed.partition_by("hour", as_dict=True).items():
        yield hour, rows.drop("hour")
