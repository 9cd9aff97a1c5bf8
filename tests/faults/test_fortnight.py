"""Automation under the real daemon, on both kinds of instance: everything once, whatever happens in between."""

import datetime as dt
import pathlib

import pytest
from daemons import site
from postgres import postgres
from rounds import FULL, rounds

from faults.fortnight import HOT_DAYS, live
from pathstats_pipeline.events.window import DAY
from pathstats_pipeline.storage.local_s3 import LocalS3

pytestmark = pytest.mark.faults
DAYS = rounds(3, full=14)


@pytest.mark.timeout(3_600)
def test_days_go_their_way_by_themselves(tmp_path: pathlib.Path, s3_server: LocalS3) -> None:
    """An hour that fills, a late load, a power cut in the middle of a run: every step once, no event lost."""
    _live(tmp_path, s3_server, "")


@pytest.mark.skipif(not FULL, reason="as long again as on SQLite: only where all is asked for, FULL=1")
@pytest.mark.timeout(3_600)
def test_days_go_their_way_by_themselves_on_postgresql(tmp_path: pathlib.Path, s3_server: LocalS3) -> None:
    """The same with Dagster's storage in PostgreSQL."""
    pytest.importorskip("dagster_postgres", reason="extra `postgres` is not installed")
    with postgres() as url:
        _live(tmp_path, s3_server, f'storage: {{postgres: {{postgres_url: "{url}"}}}}\n')


def _live(folder: pathlib.Path, server: LocalS3, yaml: str) -> None:
    first_day = dt.datetime.now(dt.UTC).date() - (DAYS + 2) * DAY
    with site(folder, server, first_day, yaml, HOT_DAYS=str(HOT_DAYS)) as here:
        for line in live(here, first_day, DAYS):
            print(line)  # noqa: T201 - the story, for whom it fails
