"""Names on S3: exactly the contract's, and nothing of an event in them."""

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.archive import keys
from pathstats_pipeline.archive.jsonl import Digest

DATE = dt.date(2026, 11, 2)


def test_keys_are_the_contracts() -> None:
    """Object and manifest stand where the contract says, the digest's first eight digits in the object's name."""
    digest = Digest(3, 0x0123456789ABCDEF << 64 | 1)
    assert keys.object_key(DATE, 1, digest) == "events/dt=2026-11-02/events-2026-11-02-g0001-01234567.jsonl.gz"
    assert keys.manifest_key(DATE, 1) == "metadata/dt=2026-11-02/g0001.json"
    assert keys.manifest_key(DATE, 12_345) == "metadata/dt=2026-11-02/g12345.json"
    assert keys.manifest_folder(DATE) == "metadata/dt=2026-11-02/"


@given(st.dates(dt.date(1970, 1, 1)), st.integers(1, 99_999), st.integers(0, 2**128 - 1))
def test_keys_have_no_other_characters(date: dt.date, generation: int, total: int) -> None:
    """Whatever the day, generation and digest: letters, digits, and the contract's own punctuation."""
    key = keys.object_key(date, generation, Digest(1, total))
    assert re.fullmatch(r"events/dt=\d{4}-\d\d-\d\d/events-\d{4}-\d\d-\d\d-g\d{4,}-[0-9a-f]{8}\.jsonl\.gz", key)
    assert keys.is_manifest_key(keys.manifest_key(date, generation))
    assert not keys.is_manifest_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "metadata/dt=2026-11-02/g0001.json.tmp",
        "metadata/dt=2026-11-02/g001.json",
        "metadata/dt=2026-11-02/notes.json",
        "metadata/dt=2026-11-02/old/g0001.json",
        "metadata/g0001.json",
        "metadata/dt=2026-11-02/g0001.json\n",
        "other/metadata/dt=2026-11-02/g0001.json",
    ],
)
def test_other_files_in_the_folder_are_no_manifests(key: str) -> None:
    """What somebody puts beside the manifests is not taken for one."""
    assert not keys.is_manifest_key(key)
