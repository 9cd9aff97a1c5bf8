"""The keys of the archive on S3, and nothing else. Pure.

Every part of a key comes from a date, a number or a hexadecimal digest, so no event can choose a key.
"""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final

from pathstats_pipeline.archive.jsonl import Digest

FOLDERS: Final = ("events/", "metadata/", "claims/", "probe/")
"""What every key begins with, below the archive's prefix; the last are those of storage/probe.py."""
MANIFESTS: Final = "metadata/"
"""What the key of every manifest begins with."""
_MANIFEST: Final = re.compile(rf"{MANIFESTS}dt=(?P<date>\d{{4}}-\d{{2}}-\d{{2}})/g(?P<generation>\d{{4,}})\.json")


def object_key(date: dt.date, generation: int, digest: Digest) -> str:
    """`events/dt=…/events-…-gNNNN-<digest8>.jsonl.gz`, below the archive's prefix."""
    return f"{object_folder(date)}events-{date}-g{generation:04d}-{digest.hex[:8]}.jsonl.gz"


def manifest_key(date: dt.date, generation: int) -> str:
    """`metadata/dt=…/gNNNN.json`, below the archive's prefix."""
    return f"{manifest_folder(date)}g{generation:04d}.json"


def manifest_folder(date: dt.date) -> str:
    """The folder that holds a day's manifests."""
    return f"metadata/dt={date}/"


def is_manifest_key(key: str) -> bool:
    """Whether a key below the archive's prefix names a manifest."""
    return _MANIFEST.fullmatch(key) is not None


def archived_days(manifest_keys: Iterable[str]) -> list[dt.date]:
    """The days of these keys that name manifests, each once, in order."""
    matches = filter(None, map(_MANIFEST.fullmatch, manifest_keys))
    return [dt.date.fromisoformat(date) for date in sorted({match["date"] for match in matches})]


def claim_folder(date: dt.date, generation: int) -> str:
    """The folder that holds the claims on a generation of a day."""
    return f"claims/dt={date}/g{generation:04d}-e"


def claim_key(date: dt.date, generation: int, epoch: int) -> str:
    """`claims/dt=…/gNNNN-eNNNN.json`; the highest epoch holds."""
    return f"{claim_folder(date, generation)}{epoch:04d}.json"


def claim_epoch(key: str) -> int:
    """The epoch of a claim, from its key."""
    return int(key.rpartition("-e")[2].removesuffix(".json"))


def object_folder(date: dt.date) -> str:
    """The folder that holds a day's objects."""
    return f"events/dt={date}/"
