"""Simulated days under the real daemon: files land, the clock is set, automation does the rest.

`python -m faults.fortnight` prints what ran when. In it: an hour that fills, a late load of an archived day, a power
cut in the middle of a run, a run whose process is killed, a daemon that was down for two days, a clock that jumps back.
"""

import argparse
import collections
import dataclasses
import datetime as dt
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Final

import dagster as dg
import duckdb
from daemons import Site, site
from landed import land_at

from pathstats_pipeline.archive.day import manifests_of
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import DAY, HOUR, Window
from pathstats_pipeline.storage.local_s3 import LocalS3

HOT_DAYS: Final = 2
EVENTS_A_LOAD: Final = 20
_MINUTE: Final = dt.timedelta(minutes=1)


@dataclasses.dataclass
class Days:
    """What was done to a site so far, and what ran."""

    here: Site
    first: dt.datetime
    landed_until: dt.datetime
    loads: list[Load] = dataclasses.field(default_factory=list)
    built_again: set[dt.datetime] = dataclasses.field(default_factory=set)
    """Hours that are built more than once, for a reason."""
    seen: set[str] = dataclasses.field(default_factory=set)

    def land(self, load: Load) -> None:
        """A load lands."""
        land_at(str(self.here.shell.home / "landing"), load, EVENTS_A_LOAD)
        self.loads.append(load)

    def go_to(self, now: dt.datetime) -> None:
        """It is later: the files of the hours that are over have landed."""
        while self.landed_until + HOUR <= now:
            self.land(Load(self.landed_until, "whole"))
            self.landed_until += HOUR
        self.here.set_clock(now)

    def step(self, now: dt.datetime) -> Iterator[str]:
        """It is later, and automation has done what it had to: the lines of the table."""
        self.go_to(now)
        self.here.settle()
        yield from self.ran(now)

    def ran(self, now: dt.datetime) -> Iterator[str]:
        """The runs that weren't seen before."""
        for run in sorted(self.here.instance.get_runs(), key=lambda run: run.tags.get("pathstats/due", "")):
            if run.run_id not in self.seen:
                self.seen.add(run.run_id)
                yield f"{now:%a %d %H:%M}  {run.job_name:<8} {_partitions(run):<36} {run.status.value}"

    def power_cut(self, now: dt.datetime) -> Iterator[str]:
        """The power goes while a run is at it, and comes back."""
        self.go_to(now)
        end = time.monotonic() + 120
        started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        while not (runs := self.here.instance.get_runs(started)):
            assert time.monotonic() < end, "no run ever started"
            time.sleep(0.05)
        self.here.kill()
        self.here.start()
        yield f"{now:%a %d %H:%M}  the power is cut while {len(runs)} run(s) are at it"
        self.here.settle()
        lines = list(self.ran(now))
        yield from lines
        assert any("FAILURE" in line for line in lines), "the cut came too late to hurt anybody"
        self.built_again |= set(Window(self.landed_until.replace(hour=0), self.landed_until).hours())

    def worker_killed(self, now: dt.datetime) -> Iterator[str]:
        """The process of a run is killed, which holds the warehouse, or waits for it; all else lives on."""
        self.go_to(now)
        run_id = self.here.kill_a_worker()
        yield f"{now:%a %d %H:%M}  the process of a run is killed"
        self.here.settle()
        yield from self.ran(now)
        killed = self.here.instance.get_run_by_id(run_id)
        assert killed is not None
        assert killed.status is dg.DagsterRunStatus.FAILURE
        self.built_again |= set(Window(self.landed_until.replace(hour=0), self.landed_until).hours())


def _partitions(run: dg.DagsterRun) -> str:
    first = run.tags.get("dagster/asset_partition_range_start")
    return run.tags.get("dagster/partition") or f"{first} to {run.tags.get('dagster/asset_partition_range_end')}"


def live(here: Site, first_day: dt.date, days: int) -> Iterator[str]:
    """Live through so many days; what ran when."""
    first = Window.of_day(first_day).start
    story = Days(here, first, first)
    here.set_clock(first)
    here.start()
    for number in range(days):
        midnight = first + number * DAY
        noon, night = midnight + 12 * HOUR + 3 * _MINUTE, midnight + 26 * HOUR + 3 * _MINUTE
        if number == 0:
            story.land(Load(midnight + 6 * HOUR, "part"))
            story.built_again.add(midnight + 6 * HOUR)
            yield from story.step(midnight + 6 * HOUR + 30 * _MINUTE)
        if number == 2:
            story.land(Load(first + 5 * HOUR, "late"))
            story.built_again.add(first + 5 * HOUR)
        if number == 5:
            here.stop()
            yield f"{noon:%a %d %H:%M}  the daemon is down"
        if number == 7:
            story.go_to(noon)
            here.start()
            yield f"{noon:%a %d %H:%M}  the daemon is up again"
        if number == 9:
            story.here.set_clock(midnight - 40 * HOUR)
            here.settle()
            yield f"{midnight:%a %d %H:%M}  the clock was 40 hours behind"
            assert not list(story.ran(midnight))
        if number in {5, 6}:
            story.go_to(night)
        elif number in {1, 2}:
            yield from story.power_cut(noon) if number == 1 else story.worker_killed(noon)
            yield from story.step(night)
        else:
            yield from story.step(noon)
            yield from story.step(night)
    yield from judge(story, days)


def judge(story: Days, days: int) -> Iterator[str]:
    """Every hour, day, archive, manifest and clean-up exactly once, no event lost; else an AssertionError."""
    here, first = story.here, story.first
    dates = [(first + number * DAY).date() for number in range(days)]
    cleaned = [date for date in dates if (dates[-1] + DAY - date).days >= HOT_DAYS]
    hours = collections.Counter(here.materializations("path_stats_hourly"))
    expected = {f"{hour:%Y-%m-%d-%H:%M}" for hour in Window(first, story.landed_until).hours()}
    assert set(hours) == expected, sorted(expected ^ set(hours))
    again = {f"{hour:%Y-%m-%d-%H:%M}" for hour in story.built_again}
    assert {key for key, count in hours.items() if count > 1} <= again, hours.most_common(5)
    late = str(dates[0])
    for asset, due in (
        ("path_stats_daily", dates),
        ("events_archive", dates),
        ("archive_metadata", dates),
        ("events_cleanup", cleaned),
    ):
        counts = collections.Counter(here.materializations(asset))
        # The first day got a late load: another roll-up, another generation, another clean-up.
        assert counts == {str(date): 1 + (str(date) == late) for date in due}, (asset, counts)
    generations = {date: [each.rows for each in manifests_of(here.objects, date)] for date in dates}
    a_day = 24 * EVENTS_A_LOAD
    assert generations == {
        date: [a_day + EVENTS_A_LOAD, EVENTS_A_LOAD] if date == dates[0] else [a_day] for date in dates
    }
    with duckdb.connect(str(here.shell.warehouse), read_only=True) as warehouse:
        [(requests,)] = warehouse.execute("SELECT sum(requests) FROM pathstats.path_stats_hourly").fetchall()
        [(live_rows,)] = warehouse.execute("SELECT count(*) FROM pathstats.traffic_events").fetchall()
    archived_and_gone = sum(sum(generations[date]) for date in cleaned)
    assert requests == len(story.loads) * EVENTS_A_LOAD == archived_and_gone + live_rows
    yield (
        f"{len(hours)} hours, {days} roll-ups, {days + 1} archives with a manifest each, {len(cleaned)} days cleaned "
        f"up: each once; {requests} events, none lost or doubled"
    )


def main() -> None:
    """Print the table; what doesn't hold ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m faults.fortnight", description=__doc__)
    parser.add_argument("--days", type=int, default=14)
    days = parser.parse_args().days
    with tempfile.TemporaryDirectory(prefix="pathstats-fortnight-") as folder:
        root = pathlib.Path(folder)
        first_day = dt.datetime.now(dt.UTC).date() - (days + 2) * DAY
        with (
            LocalS3(root / "s3").in_use() as server,
            site(root / "site", server, first_day, HOT_DAYS=str(HOT_DAYS)) as here,
        ):
            for line in live(here, first_day, days):
                print(line, flush=True)


if __name__ == "__main__":
    main()
