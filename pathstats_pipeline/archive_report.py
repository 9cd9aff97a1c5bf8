"""What the commands of the archive print: findings, how days stand. As report.py, which has the terminal."""

import collections
import datetime as dt
import json
import sys
from collections.abc import Iterable
from typing import Any, Final

import rich.table

from pathstats_pipeline import report
from pathstats_pipeline.archive.audit import Finding, Kind
from pathstats_pipeline.archive.lifecycle import Retention
from pathstats_pipeline.archive.recover import RecoveredDay
from pathstats_pipeline.archive.status import DayFacts, Status
from pathstats_pipeline.events.window import rfc3339


def audited(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding as it comes, then how many there are of each kind; all of them."""
    found = []
    for finding in findings:
        report.say(str(finding))
        found.append(finding)
    if len(found) > 1:
        counts = collections.Counter(finding.kind for finding in found)
        report.say(", ".join(f"{counts[kind]:,} {kind}" for kind in Kind if counts[kind]))
    return found


_DAY_COLUMNS: Final = ("received", "stored", "duplicates", "rejected", "live", "deleted", "archived", "waiting")


def status(found: Status, retention: Retention, *, form: str) -> None:
    """How every day stands, the sums, and what doesn't add up."""
    totals = found.totals()
    if form == "json":
        days = [_day_facts(day, found.now, retention) for day in found.days]
        answer = {**totals, "problems": found.problems(), "days": days}
        json.dump(answer, sys.stdout, indent=2, default=_in_json)
        sys.stdout.write("\n")
        return
    names = [*_DAY_COLUMNS, "generations", "unloaded"]
    table = rich.table.Table("day", "state", *map(report.right, names), "deletable from", "hold")
    for day in found.days:
        counts = (f"{getattr(day, name):,}" for name in names)
        due = day.deletable_from(retention)
        when = f"{due:%Y-%m-%d %H:%M}" if due else ""
        table.add_row(str(day.date), day.state(found.now).value, *counts, when, report.plain(day.hold or ""))
    report.show(table)
    received, stored, duplicates, rejected, live, deleted, archived_, waiting = (totals[name] for name in _DAY_COLUMNS)
    report.say(f"{received:,} received = {stored:,} stored + {duplicates:,} duplicates + {rejected:,} rejected")
    report.say(f"{stored:,} stored = {live:,} live + {deleted:,} archived and deleted")
    oldest = totals["oldest_unarchived_day"]
    report.say(f"{archived_:,} archived, {waiting:,} waiting" + (f", since {oldest}" if oldest else ""))
    if files := totals["unloaded"]:
        hour = totals["oldest_unloaded_hour"]
        report.say(f"{files:,} file(s) in the landing zone are not loaded, the oldest of {hour:%Y-%m-%d %H:%M}")


def _in_json(value: dt.date) -> str:
    return rfc3339(value) if isinstance(value, dt.datetime) else str(value)


def _day_facts(day: DayFacts, now: dt.datetime, retention: Retention) -> dict[str, Any]:
    facts = {"date": day.date, "state": day.state(now).value, "hold": day.hold, "loads": day.loads}
    facts["deletable_from"] = day.deletable_from(retention)
    return {**facts, **{name: getattr(day, name) for name in (*_DAY_COLUMNS, "generations", "unfinished", "unloaded")}}


def recovered(days: Iterable[RecoveredDay]) -> list[str]:
    """Each archived day of a lost warehouse as it is entered, or why it isn't; the latter, all of them."""
    problems, entered = [], 0
    for day in days:
        if day.problem is not None:
            problems.append(f"{day.date}: {day.problem}")
            report.say(f"{problems[-1]}: left as it was")
        elif day.generations:
            report.say(f"{day.date}: {day.generations} generation(s), {day.loads:,} load(s), {day.events:,} event(s)")
        entered += day.events
    report.say(f"{entered:,} archived event(s) entered in the ledger")
    return problems
