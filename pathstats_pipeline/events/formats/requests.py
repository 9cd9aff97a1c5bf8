"""The request line and its target: method, path, and the host of an absolute target.

A request that is not HTTP is traffic, too: it becomes an event without method, whose path is the text as received.
"""

from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.matching import first_match

METHOD: Final = r"[A-Za-z][A-Za-z0-9_-]{0,31}"

_PROTOCOL: Final = r"[A-Z]+/[0-9][0-9.]*"
_PATTERNS: Final = (
    rf"(?s)^(?P<method>{METHOD}) (?P<target>[^ ]+)(?: {_PROTOCOL})?$",
    rf"(?s)^(?P<method>{METHOD}) +(?P<target>[^ ].*?)(?: +{_PROTOCOL})? *$",
)
"""The usual request line, and one whose target holds spaces."""

_ABSOLUTE: Final = r"(?s)^[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)([^?#]*)"
_NO_REQUEST: Final = ["", "-", "<BADREQ>"]


def target_path(target: pl.Expr) -> pl.Expr:
    """Give the path of a request target: without query and fragment, and without scheme and authority."""
    absolute = target.str.extract(_ABSOLUTE, 2)
    return pl.when(absolute.is_null()).then(_bare(target)).when(absolute == "").then(pl.lit("/")).otherwise(absolute)


def read_targets(targets: pl.Series) -> pl.DataFrame:
    """Split request targets into `path` and `target_host`; mostly none is absolute, and looking is cheap."""
    target = pl.col("target")
    if not targets.str.starts_with("/").all():
        path, host = target_path(target), target_host(target)
    else:
        path = _bare(target) if targets.str.contains("[?#]").any() else target
        host = pl.lit(None, pl.String)
    return targets.to_frame("target").select(path=path, target_host=host)


def _bare(target: pl.Expr) -> pl.Expr:
    return _up_to(_up_to(target, "?"), "#")  # half the time of a regular expression


def _up_to(text: pl.Expr, mark: str) -> pl.Expr:
    return text.str.splitn(mark, 2).struct[0]


def target_host(target: pl.Expr) -> pl.Expr:
    """Give the authority of an absolute target; NULL for any other."""
    return target.str.extract(_ABSOLUTE, 1)


def method_of(text: pl.Expr) -> pl.Expr:
    """Give a method that is a token; NULL for anything else."""
    return pl.when(text.str.contains(rf"^{METHOD}$")).then(text)


def read_requests(requests: pl.Series) -> pl.DataFrame:
    """Split request lines (`GET /a?b HTTP/1.1`) into `method`, `path` and `target_host`."""
    numbered = pl.DataFrame({"index": pl.int_range(requests.len(), eager=True), "line": requests})
    matched, rest = first_match(numbered, _PATTERNS)
    probe = pl.when(~pl.col("line").is_in(_NO_REQUEST)).then(pl.col("line"))
    parts = [
        *(part.select("index", "method").hstack(read_targets(part["target"])) for part in matched),
        rest.select("index", method=pl.lit(None, pl.String), path=probe, target_host=pl.lit(None, pl.String)),
    ]
    return pl.concat(parts).sort("index").drop("index")
