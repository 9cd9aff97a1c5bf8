"""Log files into the landing zone: each line an event, a rejected line, a header, or one that was ingested before.

A file is surveyed first, to its end: what it shares with files ingested before, and that it can be read at all.
Only then are its loads published, block by block, in bounded memory. The ids of events and loads come from where the
lines stand, so that a run that died is finished by the next one without doubling or losing a line.
"""

import collections
import concurrent.futures
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.parsed import LogFormat, parse_block
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES, PARSED_SCHEMA, REJECTED_SCHEMA
from pathstats_pipeline.intake.limits import CLOCK_NEVER_SET, reason_outside
from pathstats_pipeline.intake.lines import LineBlock, Source, SourceError, read_blocks
from pathstats_pipeline.intake.logfiles import LogFile
from pathstats_pipeline.intake.records import SourceRecords
from pathstats_pipeline.intake.sources import SHORT_BYTES, Segment, next_segments
from pathstats_pipeline.intake.spans import FirstBlock, parsed_span
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.storage.landing import Landing

SAMPLE_LINES: Final = 2_000
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
    """What became of a file's lines: accepted + rejected + headers + before + unfinished = lines.

    `headers` are lines that only tell how to read others; `unfinished` is 1 where the last line was left for the next
    time, since it may still be in the writing. `hours` are those that the file has loads in, also from earlier times;
    `first` and `last` are of the accepted.
    """

    name: str
    format_name: str = "-"
    accepted: int = 0
    rejected: int = 0
    headers: int = 0
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
        return self.taken + self.before + self.unfinished

    @property
    def taken(self) -> int:
        """The lines that were read this time."""
        return self.accepted + self.rejected + self.headers


def first_hour(settings: Settings) -> dt.datetime:
    """The first hour that events may lie in: the first partition's where it is set."""
    start = settings.start_date
    return dt.datetime.combine(start, dt.time()) if start else CLOCK_NEVER_SET


def ingest_files(log_files: Iterable[LogFile], intake: Intake) -> tuple[list[IngestReport], list[str]]:
    """Ingest files one by one; what became of those that can be read, and one line for each that can't."""
    reports, problems = [], []
    records = SourceRecords(intake.landing)
    records.refresh()
    for log_file in log_files:
        try:
            reports.append(ingest_file(log_file, intake, records))
        except SourceError as error:
            problems.append(str(error))
    return reports, problems


def ingest_file(log_file: LogFile, intake: Intake, records: SourceRecords | None = None) -> IngestReport:
    """Ingest what wasn't ingested before of a log file: plain, gzip or zstd, a local path or an object of a bucket.

    `records` are those of the landing zone, current; else they are read. Raises SourceError, having published nothing
    of it, when the file can't be read to its end or lies before the first partition for the most part.
    """
    if records is None:
        records = SourceRecords(intake.landing)
        records.refresh()
    with log_file.open() as stream, concurrent.futures.ThreadPoolExecutor(1) as beside:
        version, inode = stream.version, stream.inode
        head = _head(stream)
        known = records.alike(log_file.identity, inode, head)
        reading = records.readings.take(stream, head, [segment.end for segment in known])
        # What no record is like will be read: its first block is, while the survey is on its way to the end.
        looking = beside.submit(_format_of, log_file, intake) if head and not known and not reading.log_format else None
        beginning = reading.go_on(stream)
        records.readings.keep(reading)
        complete = intake.finished or stream.compressed
    # Asked last: what was written while it was read makes the end that was read uncertain.
    unfinished = beginning.is_cut and not complete and log_file.may_grow(intake.now)
    if unfinished:
        beginning = beginning.whole_lines()
    segments, before, hours = next_segments(log_file.identity, beginning, known, intake.now, inode)
    report = IngestReport(log_file.name, before=before, unfinished=int(unfinished), hours=frozenset(hours))
    if not segments:
        return report
    first = None
    if reading.log_format is None:
        reading.log_format, first = looking.result() if looking else _format_of(log_file, intake)
    for segment in segments:
        records.write(segment)
        with log_file.open() as stream:
            # Another file may stand in this place by now: logs are rotated, and objects put again.
            if stream.version != version:
                raise SourceError(f"{log_file.name}: was replaced while it was read; run again")
            report = _ingest_segment(stream, segment, (reading.log_format, first), intake, report, records)
    return report


def _head(stream: Source) -> bytes:
    """The first bytes of a file, by which the records that it may continue are found."""
    head = b""
    while len(head) < SHORT_BYTES and (data := stream.read(SHORT_BYTES - len(head))):
        head += data
    return head


def _format_of(log_file: LogFile, intake: Intake) -> tuple[LogFormat, FirstBlock | None]:
    with log_file.open() as stream:
        block = next(read_blocks(stream), None)
    log_format = intake.choose_format(block.lines.head(SAMPLE_LINES) if block else pl.Series([], dtype=pl.String))
    if block is None:
        return log_format, None
    parsed = parse_block(log_format, block)
    _refuse_if_too_early(log_file.name, parsed.events, intake.first_hour)
    return log_format, FirstBlock(block, parsed)


def _refuse_if_too_early(name: str, events: pl.DataFrame, first_hour: dt.datetime) -> None:
    early = events.filter(pl.col("event_time") < first_hour)
    if len(early) > TOO_EARLY_SHARE * len(events):
        first = early.select(pl.col("event_time").min()).item()
        raise SourceError(
            f"{name}: its events begin on {first:%Y-%m-%d}, before the first partition; nothing was ingested: "
            f"set PATHSTATS_START_DATE={first:%Y-%m-%d} or earlier (unset, it is {CLOCK_NEVER_SET:%Y-%m-%d})"
        )


def _ingest_segment(
    stream: Source,
    segment: Segment,
    read_by: tuple[LogFormat, FirstBlock | None],
    intake: Intake,
    report: IngestReport,
    records: SourceRecords,
) -> IngestReport:
    """Publish a segment's loads, then record that it is done."""
    log_format, first = read_by
    report = dataclasses.replace(report, format_name=log_format.name)
    earlier_lines = report.taken
    gatherer = _Gatherer(segment, intake.landing, segment.planned_at.replace(minute=0, second=0, microsecond=0))
    for block, parsed in parsed_span(stream, segment.start, segment.end, log_format, first):
        events, rejected = _judge(parsed.events, parsed.rejected, intake)
        report = _counted(report, events, rejected, parsed.headers.len())
        gatherer.add(_identified(events, segment, block), _rejected_rows(rejected, segment, block), intake.load_rows)
    gatherer.publish()
    lines = report.taken - earlier_lines
    done = dataclasses.replace(segment, lines=lines, hours=tuple(sorted(gatherer.hours)), done=True)
    records.write(done)
    return dataclasses.replace(report, loads=report.loads + gatherer.loads, hours=report.hours | gatherer.hours)


def _judge(events: pl.DataFrame, rejected: pl.DataFrame, intake: Intake) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Move the events that no partition can hold to the rejected lines."""
    reason = reason_outside(intake.first_hour, intake.now)
    if not events.select(reason.is_not_null().any()).item():
        return events, rejected
    moved = events.select(pl.col("line_number").alias("index"), reason.alias("reason")).filter(
        pl.col("reason").is_not_null()
    )
    return events.filter(reason.is_null()), pl.concat([rejected, moved]).sort("index")


def _counted(report: IngestReport, events: pl.DataFrame, rejected: pl.DataFrame, headers: int) -> IngestReport:
    reasons = report.reasons + collections.Counter(dict(rejected["reason"].value_counts().iter_rows()))
    first: dt.datetime | None
    last: dt.datetime | None
    first, last = events.select(first=pl.col("event_time").min(), last=pl.col("event_time").max()).row(0)
    return dataclasses.replace(
        report,
        accepted=report.accepted + len(events),
        rejected=report.rejected + len(rejected),
        headers=report.headers + headers,
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
    if len(keyed) and keyed["hour"].min() == keyed["hour"].max():
        yield keyed["hour"][0], events  # mostly so, and to take rows apart copies them
        return
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
