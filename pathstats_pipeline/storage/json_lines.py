r"""The archive's lines as DuckDB makes them: SQL for an event as JSON, the same as archive/jsonl.py makes, and `\n`.

DuckDB writes a line in half the time that it takes to read the columns and to encode them, and what it hands over is
the very text to compress. Its JSON isn't the same everywhere: floats are levelled here; the upper case of the digits in
escapes is by `jsonl.split_text`, where that costs less. Lines that differed all the same would not have the ledger's
digest, and nothing would be archived.
"""

import datetime as dt
from typing import Final

import polars as pl

from pathstats_pipeline.events.schema import EVENT_COLUMNS, TIME, Column

_FLOAT: Final = (
    # Beyond, its JSON goes on writing out all digits, and has NaN; a cast has two digits in every exponent.
    "CASE WHEN abs({name}) BETWEEN 1e-5 AND 1e15 THEN to_json({name}) "
    "WHEN isfinite({name}) THEN replace(CAST({name} AS VARCHAR), 'e-0', 'e-') ELSE 'null' END"
)


def line_of(hour: dt.datetime) -> str:
    """SQL for the line of an event of this hour."""
    values = (f"'{_key(column, index)}', {_value(column, hour)}" for index, column in enumerate(EVENT_COLUMNS))
    return f"concat({', '.join(values)}, '}}\n')"


def _key(column: Column, index: int) -> str:
    return f'{"," if index else "{"}"{column.name}":'


def _value(column: Column, hour: dt.datetime) -> str:
    if column.dtype == TIME:
        # Formatting the date and the hour, too, takes half as long again; and `%Y` pads no year.
        return f"strftime({column.name}, '\"{hour.isoformat()[:14]}%M:%S.%fZ\"')"
    if column.dtype == pl.Float64():
        return _FLOAT.format(name=column.name)
    return f"coalesce(to_json({column.name}), 'null')"
