"""Verdicts on hours, days and the warehouse's file: what passes, what doesn't, and what is said of it."""

import datetime as dt

import polars as pl
import pytest

from pathstats_pipeline.archive.balance import (
    SUMS,
    Balance,
    judge_archive,
    judge_hours,
    judge_rejected,
    judge_requests,
)
from pathstats_pipeline.archive.growth import growth_bytes_per_day, judge_size, with_size
from pathstats_pipeline.archive.sums import sums_of

DAY = dt.date(2026, 3, 10)
HOURS = [dt.datetime(2026, 3, 10, hour) for hour in range(24)]
GOOD = Balance(stored=100, duplicates=3, rejected=2, live=100, counted=100)
GIB = 1024**3


@pytest.mark.parametrize(
    ("stored", "rejected", "passed"),
    [(0, 0, True), (100, 5, True), (1, 9, True), (190, 10, True), (189, 10, False), (0, 10, False)],
)
def test_too_many_rejected_lines_are_a_warning_but_not_a_few(stored: int, rejected: int, *, passed: bool) -> None:
    """A quiet hour with one bad line in two is no alarm."""
    verdict = judge_rejected(Balance(stored=stored, rejected=rejected), 0.05)

    assert (verdict.passed, verdict.is_error) == (passed, False)
    assert passed or "pathstats.rejected_events" in verdict.reason


@pytest.mark.parametrize(
    ("balance", "passed"),
    [
        (Balance(), True),
        (GOOD, True),
        (Balance(stored=100, live=40, deleted=60, counted=100), True),
        (Balance(stored=100, live=100, counted=99), False),
        (Balance(stored=100, live=99, counted=100), False),
        (Balance(live=1), False),
    ],
)
def test_requests_are_the_events_that_were_stored(balance: Balance, *, passed: bool) -> None:
    """Wherever those are now."""
    verdict = judge_requests(balance)

    assert (verdict.passed, verdict.is_error) == (passed, not passed)


def test_a_day_is_complete_when_every_hour_is_loaded_and_counted() -> None:
    """An hour that nothing came for is; one that is behind, or has a file that isn't loaded, is named."""
    quiet = {hour: GOOD if hour.hour > 5 else Balance() for hour in HOURS}
    behind = {**quiet, HOURS[7]: Balance(stored=5, live=5)}

    assert judge_hours(quiet, set()).passed
    verdict = judge_hours(behind, {HOURS[2]})
    assert (verdict.passed, verdict.is_error) == (False, False)
    assert "2026-03-10T02, 2026-03-10T07" in verdict.reason
    assert verdict.figures == {"hours_with_events": 18, "hours_behind": 1, "hours_not_loaded": 1}


def _sums(**requests: int) -> pl.DataFrame:
    rows = [{"hour": HOURS[int(name[1:])], **dict.fromkeys(SUMS, 0), "requests": n} for name, n in requests.items()]
    return pl.DataFrame(rows, schema={"hour": pl.Datetime("us"), **dict.fromkeys(SUMS, pl.Int64())})


def _hours(**stored: int) -> dict[dt.datetime, Balance]:
    given = {HOURS[int(name[1:])]: Balance(stored=n, live=n, counted=n) for name, n in stored.items()}
    return {hour: given.get(hour, Balance()) for hour in HOURS}


def test_statistics_that_are_those_of_the_archive_pass() -> None:
    """Also an empty day, and one whose last events are in no generation yet."""
    assert judge_archive(_hours(), _sums(), _sums(), None).passed
    assert judge_archive(_hours(h1=5, h2=7), _sums(h1=5, h2=7), _sums(h1=5, h2=7), 12).passed
    late = judge_archive(_hours(h1=5, h2=7), _sums(h1=5, h2=7), _sums(h1=5, h2=6), 12)
    assert late.passed
    assert "1 hour(s) have events that no generation covers yet" in late.reason


def test_statistics_that_differ_from_the_archive_are_an_error() -> None:
    """The hour, the column and both numbers are named."""
    wrong = _sums(h1=5).with_columns(status_5xx=pl.lit(2, pl.Int64))

    verdict = judge_archive(_hours(h1=5), wrong, _sums(h1=5), 5)

    assert (verdict.passed, verdict.is_error) == (False, True)
    assert "01:00 status_5xx 2, archive 0" in verdict.reason


@pytest.mark.parametrize(
    ("hours", "daily", "words"),
    [
        (
            {**_hours(h1=5), HOURS[1]: Balance(stored=5, live=5, counted=4)},
            None,
            "statistics are behind: 2026-03-10T01",
        ),
        (_hours(h1=5), 4, "the day counts 4 requests, its hours 5"),
        (_hours(), None, "the archive has events that the warehouse never had"),
    ],
)
def test_what_is_behind_is_a_warning(hours: dict[dt.datetime, Balance], daily: int | None, words: str) -> None:
    """Nothing is wrong yet, but something is to be done."""
    counted = {hour: balance.counted for hour, balance in hours.items() if balance.counted}
    statistics = _sums(**{f"h{hour.hour}": count for hour, count in counted.items()})

    verdict = judge_archive(hours, statistics, _sums(h1=5), daily)

    assert (verdict.passed, verdict.is_error) == (False, False)
    assert words in verdict.reason


def test_events_are_summed_by_hour_as_the_statistics_count_them() -> None:
    """Unknown sizes and statuses are nobody's."""
    events = pl.DataFrame(
        {
            "event_time": [HOURS[3], HOURS[3] + dt.timedelta(minutes=59), HOURS[3], HOURS[4]],
            "status": [200, 599, None, 404],
            "bytes_sent": [10, None, 5, 1],
        },
        schema={"event_time": pl.Datetime("us"), "status": pl.Int16(), "bytes_sent": pl.Int64()},
    )

    assert sums_of(events).sort("hour").rows() == [(HOURS[3], 3, 1, 0, 0, 1, 15), (HOURS[4], 1, 0, 0, 1, 0, 1)]


def _peaks(*gib: float) -> dict[dt.date, int]:
    """Peaks of the days before today, the last one yesterday's."""
    return {DAY - dt.timedelta(days=len(gib) - at): int(size * GIB) for at, size in enumerate(gib)}


def test_growth_is_the_median_step_of_daily_peaks() -> None:
    """One backfill moves it no more than one compaction does; today isn't over."""
    assert growth_bytes_per_day(_peaks(1, 2, 3), DAY) is None
    assert growth_bytes_per_day({**_peaks(1, 2, 3), DAY: 9 * GIB}, DAY) is None
    assert growth_bytes_per_day(_peaks(1, 1.5, 2, 2.5), DAY) == GIB / 2
    assert growth_bytes_per_day(_peaks(1, 1.5, 40, 40.5, 41), DAY) == GIB / 2
    assert growth_bytes_per_day(_peaks(4, 4, 4, 4), DAY) == 0


def test_peaks_are_remembered_for_a_week() -> None:
    """The largest size of a day stands."""
    peaks = _peaks(*range(1, 20))
    told = with_size(with_size(peaks, DAY, 5), DAY, 3)
    assert (len(told), told[DAY], min(told)) == (8, 5, DAY - dt.timedelta(days=7))


@pytest.mark.parametrize(
    ("free", "limit", "growth", "passed", "is_error"),
    [
        (100, None, None, True, False),
        (100, None, 1.0, True, False),
        (100, None, -1.0, True, False),
        (6, None, 1.0, False, False),
        (1.5, None, 1.0, False, True),
        (100, 16, 1.0, False, False),
        (100, 11, 1.0, False, True),
        (100, 9, None, False, True),
        (0, None, None, False, True),
    ],
)
def test_a_file_that_is_full_within_a_week_is_a_warning_and_within_two_days_an_error(
    free: float, limit: float | None, growth: float | None, *, passed: bool, is_error: bool
) -> None:
    """A file of 10 GiB, by what its disk has and by its own limit."""
    verdict = judge_size(10 * GIB, int(free * GIB), int(limit * GIB) if limit else None, growth and growth * GIB)

    assert (verdict.passed, verdict.is_error) == (passed, is_error)
    assert passed or "pathstats status" in verdict.reason
