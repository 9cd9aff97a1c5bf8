"""What is told, and in which words."""

import datetime as dt

import pytest

from pathstats_pipeline.alarms.judging import MOST_OPEN, News, Verdict, judge
from pathstats_pipeline.alarms.messages import FailedRun, of_runs, of_verdict

NOON = dt.datetime(2026, 11, 25, 12)
UI = "https://dagster.example/"


def verdict(minutes: float, *, passed: bool = False, partition: str | None = None, warning: bool = False) -> Verdict:
    """A verdict so many minutes after noon."""
    at = NOON + dt.timedelta(minutes=minutes)
    return Verdict("raw_events", "queue_backlog", partition, passed, warning, "12 wait", at)


def test_a_check_is_told_when_it_turns_bad_once_a_day_and_when_it_is_good_again() -> None:
    """Evaluated every ten minutes for two days and a bit: two reminders, and one word at the end."""
    open_now: dict[str, dt.datetime] = {}
    told = []
    for minutes in range(0, 3000, 10):
        news, left = judge(verdict(minutes), open_now)
        open_now = dict(left)
        told += [(minutes, news)] if news else []
    news, left = judge(verdict(3000, passed=True), open_now)
    assert told == [(0, News.BAD), (1440, News.STILL_BAD), (2880, News.STILL_BAD)]
    assert (news, left) == (News.GOOD_AGAIN, {})
    assert judge(verdict(3010, passed=True), left) == (None, {})


def test_each_partition_is_a_matter_of_its_own() -> None:
    """A day that fails says nothing of another one."""
    _, left = judge(verdict(0, partition="2026-11-20"), {})
    assert judge(verdict(1, partition="2026-11-21"), left)[0] is News.BAD
    assert judge(verdict(1, partition="2026-11-21", passed=True), left)[0] is None


def test_what_is_remembered_is_bounded() -> None:
    """The newest stay."""
    left: dict[str, dt.datetime] = {}
    for number in range(MOST_OPEN + 5):
        left = dict(judge(verdict(number, partition=str(number)), left)[1])
    assert len(left) == MOST_OPEN
    assert verdict(0, partition="4").name not in left
    assert verdict(0, partition="5").name in left


@pytest.mark.parametrize(
    ("news", "warning", "begins"),
    [
        (News.BAD, False, ":rotating_light: *Check failed*: queue_backlog of raw_events failed"),
        (News.BAD, True, ":warning: *Warning*: queue_backlog of raw_events failed"),
        (News.STILL_BAD, False, ":rotating_light: *Check failed*: queue_backlog of raw_events still fails"),
        (News.GOOD_AGAIN, True, ":white_check_mark: *Resolved*: queue_backlog of raw_events is good again"),
    ],
)
def test_errors_warnings_and_what_is_good_again_are_worded_differently(
    *, news: News, warning: bool, begins: str
) -> None:
    """With the check's own words, and a link to its page."""
    lines = of_verdict(verdict(0, warning=warning), news, UI)["text"].splitlines()
    assert lines == [begins, "12 wait", "<https://dagster.example/assets/raw_events?view=checks|raw_events>"]
    assert len(of_verdict(verdict(0), news, None)["text"].splitlines()) == 2


def test_runs_that_failed_one_after_another_are_one_message_that_names_each() -> None:
    """In the order in which they failed, which is that of no range: partition, what is wrong, and where to look."""
    hours, link = ("05", "07", "06"), "https://dagster.example/runs/0123456"
    runs = [FailedRun(f"0123456{n}", "hourly", f"2026-11-20-{n}:00", "raw_events", f"{n}/x.parquet") for n in hours]
    assert of_runs(runs, UI)["text"].splitlines() == [
        ":rotating_light: *3 runs failed*: hourly",
        *(f"• 2026-11-20-{n}:00: raw_events: {n}/x.parquet <{link}{n}|run 0123456{n[0]}>" for n in hours),
    ]


def test_of_many_runs_ten_are_named_and_no_line_is_long() -> None:
    """The others are counted."""
    many = [FailedRun(str(n), "drain", None, None, "<!channel> " + "x" * 2000) for n in range(24)]
    lines = of_runs(many, None)["text"].splitlines()
    assert (lines[0], len(lines), lines[-1]) == (":rotating_light: *24 runs failed*: drain", 12, "and 14 more")
    assert lines[1].startswith("• 0: &lt;!channel&gt; xxx")
    assert all(len(line) < 300 for line in lines)
    assert "more" not in of_runs(many[:10], None)["text"]


def test_a_run_that_failed_alone_is_told_in_full() -> None:
    """Nobody is called by a name in a log line, and a long error is cut."""
    error = "<!channel> & <https://evil.example|click>\nsecond line " + "x" * 2000
    alone = FailedRun("01234567890", "archive", "2026-11-20", "events_archive", error, "over")
    first, step, reason, link = of_runs([alone], UI)["text"].splitlines()
    assert first == ":rotating_light: *Run failed*: archive 2026-11-20"
    assert step.startswith("events_archive: &lt;!channel&gt; &amp; &lt;https://evil.example|click&gt; second line xxx")
    assert len(step) < 700
    assert (reason, link) == ("asked for: over", "<https://dagster.example/runs/01234567890|run 01234567>")
    assert of_runs([FailedRun("1", "drain", None, None, "lost")], None) == {
        "text": ":rotating_light: *Run failed*: drain\nlost"
    }
