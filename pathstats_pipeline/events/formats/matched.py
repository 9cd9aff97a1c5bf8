"""Events from the named groups of a pattern: what the plain-text formats of proxies and balancers have in common.

Which pattern reads a line, and in which unit it counts, stays with its format.
"""

import polars as pl

from pathstats_pipeline.events.formats.requests import read_requests
from pathstats_pipeline.events.formats.values import addresses, host_names, whole_numbers


def with_request(part: pl.DataFrame) -> pl.DataFrame:
    """Add `method`, `path` and `target_host` of the group `request`, a whole request line."""
    return part.hstack(read_requests(part["request"]))


def matched_events(part: pl.DataFrame, time: pl.Series, response_time_ms: pl.Expr, host: pl.Expr) -> pl.DataFrame:
    """Give a draft from a frame with the text columns `method`, `path`, `status`, `size`, `client` and maybe `agent`.

    `host` may still have a port, and `client` be a list of addresses with ports.
    """
    status, _ = whole_numbers(part["status"])
    size, _ = whole_numbers(part["size"])
    return part.select(
        "index",
        time.alias("event_time"),
        host_names(part.select(host.alias("host")).to_series()).alias("host"),
        "method",
        "path",
        status.alias("status"),
        response_time_ms.alias("response_time_ms"),
        size.alias("bytes_sent"),
        addresses(part["client"]).alias("client_ip"),
        (pl.col("agent") if "agent" in part.columns else pl.lit(None, pl.String)).alias("user_agent"),
    )
