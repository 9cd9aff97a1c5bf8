"""The manifest: the facts of one generation of one day's archive. Written last, it is the commit.

Its keys are a promise to outsiders (contract, section 3). Adding a key is fine; renaming one is not.
"""

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, Final, Self

from pathstats_pipeline.archive import hours as hour_spans
from pathstats_pipeline.archive.hours import HourSpan
from pathstats_pipeline.archive.jsonl import Digest
from pathstats_pipeline.archive.strategy import Strategy
from pathstats_pipeline.events.load import Load
from pathstats_pipeline.events.window import from_rfc3339, rfc3339

SCHEMA_VERSION: Final = 1
DIGEST_NAME: Final = "sum-xxh3-128"


_EVENTS: Final = "events/dt="


def _below_prefix(key: str) -> str:
    """The part of an object's key that the archive names; what stands before it is where the archive is."""
    return _EVENTS + key.rpartition(_EVENTS)[2]


class ManifestError(ValueError):
    """A manifest can't be read; the text names the field."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One generation of one day: where its object is, what is in it, and which loads it covers."""

    date: dt.date
    generation: int
    key: str
    strategy: Strategy
    size_bytes: int
    raw_bytes: int
    sha256: str
    digest: Digest
    first_event_time: dt.datetime
    last_event_time: dt.datetime
    loads: tuple[Load, ...]
    archived_at: dt.datetime
    verified_at: dt.datetime
    software_version: str
    schema_version: int = SCHEMA_VERSION
    hours: tuple[HourSpan, ...] = ()
    """Where each hour with events stands in the object; empty where that isn't known."""

    @property
    def rows(self) -> int:
        """Number of events in the object."""
        return self.digest.rows

    def to_json(self, prefix: str = "") -> bytes:
        """The manifest as it stands on S3; `prefix` is the archive's, so that `key` is the object's whole key."""
        by_hour: dict[str, list[str]] = {}
        for load in sorted(self.loads):
            by_hour.setdefault(f"{load.hour:%H}", []).append(load.load_id)
        document: dict[str, Any] = {
            "date": self.date.isoformat(),
            "generation": self.generation,
            "key": f"{prefix}/{self.key}".lstrip("/"),
            "strategy": self.strategy.value,
            "rows": self.rows,
            "bytes": self.size_bytes,
            "raw_bytes": self.raw_bytes,
            "sha256": self.sha256,
            "digest": self.digest.hex,
            "digest_algorithm": DIGEST_NAME,
            "first_event_time": rfc3339(self.first_event_time),
            "last_event_time": rfc3339(self.last_event_time),
            "loads": sorted({load.load_id for load in self.loads}),
            "loads_by_hour": by_hour,
            "schema_version": self.schema_version,
            "archived_at": rfc3339(self.archived_at),
            "verified_at": rfc3339(self.verified_at),
            "software_version": self.software_version,
        }
        if self.hours:
            document["hours"] = hour_spans.to_document(self.hours)
        return (json.dumps(document, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a manifest back; raises ManifestError in one line when it isn't one."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document["schema_version"] != SCHEMA_VERSION:
                raise ManifestError(f"manifest has schema_version {document['schema_version']}, not {SCHEMA_VERSION}")
            if document["digest_algorithm"] != DIGEST_NAME:
                raise ManifestError(f"manifest has digest_algorithm {document['digest_algorithm']}, not {DIGEST_NAME}")
            date = dt.date.fromisoformat(document["date"])
            manifest = cls(
                date=date,
                generation=_integer(document, "generation"),
                key=_below_prefix(_text(document, "key")),
                strategy=Strategy(document["strategy"]),
                size_bytes=_integer(document, "bytes"),
                raw_bytes=_integer(document, "raw_bytes"),
                sha256=_text(document, "sha256"),
                digest=Digest.parse(_integer(document, "rows"), _text(document, "digest")),
                first_event_time=from_rfc3339(document["first_event_time"]),
                last_event_time=from_rfc3339(document["last_event_time"]),
                loads=_loads(date, document["loads_by_hour"]),
                archived_at=from_rfc3339(document["archived_at"]),
                verified_at=from_rfc3339(document["verified_at"]),
                software_version=_text(document, "software_version"),
                hours=hour_spans.from_document(document.get("hours", {})),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"not a manifest: {type(error).__name__} at {error}") from None
        if manifest.hours and not hour_spans.covers(manifest.hours, manifest.digest, manifest.size_bytes):
            raise ManifestError("not a manifest: its hours are not the rows of its object")
        return manifest


def _integer(document: Mapping[str, Any], name: str) -> int:
    value = document[name]
    if type(value) is not int or value < 0:
        raise ManifestError(f"not a manifest: {name} is {value!r}")
    return value


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise ManifestError(f"not a manifest: {name} is {value!r}")
    return value


def _loads(date: dt.date, ids_by_hour: Any) -> tuple[Load, ...]:
    found = []
    for name, ids in ids_by_hour.items():
        hour = dt.datetime.combine(date, dt.time(int(name)))
        if not isinstance(ids, list):
            raise ManifestError(f"not a manifest: the loads of hour {name} are {ids!r}")
        found += [Load(hour, _text({"load id": load_id}, "load id")) for load_id in ids]
    return tuple(found)
