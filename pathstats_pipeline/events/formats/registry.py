"""Which formats there are, and which one a file is in. A new format is one more line in `FORMATS`.

The formats themselves, and anything that reads a line, stay in their own files.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from pathstats_pipeline.events.formats.alb import AlbFormat
from pathstats_pipeline.events.formats.clf import ClfFormat
from pathstats_pipeline.events.formats.envoy import EnvoyFormat
from pathstats_pipeline.events.formats.fieldmap import shipped_maps
from pathstats_pipeline.events.formats.haproxy import HaproxyFormat
from pathstats_pipeline.events.formats.jsonl import CANONICAL_MAP, JsonFormat
from pathstats_pipeline.events.formats.ltsv import LtsvFormat
from pathstats_pipeline.events.formats.npm import NpmFormat
from pathstats_pipeline.events.formats.parsed import LogFormat, ParsedLines, account
from pathstats_pipeline.events.formats.squid import SquidFormat
from pathstats_pipeline.events.formats.traefik import TraefikFormat
from pathstats_pipeline.events.formats.w3c import CLOUDFRONT, W3cFormat

SAMPLE_LINES: Final = 1000
"""Enough to tell formats apart; `detect` reads no more."""

FORMATS: Final[Mapping[str, tuple[LogFormat, ...]]] = {
    "canonical": (JsonFormat(CANONICAL_MAP, name="canonical"),),
    "jsonl": tuple(JsonFormat(field_map) for field_map in shipped_maps()),
    "haproxy": (HaproxyFormat(),),
    "envoy": (EnvoyFormat(),),
    "traefik": (TraefikFormat(),),
    "alb": (AlbFormat(),),
    "w3c": (W3cFormat(),),
    "cloudfront": (CLOUDFRONT,),
    "squid": (SquidFormat(),),
    "ltsv": (LtsvFormat(),),
    "combined": (ClfFormat(),),
    "common": (ClfFormat(name="common"),),
    "npm": (NpmFormat(),),
}
"""Each format by name, with its variants: `jsonl` has one for each shipped map.

Ties go to the earlier one: a format that also reads another's lines stands behind it, as Envoy's behind JSON and nginx
proxy manager's behind the combined one, and one that asks for more of a line before it, as Traefik's.
"""


@dataclasses.dataclass(frozen=True)
class UnknownFormat:
    """No known format: every line is rejected for this reason, so that nothing of the file is lost."""

    name: str = "unknown"
    reason: str = "no known format"

    def parse(self, lines: pl.Series) -> ParsedLines:
        """Reject a block of lines."""
        return account(lines, lambda frame: [frame.select("index", reason=pl.lit(self.reason))])


def detect(sample: pl.Series) -> LogFormat:
    """Give the format that knows most lines of a sample, `UnknownFormat` where none knows any.

    Known lines are events and header lines. Of the formats that know equally many, the one that fills more columns: so
    a field map is chosen by its keys.
    """
    return _best(sample, (variant for variants in FORMATS.values() for variant in variants))


def choose(name: str, sample: pl.Series) -> LogFormat:
    """Give a format by name; `auto` is detected, and where a name has variants the sample decides.

    Raises `KeyError` where there is no such name.
    """
    if name == "auto":
        return detect(sample)
    variants = FORMATS[name]
    return variants[0] if len(variants) == 1 else _best(sample, iter(variants))


def _best(sample: pl.Series, candidates: Iterator[LogFormat]) -> LogFormat:
    best: LogFormat = UnknownFormat()
    most = (0, 0)
    for candidate in candidates:
        parsed = candidate.parse(sample.head(SAMPLE_LINES))
        known = parsed.events.height + parsed.headers.len()
        filled = sum(column.len() - column.null_count() for column in parsed.events)
        if (known, filled) > most:
            best, most = candidate, (known, filled)
    return best
