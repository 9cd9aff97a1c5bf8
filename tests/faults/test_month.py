"""M29: a simulated month in small, with kills; see month.py. The command does it with a million events a day."""

import pathlib

from faults.month import HOT_DAYS, month
from pathstats_pipeline.storage.local_s3 import LocalS3

EVENTS = 2_400
DAYS = 8


def test_days_pass_and_the_store_stays_as_large_as_what_lives_in_it(tmp_path: pathlib.Path, s3_server: LocalS3) -> None:
    """Loads, late loads, archives, clean-ups, kills: nothing is lost, and only the hot window is in the warehouse."""
    with month(tmp_path / "month", s3_server, EVENTS) as here:
        evenings = [here.pass_day(number) for number in range(DAYS)]
    assert sum(each.kills for each in evenings) > 0
    assert all(each.file <= 1.4 * each.live for each in evenings)
    # When the day is over, the days but it and the one before are old enough to go.
    assert max(each.hot_rows for each in evenings) <= HOT_DAYS * (EVENTS + 50)
    assert evenings[-1].archived_rows == sum(digest.rows for digest in here.landed.values())
    assert evenings[-1].objects == evenings[-1].manifests > DAYS
