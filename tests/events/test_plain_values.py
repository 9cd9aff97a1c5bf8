"""The quick ways to read plain times and durations: they give what the careful ways give, or leave it to them."""

import datetime as dt
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathstats_pipeline.events.formats.requests import read_targets, target_host, target_path
from pathstats_pipeline.events.formats.times import rfc3339_microseconds_time, rfc3339_seconds_time, rfc3339_time
from pathstats_pipeline.events.formats.values import duration_ms, durations_ms

QUICK = (rfc3339_microseconds_time, rfc3339_seconds_time)
TEXTS = st.from_regex(r"\A[0-9]{4}-[0-2][0-9]-[0-4][0-9][Tt ][0-3][0-9]:[0-7][0-9]:[0-7][0-9].{0,8}\Z")


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(TEXTS, TEXTS.map(lambda text: f"{text[:19]}.123456Z"), TEXTS.map(lambda text: text[:19] + "+00:00"))
    )
)
def test_a_quick_time_is_the_careful_one_or_none(texts: list[str]) -> None:
    """Impossible dates, other fractions and other offsets included."""
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    for form in QUICK:
        read = frame.select(quick=form(pl.col("text")), careful=rfc3339_time(pl.col("text")))
        assert read.filter(pl.col("quick").is_not_null() & pl.col("quick").ne_missing(pl.col("careful"))).is_empty()


@given(st.lists(st.none() | st.text("/a?#é \nh")))
def test_a_path_ends_before_query_and_fragment(targets: list[str | None]) -> None:
    """Whichever of the two stands first."""
    frame = pl.DataFrame({"target": targets}, schema={"target": pl.String})
    expected = [target and re.split("[?#]", target)[0] for target in targets]
    assert expected == frame.select(target_path(pl.col("target"))).to_series().to_list()


@given(st.lists(st.none() | st.text("/a?#é \nh") | st.sampled_from(["/a", "/b?c", "http://x/a#b", "https://y?z", "*"])))
def test_a_column_of_targets_is_read_as_each_of_them(targets: list[str | None]) -> None:
    """Whether or not one of them is absolute, or has a query."""
    column = pl.Series("target", targets, dtype=pl.String)
    target = pl.col("target")
    careful = column.to_frame().select(path=target_path(target), target_host=target_host(target))
    assert read_targets(column).equals(careful)


@pytest.mark.parametrize("end", [".493035Z", "+00:00"])
def test_usual_times_are_read_quickly(end: str) -> None:
    """Our own lines by the first form, nginx's in UTC by the second."""
    frame = pl.DataFrame({"text": [f"2025-12-31T17:37:40{end}"]})
    times = [frame.select(form(pl.col("text"))).item() for form in QUICK]
    assert dt.datetime(2025, 12, 31, 17, 37, 40) in [time and time.replace(microsecond=0) for time in times]


@pytest.mark.parametrize(
    "texts",
    [
        ["12", "0.004"],
        ["12", None],
        [None, None],
        ["1.5s", "3"],
        ["-1"],
        ["1e3"],
        [".5", "5."],
        ["-", ""],
        ["9" * 30],
        [],
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_column_of_durations_is_read_as_each_of_them(texts: list[str | None], unit: str) -> None:
    """Whether the column is plain or not."""
    column = pl.Series("text", texts, dtype=pl.String)
    careful = column.to_frame().select(duration_ms(pl.col("text"), unit)).to_series()  # type: ignore[arg-type]
    assert durations_ms(column, unit).equals(careful, check_names=False)  # type: ignore[arg-type]
