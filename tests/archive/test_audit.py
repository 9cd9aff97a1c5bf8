"""`pathstats verify` over a range: what is wrong, what drifted, what nobody could look at, and what is not ours."""

import datetime as dt
import pathlib
from collections.abc import Iterator

import pytest

from pathstats_pipeline.archive.audit import Finding, Kind, audit, memory_of
from pathstats_pipeline.archive.day import verified_manifests
from pathstats_pipeline.archive.keys import manifest_key
from pathstats_pipeline.archive.manifest import Manifest
from pathstats_pipeline.events.window import Window
from pathstats_pipeline.storage.objects import ObjectsError

from .fake_objects import FakeObjects
from .worlds import DAY, WINDOW, World, world

YEARS = Window(WINDOW.start - dt.timedelta(days=3650), WINDOW.end + dt.timedelta(days=365))


@pytest.fixture
def here(tmp_path: pathlib.Path) -> Iterator[World]:
    """A day in two generations, recorded."""
    with world(tmp_path, FakeObjects()) as made:
        made.bring(0, "a", 20)
        made.archive()
        made.bring(5, "late", 7)
        made.archive()
        record(made)
        yield made


def record(here: World) -> list[Manifest]:
    """What `archive_metadata` does."""
    manifests = verified_manifests(here.objects, DAY, here.warehouse)
    here.warehouse.record_archives(DAY, manifests, [f"{here.objects.uri}/{each.key}" for each in manifests])
    return manifests


def found(here: World, window: Window = WINDOW) -> list[Finding]:
    """What an audit finds."""
    return list(audit(here.objects, window, memory_of(here.warehouse)))


def kinds(here: World) -> list[Kind]:
    """The kinds of what an audit finds."""
    return [finding.kind for finding in found(here)]


def test_all_is_well(here: World) -> None:
    """One line for each object, in a day as in 11 years; nothing is bad; nothing outside the range is looked at."""
    lines = found(here)
    assert [finding.kind for finding in lines] == [Kind.OK, Kind.OK]
    assert "20 events" in str(lines[0])
    assert found(here, YEARS) == lines
    assert found(here, Window(WINDOW.end, YEARS.end)) == []
    assert list(audit(here.objects, WINDOW, None)) == lines


def test_each_damage_is_found_and_the_rest_is_looked_at(here: World) -> None:
    """M2, M19: a damaged, a missing, an uncommitted object, a missing and an unreadable manifest."""
    objects = here.objects
    assert isinstance(objects, FakeObjects)
    whole = dict(objects.stored)
    first, second = record(here)

    def after(change: dict[str, bytes | None]) -> list[str]:
        objects.stored = {key: body for key, body in {**whole, **change}.items() if body is not None}
        return [str(finding) for finding in found(here)]

    flipped = bytearray(whole[first.key])
    flipped[40] ^= 1
    damaged, fine = after({first.key: bytes(flipped)})
    assert (damaged.endswith(": WRONG"), fine.endswith(": ok")) == (True, True)
    assert after({first.key: None})[0] == f"{first.key}: does not exist: WRONG"
    stray = first.key.replace("g0001", "g0007")
    assert after({stray: b"x"})[2] == f"{stray}: uncommitted, not ours to remove"
    objects.stored = {**whole, stray: b"x"}
    assert not any(finding.is_bad for finding in found(here))
    gone = after({manifest_key(DAY, 1): None})
    assert f"{manifest_key(DAY, 1)}: does not exist, but later ones do: WRONG" in gone
    assert f"{DAY} g0001: the warehouse says that it is committed, S3 has no manifest: drift" in gone
    assert f"{first.key}: uncommitted, not ours to remove" in gone
    assert after({manifest_key(DAY, 2): b"{"})[0].startswith(f"{manifest_key(DAY, 2)}: not a manifest")
    moved = after({manifest_key(DAY, 2): whole[manifest_key(DAY, 1)]})
    assert f"{manifest_key(DAY, 2)}: says that it is g0001 of {DAY}: WRONG" in moved
    assert second.key in "".join(moved)


def test_what_cannot_be_listed_is_unverified_and_stays(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """M19: a listing that is denied, or that hides a manifest: unverified, never "gone", and nothing is pruned."""
    objects = here.objects
    assert isinstance(objects, FakeObjects)
    before = here.warehouse.archives(), dict(objects.stored)

    def hiding(prefix: str) -> list[str]:
        return [key for key in FakeObjects.list(objects, prefix) if not key.endswith("g0002.json")]

    monkeypatch.setattr(objects, "list", hiding)
    hidden = found(here)
    assert [finding.kind for finding in hidden] == [Kind.UNVERIFIED, Kind.OK, Kind.OK]
    assert "isn't listed" in str(hidden[0])

    def denied(prefix: str) -> list[str]:
        raise ObjectsError(f"cannot list {prefix}: 403")

    monkeypatch.setattr(objects, "list", denied)
    [finding] = found(here)
    assert (finding.kind, finding.is_bad) == (Kind.UNVERIFIED, True)
    monkeypatch.undo()
    assert before[0].equals(here.warehouse.archives())
    assert before[1] == objects.stored


def test_drift_is_told_and_mended_from_the_manifests(here: World) -> None:
    """M19: records changed or lost: drift; rebuilt from the manifests, the rows are equal, and nothing drifts."""
    before = here.warehouse.archives()
    here.warehouse._run("UPDATE pathstats.archives SET rows = 1, uri = 'x' WHERE generation = 2")
    [drift] = [finding for finding in found(here) if finding.is_bad]
    assert str(drift) == f"{DAY} g0002: pathstats.archives has another rows, uri: drift"
    here.warehouse._run("DELETE FROM pathstats.archives")
    here.warehouse._run("DELETE FROM pathstats.archive_steps")
    assert kinds(here).count(Kind.DRIFT) == 4

    here.archive()
    record(here)

    assert before.equals(here.warehouse.archives())
    assert kinds(here) == [Kind.OK, Kind.OK]
    here.warehouse._run(
        "INSERT INTO pathstats.archives SELECT * REPLACE (3 AS generation) FROM pathstats.archives LIMIT 1"
    )
    assert kinds(here) == [Kind.OK, Kind.OK, Kind.DRIFT]
