"""M10: refused in doubt, in one line, with nothing written and nothing deleted. Whoever asks must first mend something.

The same day for all of them, ready to be archived or archived already; what is wrong is one thing each.
"""

import contextlib
import dataclasses
import datetime as dt
import json
import pathlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from s3.faults import Fault
from s3.stores import Strict, client_of
from s3.strict_server import strict_server

from pathstats_pipeline import terminal
from pathstats_pipeline.archive.cleanup import CleanupRefusedError, clean_day, plan_cleanup
from pathstats_pipeline.archive.day import Archiver
from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError, Retention
from pathstats_pipeline.archive.manifest import ManifestError
from pathstats_pipeline.archive.publish import ArchiveError
from pathstats_pipeline.cli import cli
from pathstats_pipeline.defs.resources import Clock
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import HOUR, Window
from pathstats_pipeline.storage.duck import WarehouseError
from pathstats_pipeline.storage.objects import ObjectsError, S3Objects

from .fake_objects import FakeObjects
from .worlds import BATCH_ROWS, CLAIMANT, DAY, NOW, RETENTION, SMALL, WINDOW, World, events, hour_of, world

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def here(tmp_path: pathlib.Path) -> Iterator[World]:
    """A day that is ready to be archived."""
    with world(tmp_path / "home", FakeObjects()) as ready:
        ready.bring(0, "a", 20)
        ready.bring(5, "b", 15)
        ready.build_statistics()
        yield ready


def stored(here: World) -> dict[str, bytes | None]:
    """What the store holds, without asking it."""
    assert isinstance(here.objects, FakeObjects)
    return {key: body for key, body in here.objects.stored.items() if not key.startswith("claims/")}


@contextlib.contextmanager
def refused(here: World, kind: type[Exception], match: str) -> Iterator[None]:
    """What is done here is refused in one line; neither an object, a landing file nor an event is changed."""
    before, landed = stored(here), here.landing.hours(DAY)
    with pytest.raises(kind, match=match) as caught:
        yield
    assert len(str(caught.value).splitlines()) == 1
    assert stored(here) == before
    assert here.landing.hours(DAY) == landed
    assert here.hot() == here.accepted
    assert sum(facts.deleted_rows for facts in here.warehouse.loads(WINDOW)) == 0


def clean(here: World, now: dt.datetime = NOW, retention: Retention = RETENTION) -> None:
    """The day is cleaned up, by that clock."""
    verdict = plan_cleanup(here.warehouse, here.objects, DAY, now, retention)
    clean_day(here.warehouse, here.objects, here.landing, verdict, DAY, BATCH_ROWS, lambda: now)


def archive_at(here: World, now: dt.datetime) -> None:
    """The day is archived, by that clock."""
    Archiver(here.warehouse, here.objects, SMALL, lambda: now, "0.0-test", CLAIMANT).archive(DAY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_BUCKET", ""),
        ("S3_BUCKET", "  "),
        ("S3_BUCKET", "UPPER_case"),
        ("HOT_DAYS", ""),
        ("HOT_DAYS", "-1"),
        ("HOT_DAYS", "soon"),
        ("CLEANUP_GRACE_HOURS", "-0.1"),
        ("CLEANUP_GRACE_HOURS", "inf"),
        ("CLEANUP_GRACE_HOURS", "nan"),
        ("CLEANUP_BATCH_ROWS", "0"),
        ("ARCHIVE_MULTIPART_MB", "100MB"),
        ("S3_PREFIX", "a/../b"),
    ],
)
@pytest.mark.parametrize("command", ["archive", "cleanup"])
def test_m10_settings_that_make_no_sense(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, command: str
) -> None:
    """M10: a blank bucket or a value that can't be: one line with the variable; not even the home is made."""
    monkeypatch.setenv("PATHSTATS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(f"PATHSTATS_{name}", value)
    answer = CliRunner().invoke(cli, [command, str(DAY)])
    assert answer.exit_code != 0
    assert len(str(answer.exception).splitlines()) == 1
    assert f"PATHSTATS_{name}={value!r}" in str(answer.exception)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("early", [dt.timedelta(microseconds=1), MINUTE, 12 * HOUR, 24 * HOUR])
def test_m10_a_day_that_is_not_closed(here: World, early: dt.timedelta) -> None:
    """M10: until the last microsecond of the day is past; also by a clock that is a day behind."""
    with refused(here, ArchiveRefusedError, "is not over: it can be archived from 2026-11-21 00:00:00 UTC on"):
        archive_at(here, WINDOW.end - early)
    assert here.warehouse.generation_records(DAY) == []


@pytest.fixture(params=["America/New_York", "<-05>5", "<+14>-14", "Pacific/Apia"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A zone that the process thinks in."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


# New York's days of 23 and of 25 hours, and one of 24.
@pytest.mark.parametrize("day", [dt.date(2026, 3, 8), dt.date(2026, 11, 1), DAY])
def test_m10_a_day_is_a_day_of_utc_wherever_the_host_stands(tmp_path: pathlib.Path, zone: str, day: dt.date) -> None:
    """M10: it is over when UTC says so and not a microsecond before, and has 24 hours, each with its events."""
    assert time.tzname[0] not in {"UTC", "GMT"}, zone
    start, end = Window.of_day(day).start, Window.of_day(day).end
    objects, bounds = FakeObjects(), []
    with world(tmp_path, objects) as there:
        for number in range(24):
            load = Load(start + number * HOUR, "x")
            frame = events(load, 3)
            bounds += frame["event_time"].to_list()
            there.warehouse.append_load(load, [(frame, pl.DataFrame())], lambda part: digest_of(to_lines(part)), end)
        for moment in (end - dt.timedelta(microseconds=1), end):
            archiver = Archiver(there.warehouse, objects, SMALL, lambda now=moment: now, "0.0-test", CLAIMANT)  # type: ignore[misc]
            if moment < end:
                with pytest.raises(ArchiveRefusedError, match=f"is not over: it can be archived from {end} UTC on"):
                    archiver.archive(day)
                assert objects.stored == {}
        [manifest] = archiver.archive(day)
    assert (manifest.rows, manifest.first_event_time, manifest.last_event_time) == (72, min(bounds), max(bounds))
    assert [span.hour for span in manifest.hours] == list(range(24))


def test_m10_the_clocks_are_utc_wherever_the_host_stands(zone: str) -> None:
    """M10: what the commands and the assets take for now is UTC's."""
    for clock in (terminal.now, Clock().now):
        utc = dt.datetime.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)
        assert abs(clock() - utc) < MINUTE, zone


@pytest.mark.parametrize("ahead", [MINUTE, 24 * HOUR, 24 * 365 * HOUR])
def test_m10_a_verification_that_lies_in_the_future(here: World, ahead: dt.timedelta) -> None:
    """M10: the clock is behind the one that verified: nobody knows which is right, and clean-up waits."""
    archive_at(here, NOW + ahead)
    verdict = plan_cleanup(here.warehouse, here.objects, DAY, NOW, RETENTION)
    assert verdict.waiting
    with refused(here, CleanupRefusedError, "was verified at .* it may go from"):
        clean(here)
    clean(here, NOW + ahead)
    here.assert_invariants(cleaned=True)


@pytest.fixture(scope="module")
def strict() -> Iterator[Strict]:
    """A bucket on the strict server."""
    with strict_server() as server:
        yield Strict(server, S3Objects(client_of(server.endpoint_url), f"b-{uuid.uuid4().hex[:12]}", "archive"))


@pytest.mark.parametrize(
    ("fault", "match"), [(Fault.SKEWED, "RequestTimeTooSkewed"), (Fault.FORBIDDEN, "AccessDenied")]
)
@pytest.mark.parametrize("archived", [False, True])
def test_m10_a_listing_that_is_denied(
    tmp_path: pathlib.Path, strict: Strict, fault: Fault, match: str, *, archived: bool
) -> None:
    """M10: 403 is no empty listing: nothing is archived anew, nothing deleted; so S3 ends a clock that is a day off."""
    strict.bucket.objects.clear()
    with world(tmp_path, strict.objects) as there:
        there.bring(0, "a", 20)
        there.build_statistics()
        if archived:
            there.archive()
        before = strict.kept()
        strict.seen.clear()
        strict.fail(fault, "List")
        for step in (there.archive, there.clean):
            with pytest.raises(ObjectsError, match=match) as caught:
                step()
            assert len(str(caught.value).splitlines()) == 1
        assert set(strict.server.verbs()) == {"List"}
        strict.heal()
        assert strict.kept() == before
        assert there.hot() == there.accepted
        assert len(there.archive()) == 1
        there.clean()
        there.assert_invariants(cleaned=True)


@pytest.mark.parametrize("cleaned", [False, True])
def test_m10_a_listing_that_hides_what_was_committed(here: World, *, cleaned: bool) -> None:
    """M10: a manifest that was recorded isn't there: neither archived anew nor deleted by."""
    here.archive()
    if cleaned:
        clean(here)
    assert isinstance(here.objects, FakeObjects)
    manifest = here.objects.stored.pop(manifest_key(DAY, 1))
    before = dict(here.objects.stored)
    with pytest.raises(ArchiveRefusedError, match="g0001 was committed, but its manifest is not there"):
        here.archive()
    with pytest.raises(CleanupRefusedError, match="it is not archived"):
        clean(here)
    assert here.objects.stored == before
    here.objects.stored[manifest_key(DAY, 1)] = manifest
    here.assert_invariants(cleaned=cleaned)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM pathstats.traffic_events WHERE event_id = 'a-0-3'",
        "UPDATE pathstats.traffic_events SET status = 500 WHERE event_id = 'a-0-3'",
        "INSERT INTO pathstats.traffic_events SELECT * REPLACE ('x' AS event_id) FROM pathstats.traffic_events LIMIT 1",
    ],
    ids=["one fewer", "one changed", "one more"],
)
@pytest.mark.parametrize("archived", [False, True])
def test_m10_the_warehouse_and_its_ledger_disagree(here: World, sql: str, *, archived: bool) -> None:
    """M10: as many rows as the ledger says, and the same ones; else nothing is published, and nothing deleted."""
    if archived:
        here.archive()
    before = stored(here)
    here.warehouse._run(sql)
    changed = here.hot()
    words = r"holds other events of load .* nothing was deleted" if archived else "nothing was archived"
    with pytest.raises((ArchiveError, CleanupRefusedError), match=words) as caught:
        clean(here) if archived else here.archive()
    assert len(str(caught.value).splitlines()) == 1
    assert (stored(here), here.hot()) == (before, changed)


def test_m10_statistics_are_missing(here: World) -> None:
    """M10: the archive needs none; clean-up does."""
    here.archive()
    here.warehouse._run("DELETE FROM pathstats.path_stats_hourly WHERE hour = ?", (hour_of(5),))
    with refused(here, CleanupRefusedError, "statistics of 05:00 count 0 requests of 15 archived events"):
        clean(here)


@pytest.mark.parametrize("hot_days", [6, 30, 3660])
def test_m10_a_hot_window_that_has_grown(here: World, hot_days: int) -> None:
    """M10: a day that might have gone yesterday is left alone from now on."""
    here.archive()
    assert plan_cleanup(here.warehouse, here.objects, DAY, NOW, RETENTION).rows == 35
    with refused(here, CleanupRefusedError, f"is within the hot window of {hot_days} day"):
        clean(here, retention=dataclasses.replace(RETENTION, hot_days=hot_days))


def test_m10_a_day_on_hold(here: World) -> None:
    """M10: whatever else says that it may go."""
    here.archive()
    here.warehouse.hold(DAY, "a court wants it", NOW)
    with refused(here, CleanupRefusedError, "is on hold: a court wants it"):
        clean(here, retention=Retention(0))


@pytest.mark.parametrize(
    ("sql", "missing"),
    [
        ("DROP COLUMN status", "pathstats.traffic_events.status SMALLINT"),
        ("RENAME COLUMN host TO vhost", "pathstats.traffic_events.host VARCHAR"),
        ("ALTER COLUMN bytes_sent TYPE VARCHAR", "pathstats.traffic_events.bytes_sent BIGINT"),
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_m10_a_table_of_another_shape(tmp_path: pathlib.Path, sql: str, missing: str, *, archived: bool) -> None:
    """M10: a column that was dropped, renamed or retyped: one line that names it, before S3 is asked anything."""
    objects = FakeObjects()
    with world(tmp_path, objects) as there:
        there.bring(0, "a", 20)
        there.build_statistics()
        if archived:
            there.archive()
        there.warehouse._run(f"ALTER TABLE pathstats.traffic_events {sql}")
    before, asked = dict(objects.stored), len(objects.faults.passed)
    with pytest.raises(WarehouseError, match=f"somebody has changed its tables; missing: {missing}$") as caught:  # noqa: SIM117
        with world(tmp_path, objects) as there:
            there.archive()
    assert len(str(caught.value).splitlines()) == 1
    assert (objects.stored, len(objects.faults.passed)) == (before, asked)


def test_m10_a_column_of_somebodys_own_is_nobodys_business(tmp_path: pathlib.Path) -> None:
    """M10: it is no doubt: the day goes its way, without that column."""
    objects = FakeObjects()
    with world(tmp_path, objects) as there:
        there.bring(0, "a", 20)
        there.build_statistics()
        there.warehouse._run("ALTER TABLE pathstats.traffic_events ADD COLUMN note VARCHAR")
        known = there.accepted
    with world(tmp_path, objects) as there:
        there.accepted = known
        there.archive()
        there.clean()
        there.assert_invariants(cleaned=True)


def test_m10_a_day_without_events(tmp_path: pathlib.Path) -> None:
    """M10: no object, no manifest, no claim, no record; and nothing to delete."""
    objects = FakeObjects()
    with world(tmp_path, objects) as there:
        there.bring(3, "empty", 0)
        there.build_statistics()
        assert there.archive() == []
        there.clean()
        assert there.warehouse.generation_records(DAY) == []
    assert (objects.stored, objects.writes) == ({}, [])


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_m10_a_manifest_of_another_schema(here: World, version: Any) -> None:
    """M10: what a later release has written isn't guessed at."""
    here.archive()
    assert isinstance(here.objects, FakeObjects)
    key = manifest_key(DAY, 1)
    document = json.loads(here.objects.stored[key])
    here.objects.stored[key] = json.dumps({**document, "schema_version": version}).encode()
    for step in (here.archive, here.clean):
        with refused(here, ManifestError, f"g0001.json: manifest has schema_version {version}, not 1"):
            step()


def test_m10_a_command_refuses_a_day_that_is_not_over(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M10: `archive` of today ends with exit code 1 and one line, and there is no `--force` (M4)."""
    monkeypatch.setenv("PATHSTATS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATHSTATS_S3_BUCKET", "nobody-asks-it")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    answer = CliRunner().invoke(cli, ["archive", str(terminal.now().date())])
    assert answer.exit_code == 1
    assert "is not over yet" in str(answer.exception)
    assert not (tmp_path / "home" / "warehouse.duckdb").exists()
    forced = CliRunner().invoke(cli, ["archive", str(DAY), "--force"])
    assert forced.exit_code == 2
    assert "No such option" in forced.output
