"""From a batch of messages to the loads that it will be in the landing zone. Pure: nothing is written here.

An event's id is its producer's or, where there is none, the message and the line that it stands in, so it is the same
whenever the message comes again. Events of a batch are one load for each hour, named by this very delivery: whoever
takes such a load back takes nothing that another consumer relies on, who got the same messages. Rejected lines are a
load for each message: they have no ids that would tell when they come again, but the load that holds them is then the
same.
"""

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.intake.limits import reason_outside
from pathstats_pipeline.intake.messages import MESSAGE, Content, Message, Parsed, parse

_HOUR = "hour"


@dataclasses.dataclass(frozen=True)
class PlannedLoad:
    """A load to publish, and the messages (by their places in the batch) that have rows in it."""

    load: Load
    rows: pl.DataFrame
    messages: frozenset[int]
    rejected: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a batch will be: its loads, without what its `barren` messages hold, which have not one event; and why."""

    loads: tuple[PlannedLoad, ...]
    barren: Mapping[int, str]


def plan(batch: Sequence[tuple[Message, Content]], source: str, first_hour: dt.datetime, now: dt.datetime) -> Plan:
    """The loads of messages that hold lines. The same deliveries give the same loads, in whatever order they come.

    `source` names the queue, for rejected lines; `first_hour` and `now` (naive UTC) are the limits of an event's time.
    """
    parsed = _within(parse([content for _, content in batch]), first_hour, now)
    barren = parsed.barren()
    fertile = ~pl.col(MESSAGE).is_in(sorted(barren))
    events, rejected = parsed.events.filter(fertile), parsed.rejected.filter(fertile)
    name = _digest(sorted(message.receipt for at, (message, _) in enumerate(batch) if at not in barren))
    hours = pl.col("event_time").dt.truncate("1h").alias(_HOUR)
    loads = [
        *_event_loads(events.with_columns(hours, event_id=_ids(batch)), name),
        *_rejected_loads(rejected, events.group_by(MESSAGE).agg(hours.min()), batch, source),
    ]
    return Plan(tuple(loads), barren)


def _within(parsed: Parsed, first_hour: dt.datetime, now: dt.datetime) -> Parsed:
    """Move the events that no partition can hold to the rejected lines."""
    reason = reason_outside(first_hour, now).alias("reason")
    moved = parsed.events.select(MESSAGE, "line_number", reason).filter(pl.col("reason").is_not_null())
    return Parsed(parsed.events.filter(reason.is_null()), pl.concat([parsed.rejected, moved]))


def _ids(batch: Sequence[tuple[Message, Content]]) -> pl.Expr:
    identities = pl.lit(pl.Series([message.identity for message, _ in batch], dtype=pl.String()))
    return pl.coalesce("event_id", pl.format("sqs-{}-{}", identities.gather(pl.col(MESSAGE)), pl.col("line_number")))


def _event_loads(events: pl.DataFrame, name: str) -> Iterator[PlannedLoad]:
    for (hour,), rows in events.partition_by(_HOUR, as_dict=True).items():
        load = Load(hour, f"sqs-{name}-{hour:%Y%m%d%H}")
        yield PlannedLoad(
            load, rows.select(EVENT_NAMES).sort("event_time", "event_id"), frozenset(rows[MESSAGE].unique())
        )


def _rejected_loads(
    rejected: pl.DataFrame, hours: pl.DataFrame, batch: Sequence[tuple[Message, Content]], source: str
) -> Iterator[PlannedLoad]:
    """Rejected lines, in the first hour that their message has an event of, since they have no time of their own."""
    hour_of = dict(hours.iter_rows())
    for (at,), lines in rejected.sort("line_number").partition_by(MESSAGE, as_dict=True).items():
        message, content = batch[at]
        rows = lines.select(
            "line_number",
            raw=pl.Series([content.lines[number - 1] for number in lines["line_number"]], dtype=pl.Binary()),
            reason="reason",
            source=pl.lit(f"{source}/{message.identity}"),
        )
        hour = hour_of[at]
        yield PlannedLoad(
            Load(hour, f"sqs-{_digest([message.identity])}-{hour:%Y%m%d%H}"), rows, frozenset([at]), rejected=True
        )


def _digest(identities: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("\n".join(identities).encode()).hexdigest()[:16]
