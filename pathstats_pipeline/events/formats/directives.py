"""The header lines of W3C files (`#Fields:` and others): what they say, and what held for each line of a block.

They may stand anywhere in a file, several times, and say something else each time. How a data line is read by what
they say is in `w3c`.
"""

import dataclasses
from typing import Final

import polars as pl

_DIRECTIVE: Final = r"^#[A-Za-z][A-Za-z -]*:"
_NAMES: Final = ("fields", "software", "date")


@dataclasses.dataclass(frozen=True)
class Directives:
    """What the header lines said so far, each as it was written behind its colon; None where it was not said."""

    fields: str | None = None
    software: str | None = None
    date: str | None = None

    def after(self, frame: pl.DataFrame) -> "Directives":
        """Give what holds behind the last line of a frame of `index` and `line`."""
        return Directives(**self.said(frame).select(_NAMES).row(-1, named=True))

    def said(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Give one row for each header line, with its index and what holds behind it; before all, with index -1, ours.

        Also tells, in `is_fields`, whether a line names fields.
        """
        line = pl.col("line")
        headers = frame.filter(is_directive(line)).select(
            "index",
            *(line.str.extract(rf"(?i)^#{name}:[ \t]*(.*?)[ \t\r]*$").alias(name) for name in _NAMES),
            is_fields=line.str.contains(r"(?i)^#fields:"),
        )
        ours = pl.DataFrame({"index": [-1], **dataclasses.asdict(self), "is_fields": [False]}, schema=headers.schema)
        return pl.concat([ours, headers]).with_columns(pl.col(_NAMES).forward_fill())


def is_directive(line: pl.Expr) -> pl.Expr:
    """Tell whether a line is a header line."""
    return line.str.contains(_DIRECTIVE)
