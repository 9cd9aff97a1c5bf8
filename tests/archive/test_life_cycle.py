"""The life of a day against a store that fails at any arrow: archive, verify, delete, late loads, and again.

A real warehouse, and a fake S3. After every step and every failure, the contract's invariants hold.
"""

import datetime as dt
import itertools
import pathlib
import random
import shutil

import polars as pl
import pytest
from rounds import rounds

from pathstats_pipeline.archive import gzipped
from pathstats_pipeline.archive.cleanup import CleanedDay, CleanupRefusedError, clean_day, plan_cleanup
from pathstats_pipeline.archive.jsonl import digest_of, to_lines
from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.lifecycle import ArchiveRefusedError
from pathstats_pipeline.archive.manifest import ManifestError
from pathstats_pipeline.archive.publish import ArchiveError
from pathstats_pipeline.archive.strategy import SizeRule, Strategy
from pathstats_pipeline.archive.verify import VerificationError
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.objects import ObjectsError

from .fake_objects import FakeObjects, Faults, KilledError
from .worlds import (
    BATCH_ROWS,
    DAY,
    NOW,
    PARTS,
    RETENTION,
    SMALL,
    WINDOW,
    World,
    events,
    hour_of,
    lines_of,
    world,
    worlds_in_memory,
)

RULES = pytest.mark.parametrize("rule", [SMALL, PARTS], ids=["single_put", "multipart"])
TAMPERED = (VerificationError, ObjectsError, ManifestError, CleanupRefusedError)


def ready(here: World) -> None:
    """Two hours of events with their statistics, the same load id in both."""
    here.bring(0, "a", 20)
    here.bring(5, "a", 15)
    here.bring(5, "b", 1)
    here.build_statistics()


@pytest.fixture
def prepared(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory with a day that is ready to be archived."""
    with world(tmp_path / "prepared", FakeObjects()) as here:
        ready(here)
    return tmp_path / "prepared"


def accepted(directory: pathlib.Path):  # type: ignore[no-untyped-def]  # noqa: ANN201 - a Counter
    """What a prepared day holds."""
    with world(directory, FakeObjects()) as here:
        return here.hot()


@RULES
def test_a_day_goes_its_way(tmp_path: pathlib.Path, rule: SizeRule) -> None:
    """Archive, clean up: the day is in one object with one manifest, and gone from the warehouse and the landing."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        (manifest,) = here.archive(rule)
        here.assert_invariants()
        assert (manifest.rows, manifest.generation) == (36, 1)
        assert manifest.strategy is (Strategy.MULTIPART if rule is PARTS else Strategy.SINGLE_PUT)
        assert objects.published == [manifest.key, manifest_key(DAY, 1)]
        assert here.clean() == CleanedDay(deleted_rows=36, landing_files=3, generations=1)
        here.assert_invariants(cleaned=True)
        assert here.hot().total() == 0
        assert here.landing.hours(DAY) == []


def test_a_second_run_of_anything_changes_nothing(tmp_path: pathlib.Path) -> None:
    """Archive twice, clean up twice, archive again: no write, no deletion, no empty generation."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        first = here.archive()
        assert here.archive() == first
        here.clean()
        stored = dict(objects.stored)
        assert here.clean() == CleanedDay(0, 0, 1)
        assert here.archive() == first
        assert objects.stored == stored
        assert len(objects.published) == 2
        here.assert_invariants(cleaned=True)


def test_a_day_without_events_makes_no_object(tmp_path: pathlib.Path) -> None:
    """Nothing to archive writes nothing, and there is nothing to clean up."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        here.bring(3, "empty", 0)
        assert here.archive() == []
        assert here.clean() == CleanedDay(0, 0, 0)
        assert objects.stored == {}


def test_statistics_are_the_same_bytes_before_and_after_clean_up(tmp_path: pathlib.Path) -> None:
    """Every hour, rebuilt from the archive, has the numbers and the sketches that it had from the warehouse."""
    with world(tmp_path, FakeObjects()) as here:
        ready(here)
        before = here.build_statistics()
        here.archive()
        here.clean()
        assert here.build_statistics().equals(before)
        one = here.build_statistics(Window.of_hour(hour_of(5)))
        assert one["requests"].sum() == 16


@pytest.mark.parametrize(
    ("rule", "error"), [(SMALL, KilledError()), (PARTS, ObjectsError("the store is gone"))], ids=["death", "error"]
)
def test_a_failure_at_any_arrow_is_finished_by_the_next_run(
    prepared: pathlib.Path, rule: SizeRule, error: BaseException
) -> None:
    """The store fails before or after any of its steps; the next run ends with one object, one manifest, no loss."""
    known = accepted(prepared)
    for number in itertools.count():
        directory = prepared.with_name("again")
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(prepared, directory)
        objects = FakeObjects(faults=Faults(number, error=error))
        with world(directory, objects) as here:
            here.accepted = known
            try:
                here.archive(rule)
                here.clean()
            except (ObjectsError, KilledError) as raised:
                assert raised is error  # noqa: PT017 - which of the two it was is the point
            else:
                assert len(objects.faults.passed) == number
                break
            objects.faults = Faults()
            here.assert_invariants()
            (manifest,) = here.archive(rule)
            here.assert_invariants()
            here.clean()
            here.assert_invariants(cleaned=True)
            assert here.hot().total() == 0
            assert objects.published == [manifest.key, manifest_key(DAY, 1)]
    assert number > 15


@RULES
def test_a_lost_answer_ends_in_success_with_one_object(tmp_path: pathlib.Path, rule: SizeRule) -> None:
    """The store has the object and says that the key is taken: our own write, judged by its content, is committed."""
    with world(tmp_path / "other", FakeObjects()) as other:
        ready(other)
        (manifest,) = other.archive(rule)
        body = other.objects.get(manifest.key)
        assert body is not None
    objects = FakeObjects({manifest.key: body})
    with world(tmp_path / "here", objects) as here:
        ready(here)
        assert here.archive(rule) == [manifest]
        assert objects.published == [manifest_key(DAY, 1)]


@RULES
@pytest.mark.parametrize("body", [b"", b"other bytes", b"".join(gzipped.compress([b'{"event_id":"x"}\n']))])
def test_other_bytes_at_the_key_are_a_loud_failure(tmp_path: pathlib.Path, rule: SizeRule, body: bytes) -> None:
    """What stands at the key is neither overwritten nor committed, and nothing can be deleted."""
    with world(tmp_path / "one", FakeObjects()) as other:
        ready(other)
        (manifest,) = other.archive(rule)
    objects = FakeObjects({manifest.key: body})
    with world(tmp_path / "two", objects) as here:
        ready(here)
        with pytest.raises(VerificationError, match="-g0001-"):
            here.archive(rule)
        assert objects.published == []
        assert objects.stored[manifest.key] == body
        with pytest.raises(CleanupRefusedError, match="not archived"):
            here.clean()
        assert here.hot() == here.accepted


def test_a_manifest_of_another_archive_is_a_loud_failure(tmp_path: pathlib.Path) -> None:
    """Two warehouses that archive the same day: the second doesn't take the first one's manifest for its own."""
    objects = FakeObjects()
    with world(tmp_path / "one", objects) as other:
        other.bring(1, "theirs", 5)
        objects.faults = Faults(fail_on="before put metadata")
        with pytest.raises(ObjectsError):
            other.archive()
    with world(tmp_path / "two", FakeObjects()) as here:
        here.bring(1, "ours", 5)
        here.archive()
        theirs = {key: body for key, body in here.objects.stored.items() if "metadata" in key}  # type: ignore[attr-defined]
    hidden = FakeObjects(theirs)
    # The manifest comes meanwhile.
    hidden.list = lambda prefix: [] if "metadata" in prefix else FakeObjects.list(hidden, prefix)  # type: ignore[method-assign]
    with world(tmp_path / "one", hidden) as other, pytest.raises(ArchiveError, match="committed meanwhile"):
        other.archive()


def _flip(body: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(body)
    damaged[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _tampered(body: bytes, yesterday: bytes) -> dict[str, bytes | None]:
    rng = random.Random(7)  # noqa: S311 - test data
    raw = b"".join(gzipped.compress([]))
    half = len(body) // 2
    return {
        "gone": None,
        "empty": b"",
        "an empty member": raw,
        "garbage of the same length": rng.randbytes(len(body)),
        "cut": body[:half],
        "cut by a byte": body[:-1],
        "a byte too many": body + b"\0",
        "twice": body + body,
        "another day's": yesterday,
        "UTF-16": b"".join(gzipped.compress(["{}\n".encode("utf-16")])),
        "no line end": b"".join(gzipped.compress([b"\0" * (65 * 1024 * 1024)])),
        **{f"flip {number}": _flip(body, rng) for number in range(40)},
    }


def test_a_tampered_object_is_never_deleted_by(tmp_path: pathlib.Path) -> None:
    """Whatever was done to the object, clean-up raises, names it in one line, and not a row is gone."""
    with world(tmp_path / "other", FakeObjects()) as other:
        other.bring(0, "a", 20, seed=1)
        (yesterday,) = other.archive()
        foreign = other.objects.get(yesterday.key) or b""
    objects = FakeObjects()
    with world(tmp_path / "one", objects) as here:
        ready(here)
        (manifest,) = here.archive()
        body = objects.stored[manifest.key]
        for what, damaged in _tampered(body, foreign).items():
            objects.stored.pop(manifest.key)
            if damaged is not None:
                objects.stored[manifest.key] = damaged
            with pytest.raises(TAMPERED, match=manifest.key) as caught:
                here.clean()
            assert len(str(caught.value).splitlines()) == 1, what
            assert here.hot() == here.accepted, what
            objects.stored[manifest.key] = body
        here.clean()
        here.assert_invariants(cleaned=True)


def test_a_swapped_row_is_noticed_though_all_counts_agree(tmp_path: pathlib.Path) -> None:
    """An object with one other event, of the same length, has the right count and is still refused."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        (manifest,) = here.archive()
        with objects.open(manifest.key) as stream:
            raw = gzipped.GzipMember(stream).readall()
        assert raw is not None
        other = raw.replace(b"a-0-3", b"a-0-x", 1)
        objects.stored[manifest.key] = b"".join(gzipped.compress([other]))
        with pytest.raises(VerificationError, match="digest is"):
            here.clean()
        with pytest.raises(VerificationError, match="digest is"):
            here.archived()
        assert here.hot() == here.accepted


def test_a_tampered_object_is_not_rebuilt_from(tmp_path: pathlib.Path) -> None:
    """After clean-up, statistics are not built from an object that isn't the one that was archived."""
    objects = FakeObjects()
    with world(tmp_path / "other", FakeObjects()) as other:
        other.bring(0, "a", 20, seed=1)
        (foreign,) = other.archive()
        body = other.objects.get(foreign.key) or b""
    with world(tmp_path / "one", objects) as here:
        ready(here)
        (manifest,) = here.archive()
        here.clean()
        before = here.warehouse.hourly(WINDOW)
        objects.stored[manifest.key] = body
        with pytest.raises(VerificationError, match=manifest.key):
            here.build_statistics()
        objects.stored.pop(manifest_key(DAY, 1))
        with pytest.raises(ArchiveRefusedError, match="no manifest covers them"):
            here.build_statistics()
        assert here.warehouse.hourly(WINDOW).equals(before)


def test_a_manifest_that_goes_missing_after_the_verdict_stops_the_deletion(tmp_path: pathlib.Path) -> None:
    """A verdict alone deletes nothing: the manifests that it rests on must still stand when the deletion begins."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        here.archive()
        verdict = plan_cleanup(here.warehouse, objects, DAY, NOW, RETENTION)
        assert verdict.rows == 36
        objects.stored.pop(manifest_key(DAY, 1))
        with pytest.raises(CleanupRefusedError, match="changed since the verdict"):
            clean_day(here.warehouse, objects, here.landing, verdict, DAY, BATCH_ROWS, lambda: NOW)
        assert here.hot() == here.accepted


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff", b'{"schema_version": 2}'])
def test_a_damaged_manifest_stops_everything(tmp_path: pathlib.Path, text: bytes) -> None:
    """A manifest that can't be read is named, and neither archived over nor deleted by."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        here.archive()
        objects.stored[manifest_key(DAY, 1)] = text
        for step in (here.archive, here.clean):
            with pytest.raises(ManifestError, match=r"fake://archive/metadata/dt=2026-11-20/g0001\.json"):
                step()
        assert here.hot() == here.accepted


def test_missing_statistics_stop_the_deletion(tmp_path: pathlib.Path) -> None:
    """An hour that isn't counted keeps the day; once it is built, the day may go."""
    with world(tmp_path, FakeObjects()) as here:
        here.bring(0, "a", 20)
        here.archive()
        with pytest.raises(CleanupRefusedError, match=r"statistics of 00:00 count 0 requests of 20"):
            here.clean()
        assert here.hot() == here.accepted
        here.build_statistics()
        assert here.clean().deleted_rows == 20


def test_the_hot_window_is_left_alone(tmp_path: pathlib.Path) -> None:
    """A young day is not deleted, and the verdict says why."""
    with world(tmp_path, FakeObjects()) as here:
        ready(here)
        here.archive()
        verdict = plan_cleanup(here.warehouse, here.objects, DAY, WINDOW.start + dt.timedelta(days=2), RETENTION)
        assert verdict.waiting
        with pytest.raises(CleanupRefusedError, match="hot window"):
            clean_day(here.warehouse, here.objects, here.landing, verdict, DAY, BATCH_ROWS, lambda: NOW)
        assert here.hot() == here.accepted


def test_rows_that_vanish_from_the_warehouse_are_not_archived_as_the_whole(tmp_path: pathlib.Path) -> None:
    """When the warehouse holds other events than its ledger says, nothing is published."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        ready(here)
        here.warehouse._run("DELETE FROM pathstats.traffic_events WHERE event_id = 'a-0-3'")
        for rule in (SMALL, PARTS):
            with pytest.raises(ArchiveError, match="nothing was archived"):
                here.archive(rule)
        assert objects.published == []


@pytest.mark.parametrize("seed", range(8))
def test_late_loads_become_generations_of_their_own(tmp_path: pathlib.Path, seed: int) -> None:
    """Loads come at random between the steps, for days; the union of the generations is every event once."""
    rng = random.Random(seed)  # noqa: S311 - test data
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        for step in range(14):
            action = rng.choice(["bring", "bring", "build", "archive", "clean"])
            if action == "bring":
                here.bring(rng.randrange(24), f"load-{rng.randrange(3)}-{step}", rng.randrange(12), seed)
            elif action == "build":
                here.build_statistics()
            elif action == "archive":
                here.archive(rng.choice([SMALL, PARTS]))
            else:
                try:
                    here.clean()
                except CleanupRefusedError as refused:
                    assert "statistics" in str(refused) or "not archived" in str(refused)  # noqa: PT017
            here.assert_invariants()
        here.build_statistics()
        manifests = here.archive()
        here.clean()
        here.assert_invariants(cleaned=True)
        assert here.hot().total() == 0
        assert [manifest.generation for manifest in manifests] == list(range(1, len(manifests) + 1))


SHARE = rounds(15, full=100)


@pytest.mark.parametrize(
    "seeds",
    [
        range(8),
        *(pytest.param(range(start, start + SHARE), marks=pytest.mark.faults) for start in range(0, 3 * SHARE, SHARE)),
    ],
    ids=str,
)
def test_five_runs_with_late_loads_are_generations_that_make_the_whole(tmp_path: pathlib.Path, seeds: range) -> None:
    """M9: after each run, the union of the generations is every event once, and no earlier byte has changed."""
    with world(tmp_path / "empty", FakeObjects()):
        pass
    generations = cleaned = 0
    with worlds_in_memory(tmp_path / "empty") as fresh:
        for seed in seeds:
            rng = random.Random(f"late {seed}")  # noqa: S311 - test data
            here = fresh(tmp_path / str(seed), FakeObjects())
            for run in range(5):
                for number in range(rng.randrange(3) + (run == 0)):
                    here.bring(rng.randrange(24), f"{rng.choice('0az')}-{run}-{number}", rng.randrange(1, 9), seed)
                manifests = here.archive(rng.choice([SMALL, PARTS]))
                assert here.archived() == here.accepted, seed
                found = {key: here.objects.get(key) for key in here.objects.list("")}
                assert here.published.items() <= found.items(), (seed, "a published object or manifest changed")
                here.published = {key: body for key, body in found.items() if body is not None}
                if run == 4 or rng.random() < 0.3:
                    assert here.build_statistics()["requests"].sum() == here.accepted.total(), seed
                    here.clean()
                    assert here.hot().total() == 0, seed
                    cleaned += 1
            assert [manifest.generation for manifest in manifests] == list(range(1, len(manifests) + 1))
            generations += len(manifests)
    assert generations > 2 * len(seeds)
    assert cleaned > 1.5 * len(seeds)


def test_ours_keeps_the_row_that_a_predicate_and_a_high_water_mark_lose(tmp_path: pathlib.Path) -> None:
    """A load comes between reading and deleting: deletion by day and by sequence number lose it, by load doesn't."""
    late = events(Load(hour_of(5), "late"), 1)
    lost = {}
    for control in ("ours", "predicate", "high-water mark"):
        objects = FakeObjects()
        with world(tmp_path / control, objects) as here:
            ready(here)
            here.archive()
            here.bring(5, "late", 1)
            here.build_statistics()
            if control == "ours":
                here.clean()
            elif control == "predicate":
                here.warehouse._run(
                    "DELETE FROM pathstats.traffic_events WHERE event_time >= ? AND event_time < ?",
                    (WINDOW.start, WINDOW.end),
                )
            else:
                # The late load took its sequence number before the others were read, and committed after.
                here.warehouse._run("DELETE FROM pathstats.traffic_events WHERE load_id <= 'late'")
            lost[control] = here.accepted - (here.hot() | here.archived())
    assert lost["ours"].total() == 0
    assert lost["predicate"] == lost["high-water mark"] == lines_of([late.select(EVENT_NAMES)])


def test_events_of_megabytes_are_archived_too(tmp_path: pathlib.Path) -> None:
    """Rows that don't fit the buffers of a streaming archive cost memory, not the day."""
    objects = FakeObjects()
    load = Load(hour_of(5), "wide")
    wide = events(load, 3).with_columns(path=pl.format("/{}", pl.lit("x" * 20_000_000)))
    with world(tmp_path, objects) as here:
        here.warehouse.append_load(load, [(wide, pl.DataFrame())], lambda rows: digest_of(to_lines(rows)), NOW)

        [manifest] = here.archive()

    assert (manifest.rows, manifest.raw_bytes > 60_000_000) == (3, True)


def test_the_memory_that_an_archive_streams_in_is_given_back(tmp_path: pathlib.Path) -> None:
    """What comes after it on the same warehouse, a checkpoint above all, works with what it had before."""
    limits = "SELECT current_setting('memory_limit'), current_setting('threads')"
    with world(tmp_path, FakeObjects()) as here:
        ready(here)
        before = here.warehouse._run(limits).fetchall()
        here.archive()
        assert here.warehouse._run(limits).fetchall() == before
