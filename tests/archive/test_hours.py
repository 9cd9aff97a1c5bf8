"""An hour out of an archive object: found by its range, decoded and checked alone, and not read 24 times."""

import gzip
import io
import json
import pathlib
import random

import polars as pl
import pytest

from pathstats_pipeline.archive.day import verified_manifests
from pathstats_pipeline.archive.history import events_of
from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.manifest import Manifest, ManifestError
from pathstats_pipeline.archive.publish import Sent
from pathstats_pipeline.archive.verify import VerificationError, read_events, read_hour
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.stats.hourly import EVENT_INPUT, path_statistics

from .fake_objects import FakeObjects
from .worlds import DAY, PARTS, World, hour_of, lines_of, world

HOURS = (0, 5, 6, 13, 23)


def archived(here: World) -> Manifest:
    """A day with a few hours, one of them of two loads, archived."""
    for hour in HOURS:
        here.bring(hour, "a", 30 + hour)
    here.bring(13, "b", 9)
    here.build_statistics()
    (manifest,) = here.archive(PARTS)
    return manifest


@pytest.fixture
def object_and_manifest(tmp_path: pathlib.Path) -> tuple[bytes, Manifest]:
    """An object of several hours, and its manifest."""
    with world(tmp_path, FakeObjects()) as here:
        manifest = archived(here)
        return here.objects.get(manifest.key) or b"", manifest


def test_every_hour_read_alone_is_that_hour_of_the_whole(object_and_manifest: tuple[bytes, Manifest]) -> None:
    """The spans name the hours with events, one after another; each gives exactly its own events, in their order."""
    body, manifest = object_and_manifest
    assert tuple(span.hour for span in manifest.hours) == HOURS
    whole = pl.concat(read_events(io.BytesIO(body), manifest))
    end = 10
    for span in manifest.hours:
        assert span.offset == end
        end = span.offset + span.size_bytes
        alone = pl.concat(read_hour(io.BytesIO(body[span.offset : end]), manifest, span))
        assert alone.equals(whole.filter(pl.col("event_time").dt.hour() == span.hour))
    assert end < manifest.size_bytes


def test_a_damaged_hour_is_noticed(object_and_manifest: tuple[bytes, Manifest]) -> None:
    """A flipped bit never gives other events; nor does a range that is short, or another hour's."""
    body, manifest = object_and_manifest
    span, other = manifest.hours[1:3]
    good = body[span.offset : span.offset + span.size_bytes]
    events = pl.concat(read_hour(io.BytesIO(good), manifest, span))
    rng = random.Random(7)  # noqa: S311 - test data
    caught = 0
    for position in rng.sample(range(len(good)), 150):
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.randrange(8)
        try:
            # Deflate fills up to a byte with bits that mean nothing: those may change.
            assert pl.concat(read_hour(io.BytesIO(bytes(damaged)), manifest, span)).equals(events)
        except VerificationError as error:
            assert "hour 05" in str(error)  # noqa: PT017 - either way is right
            caught += 1
    assert caught > 140
    for wrong in (good[:-1], b"", body[other.offset : other.offset + other.size_bytes], good + good, good + b"\0"):
        with pytest.raises(VerificationError, match="hour 05"):
            list(read_hour(io.BytesIO(wrong), manifest, span))


def test_a_backfill_of_single_hours_reads_the_object_once(tmp_path: pathlib.Path) -> None:
    """24 hours rebuilt one by one after clean-up: the same bytes as before, and hardly more fetched than the object."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        manifest = archived(here)
        before = {hour: here.build_statistics(Window.of_hour(hour_of(hour))) for hour in range(24)}
        here.clean()
        passed = len(objects.faults.passed)
        for hour in range(24):
            assert here.build_statistics(Window.of_hour(hour_of(hour))).equals(before[hour])
        fetched = sum(size for key, size in objects.ranges if key == manifest.key)
        assert manifest.size_bytes * 0.9 < fetched <= manifest.size_bytes
        opened = [name for name in objects.faults.passed[passed:] if name.startswith(f"before open {manifest.key}")]
        assert len(opened) == len(objects.ranges) == len(HOURS)


def test_hours_of_several_generations_and_of_the_warehouse_come_together(tmp_path: pathlib.Path) -> None:
    """An hour that is in two objects, and whose latest load is archived nowhere, is whole."""
    with world(tmp_path, FakeObjects()) as here:
        archived(here)
        here.bring(5, "late", 7)
        here.build_statistics()
        here.archive()
        here.clean()
        here.bring(5, "later", 3)
        hour = events_of(here.warehouse, Window.of_hour(hour_of(5)), EVENT_NAMES, lambda: here.objects)
        assert len(hour) == 35 + 7 + 3
        assert not lines_of([hour]) - here.accepted
        span = Window(hour_of(5), hour_of(14))
        some = events_of(here.warehouse, span, EVENT_NAMES, lambda: here.objects)
        assert len(some) == 45 + 36 + 43 + 9


def test_a_manifest_without_hours_still_works(tmp_path: pathlib.Path) -> None:
    """What an earlier release committed is read as a whole, and gives the same statistics."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        archived(here)
        key = manifest_key(DAY, 1)
        document = json.loads(objects.stored[key])
        del document["hours"]
        objects.stored[key] = json.dumps(document).encode()
        (manifest,) = verified_manifests(objects, DAY)
        assert manifest.hours == ()
        before = here.build_statistics(Window.of_hour(hour_of(5)))
        here.clean()
        assert here.build_statistics(Window.of_hour(hour_of(5))).equals(before)
        assert objects.ranges == []


def test_a_damaged_range_never_becomes_statistics(tmp_path: pathlib.Path) -> None:
    """The object is changed within one hour: that hour fails, the others are built."""
    objects = FakeObjects()
    with world(tmp_path, objects) as here:
        manifest = archived(here)
        here.clean()
        span = manifest.hours[1]
        body = bytearray(objects.stored[manifest.key])
        body[span.offset + span.size_bytes // 2] ^= 1
        objects.stored[manifest.key] = bytes(body)
        with pytest.raises(VerificationError, match="hour 05"):
            here.build_statistics(Window.of_hour(hour_of(5)))
        of_13 = events_of(here.warehouse, Window.of_hour(hour_of(13)), EVENT_INPUT, lambda: objects)
        assert path_statistics(of_13)["requests"].sum() == 43 + 9


def test_offsets_of_another_object_are_not_committed(tmp_path: pathlib.Path) -> None:
    """The same rows stand at the key already, compressed otherwise: committed, without hours."""
    with world(tmp_path / "one", FakeObjects()) as other:
        manifest = archived(other)
        body = other.objects.get(manifest.key) or b""
    again = gzip_of_another_release(body)
    with world(tmp_path / "two", FakeObjects({manifest.key: again})) as here:
        found = archived(here)
        assert (found.digest, found.size_bytes, found.hours) == (manifest.digest, len(again), ())
        assert b'"hours"' not in (here.objects.get(manifest_key(DAY, 1)) or b"")


def gzip_of_another_release(body: bytes) -> bytes:
    """The same lines, compressed by another library."""
    return gzip.compress(gzip.decompress(body))


def test_what_was_sent_comes_back_from_its_record(object_and_manifest: tuple[bytes, Manifest]) -> None:
    """The record of an upload holds the hours; one of an earlier release has none."""
    _, manifest = object_and_manifest
    sent = Sent(manifest.size_bytes, manifest.sha256, manifest.hours)
    assert Sent.from_json(sent.to_json()) == sent
    assert Sent.from_json('{"size_bytes": 3, "sha256": "ab"}') == Sent(3, "ab")
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"05": None},
        {"24": {}},
        {"5": {}},
        {"05": {"offset": -1}},
        {"05": {"rows": 1}},
        {"05": {"digest": "0" * 32}},
        {"05": {"digest": 7}},
        {"05": {"offset": 10}},
        {"23": {"bytes": 10**9}},
        {"23": {"raw_bytes": "x"}},
    ],
    ids=str,
)
def test_hours_that_are_not_the_objects_are_refused(
    object_and_manifest: tuple[bytes, Manifest], change: dict[str, object]
) -> None:
    """Hours must be all the rows of the object, within its bytes, one after another."""
    _, manifest = object_and_manifest
    document = json.loads(manifest.to_json())
    for hour, span in change.items():
        known = document["hours"].get(hour, {})
        document["hours"][hour] = {**known, **span} if isinstance(span, dict) else span
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(document).encode())
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ManifestError):
        Manifest.from_json(json.dumps({**document, "hours": []}).encode())
