"""What a log format makes of a block of lines, and the rules that hold for every format.

The seam between formats and the rest (`LogFormat`, `ParsedLines`), and `account`, the one place where a draft of
events is validated and split, so that each line ends in exactly one of the parts. No regular expression of a
particular format belongs here.
"""

import dataclasses
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl

from pathstats_pipeline.events.schema import PARSED_SCHEMA

LINE_LIMIT_BYTES: Final = 1024 * 1024
"""A longer line is no log line. Its text stands as NULL in a block, and every format rejects it."""

TOO_LONG: Final = "line longer than 1 MiB"

BLANK: Final = "blank line"

HEADER: Final = "header line"
"""The reason by which a draft names a line that tells how to read others: no event, and no defect either."""

REJECTED_LINES_SCHEMA: Final[dict[str, pl.DataType]] = {"index": pl.Int64(), "reason": pl.String()}

DRAFT_SCHEMA: Final[dict[str, pl.DataType]] = {
    "index": pl.Int64(),
    "reason": pl.String(),
    **{name: dtype for name, dtype in PARSED_SCHEMA.items() if name != "line_number"},
    # Wider than the table's SMALLINT until it is known to be a status.
    "status": pl.Int64(),
}
"""A draft: one row for each line. `reason` is NULL as long as nothing speaks against the line."""


@dataclasses.dataclass(frozen=True)
class ParsedLines:
    """The accepted, the rejected and the header lines of one block; together they are all of its lines, each once.

    `events` has `PARSED_SCHEMA`, with the 0-based index in the block as `line_number`; `rejected` has
    `REJECTED_LINES_SCHEMA`, and `headers` the indexes alone. All are sorted by index.
    """

    events: pl.DataFrame
    rejected: pl.DataFrame
    headers: pl.Series


class LogFormat(Protocol):
    """A way to read lines. It never raises on the content of a line."""

    @property
    def name(self) -> str:
        """The word for this format on the command line."""

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Events and rejected lines of a block of text lines; a NULL line is one that was too long to keep."""


@runtime_checkable
class HeadedFormat(LogFormat, Protocol):
    """A format some of whose lines say how the lines after them are read, also those of later blocks.

    Such a format is a value that holds what was said so far, and does not change: reading on is reading with another.
    """

    def after(self, lines: pl.Series) -> LogFormat:
        """Give the format that reads what follows these lines, parsed or not; it is cheap beside `parse`."""


class TextBlock(Protocol):
    """A block of lines that needn't be taken apart into a column of texts."""

    @property
    def text(self) -> bytes:
        """All lines with their line ends, as valid UTF-8."""

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The position in `text` of each line's end; the last one may be the end of the text itself."""

    @property
    def lines(self) -> pl.Series:
        """The lines as every format reads them."""


@runtime_checkable
class TextFormat(LogFormat, Protocol):
    """A format that reads a block's text as it stands, faster than line by line."""

    def parse_text(self, block: TextBlock) -> ParsedLines:
        """Give the same as `parse` of the block's lines."""


def parse_block(form: LogFormat, block: TextBlock) -> ParsedLines:
    """Read a block in the way that is fastest for the format."""
    return form.parse_text(block) if isinstance(form, TextFormat) else form.parse(block.lines)


def after(form: LogFormat, block: TextBlock) -> LogFormat:
    """Give the format that reads what follows a block: the same one, but for a format with headers."""
    return form.after(block.lines) if isinstance(form, HeadedFormat) else form


Draft = Callable[[pl.DataFrame], list[pl.DataFrame]]
"""From a frame (`index`, `line`) to drafts that hold each of its indexes once; missing columns count as NULL."""


def account(lines: pl.Series, draft: Draft) -> ParsedLines:
    """Read a block with a format's draft, validate, and split it: each line is in exactly one part of the result.

    Order of the drafts does not matter; the result is sorted by index.
    """
    return settle(drafts_of(numbered(lines), draft))


def numbered(lines: pl.Series) -> pl.DataFrame:
    """Give the frame of `index` and `line` that drafts are made of."""
    text = lines.cast(pl.String).alias("line")
    return pl.DataFrame({"index": pl.int_range(text.len(), dtype=pl.Int64, eager=True), "line": text})


def drafts_of(frame: pl.DataFrame, draft: Draft) -> list[pl.DataFrame]:
    """Give the drafts of numbered lines, those included that are no format's business: blank or too long."""
    blank = pl.col("line").str.strip_chars(" \t\r") == ""
    usable = frame.filter(~blank)  # NULL is neither blank nor usable
    unusable = frame.filter(blank | pl.col("line").is_null()) if usable.height < frame.height else frame.clear()
    return [
        unusable.select(
            "index", reason=pl.when(pl.col("line").is_null()).then(pl.lit(TOO_LONG)).otherwise(pl.lit(BLANK))
        ),
        *draft(usable),
    ]


def settle(drafts: list[pl.DataFrame]) -> ParsedLines:
    """Validate and split the drafts of a block, in whatever order they stand."""
    whole = pl.concat([draft_of(part) for part in drafts if part.height > 0] or [pl.DataFrame(schema=DRAFT_SCHEMA)])
    return judge(whole.sort("index") if not whole["index"].is_sorted() else whole)


def draft_of(part: pl.DataFrame) -> pl.DataFrame:
    """The part as a draft: missing columns are NULL."""
    return part.select(
        pl.col(name).cast(dtype) if name in part.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in DRAFT_SCHEMA.items()
    )


def judge(draft: pl.DataFrame) -> ParsedLines:
    """Validate a draft and split it, whatever made it: a log format, or a Parquet file."""
    time = pl.col("event_time")
    judged = draft.with_columns(
        reason=pl.coalesce(
            pl.col("reason"),
            pl.when(time.is_null()).then(pl.lit("bad time")),
            pl.when(~time.dt.year().is_between(1970, 9999)).then(pl.lit("time outside the years 1970 to 9999")),
        ),
    )
    accepted = pl.col("reason").is_null()
    refused = judged.filter(~accepted).select(*REJECTED_LINES_SCHEMA)
    is_header = pl.col("reason") == HEADER
    return ParsedLines(
        events=judged.filter(accepted).select(_validated()),
        rejected=refused.filter(~is_header),
        headers=refused.filter(is_header)["index"],
    )


def _validated() -> list[pl.Expr]:
    """Give the columns of `PARSED_SCHEMA`, with NULL for each value that its column can't mean."""
    milliseconds, size, status = pl.col("response_time_ms"), pl.col("bytes_sent"), pl.col("status")
    return [
        pl.col("event_id", "event_time"),
        known("host"),
        pl.col("method", "path"),
        pl.when(status.is_between(100, 999)).then(status).cast(pl.Int16).alias("status"),
        pl.when(milliseconds.is_finite() & (milliseconds >= 0)).then(milliseconds).alias("response_time_ms"),
        pl.when(size >= 0).then(size).alias("bytes_sent"),
        known("client_ip"),
        known("user_agent"),
        pl.col("index").alias("line_number"),
    ]


def known(name: str) -> pl.Expr:
    """Give a text column with NULL where the source wrote nothing: `-` or an empty text."""
    return pl.when(~pl.col(name).is_in(["", "-"])).then(pl.col(name)).alias(name)
