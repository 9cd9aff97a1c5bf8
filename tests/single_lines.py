"""What the tests of single formats share: one line in, one event or one reason out."""

from typing import Any

import polars as pl

from pathstats_pipeline.events.formats.parsed import LogFormat


def event_of(form: LogFormat, line: str) -> dict[str, Any]:
    """Give the event of a line, without what is NULL and without its number; the time as text."""
    parsed = form.parse(pl.Series([line]))
    assert parsed.rejected["reason"].to_list() == []
    event = parsed.events.drop("line_number").row(0, named=True)
    return {key: str(value) if key == "event_time" else value for key, value in event.items() if value is not None}


def reason_of(form: LogFormat, line: str) -> str:
    """Give the reason for which a line is rejected."""
    parsed = form.parse(pl.Series([line]))
    assert parsed.events.is_empty()
    return str(parsed.rejected["reason"].item())
