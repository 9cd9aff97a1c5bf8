"""What a tick says of what is late: what, why, and when it is tried next."""

import datetime as dt

import pytest

from pathstats_pipeline.automation.due import RETRY_AFTER, Ask, may_be_asked
from pathstats_pipeline.automation.late import MOST_LINES, Tried, lines
from pathstats_pipeline.defs.presentation import day_key, hour_key
from pathstats_pipeline.events.window import HOUR, Window

NOON = dt.datetime(2026, 11, 25, 12)
START = dt.datetime(2026, 11, 20, 5)
HOURS = Ask("hourly", Window(START, START + 2 * HOUR), "x", "over, and never built")
ARCHIVE = Ask("archive", Window.of_day(START.date()), "x", "3 event(s) are in no generation")


def test_each_line_has_job_partition_reason_last_run_and_next_try() -> None:
    """Partitions by their keys in the UI."""
    failed = Tried([NOON, NOON - HOUR], "0123456789")
    hours, archive = lines([(HOURS, Tried([NOON], "abcdefghij")), (ARCHIVE, failed)])
    assert hours == (
        f"• hourly {hour_key(START)} to {hour_key(START + HOUR)}: over, and never built; "
        "failed once, last in run abcdefgh; tried again at 2026-11-25 12:10 UTC"
    )
    assert archive == (
        f"• archive {day_key(START.date())}: 3 event(s) are in no generation; "
        "failed 2 times, last in run 01234567; tried again at 2026-11-25 13:00 UTC"
    )


@pytest.mark.parametrize("failures", range(1, len(RETRY_AFTER) + 3))
def test_the_next_try_is_when_it_may_be_asked(failures: int) -> None:
    """Not before, whatever the number of failures."""
    tried = Tried([NOON] * failures, "run")
    [line] = lines([(ARCHIVE, tried)])
    told = dt.datetime.strptime(line.split("tried again at ")[1], "%Y-%m-%d %H:%M UTC")  # noqa: DTZ007 - UTC
    assert may_be_asked(tried.failures, told)
    assert not may_be_asked(tried.failures, told - dt.timedelta(minutes=1))


def test_what_somebody_cancelled_is_not_tried_again_and_says_so() -> None:
    """Failures before it don't matter."""
    cancelled = Tried([NOON], "0123456789", "canceled")
    assert not cancelled.may_be_asked(NOON + 1000 * HOUR)
    assert next(lines([(ARCHIVE, cancelled)])) == (
        "• archive 2026-11-20: 3 event(s) are in no generation; "
        "its run 01234567 is canceled, so it is asked for again when something new comes"
    )


def test_a_tick_says_so_much_and_how_many_more() -> None:
    """A month that is late is not a month of lines."""
    told = list(lines([(ARCHIVE, Tried([NOON], "run"))] * 24))
    assert len(told) == MOST_LINES + 1
    assert told[-1] == "• and 12 more"
    assert len(list(lines([(ARCHIVE, Tried([NOON], "run"))] * MOST_LINES))) == MOST_LINES
