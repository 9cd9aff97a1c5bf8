"""M3: killed at any boundary of its life, a day is finished by the next run; see crash_table.py."""

import pathlib

import pytest

from faults.crash_table import crashes, lab
from pathstats_pipeline.storage.local_s3 import LocalS3

EITHER_WAY = pytest.mark.parametrize("multipart", [False, True], ids=["one part", "three parts"])


@EITHER_WAY
def test_killed_at_some_boundaries(tmp_path: pathlib.Path, s3_server: LocalS3, multipart: bool) -> None:  # noqa: FBT001
    """One boundary in nine, and pairs of them: as below."""
    with lab(tmp_path, s3_server, multipart=multipart) as here:
        assert len(list(crashes(here, pairs=2, every=9))) > 8


@pytest.mark.faults
@EITHER_WAY
def test_killed_at_every_boundary(tmp_path: pathlib.Path, s3_server: LocalS3, multipart: bool) -> None:  # noqa: FBT001
    """Each boundary once, and pairs: invariants hold after the kill, and the next run ends with the day deleted."""
    with lab(tmp_path, s3_server, multipart=multipart) as here:
        table = list(crashes(here, pairs=5))
    died_at = {crash.died_at[0].partition(" ")[2] for crash in table}
    assert {"before PUT metadata", "after PUT metadata", "before COMMIT", "after CHECKPOINT"} <= died_at
    assert ("after complete upload" in died_at) is multipart
    assert ("after part 3" in died_at) is multipart
    assert "after part 4" not in died_at
    assert ("after PUT events" in died_at) is not multipart
