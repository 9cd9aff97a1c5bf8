"""The manifest: the contract's keys, a round trip, and one line for anything else."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.manifest import Manifest, ManifestError
from pathstats_pipeline.archive.strategy import Strategy
from pathstats_pipeline.archive.verify import ObjectFacts
from pathstats_pipeline.events.load import Load

from .worlds import hour_of, manifest_of

FACTS = ObjectFacts(10, 100, "ab" * 32, Digest(7, 2**127 + 1))
MANIFEST = manifest_of(FACTS, Load(hour_of(0), "same"), Load(hour_of(5), "same"), Load(hour_of(5), 'ü"\\\n'))
KEYS = [
    "date",
    "generation",
    "key",
    "strategy",
    "rows",
    "bytes",
    "raw_bytes",
    "sha256",
    "digest",
    "first_event_time",
    "last_event_time",
    "loads",
    "schema_version",
    "archived_at",
    "verified_at",
    "software_version",
]


def test_it_has_the_contracts_keys() -> None:
    """Outsiders find every key that the contract names, with times in RFC 3339."""
    document = json.loads(MANIFEST.to_json())
    assert set(KEYS) <= set(document)
    assert document["date"] == "2026-11-20"
    assert document["strategy"] == "single_put"
    assert document["rows"] == 7
    assert document["loads"] == ["same", 'ü"\\\n']
    assert document["first_event_time"] == "2026-11-20T05:00:00.000000Z"


def test_it_comes_back_as_it_was() -> None:
    """Reading what was written gives the same manifest; a load's hour is kept beside its id."""
    assert Manifest.from_json(MANIFEST.to_json()) == dataclasses.replace(MANIFEST, loads=tuple(sorted(MANIFEST.loads)))
    multipart = dataclasses.replace(MANIFEST, strategy=Strategy.MULTIPART, generation=12_345, loads=())
    assert Manifest.from_json(multipart.to_json()) == multipart
    assert multipart.to_json() == multipart.to_json()


@given(st.integers(0, len(MANIFEST.to_json()) - 3))
def test_a_cut_manifest_is_refused_in_one_line(length: int) -> None:
    """However much of it is there, half a manifest is none."""
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(MANIFEST.to_json()[:length])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", [key for key in KEYS if key != "loads"] + ["loads_by_hour"])
@pytest.mark.parametrize("value", [None, [], "x", -1, {"05": "abc"}, {"25": []}, {"05": [1]}, "missing"])
def test_a_wrong_value_is_refused_in_one_line(key: str, value: object) -> None:
    """A key that is missing, or holds what it can't hold, is refused; nothing is deleted by half a manifest."""
    document = json.loads(MANIFEST.to_json())
    if value == "missing":
        del document[key]
    else:
        document[key] = value
    if isinstance(value, str) and value == "x" and key in {"key", "sha256", "software_version"}:
        return
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(document).encode())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"{}", b"<html>\n</html>"])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    """Other JSON, other bytes and other formats are no manifest."""
    with pytest.raises(ManifestError):
        Manifest.from_json(text)


def test_another_schema_version_is_refused() -> None:
    """A manifest from the future isn't guessed at."""
    with pytest.raises(ManifestError, match="schema_version 2"):
        Manifest.from_json(MANIFEST.to_json().replace(b'"schema_version": 1', b'"schema_version": 2'))
