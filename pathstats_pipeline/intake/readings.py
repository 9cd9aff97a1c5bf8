"""Surveys of files that grow, kept in memory, so that the next one goes on where the last one ended.

Without them a file would be read to its end as often as it grows. A survey goes on only where it is still that file:
the same inode, the same first bytes, and the same bytes before the place where it ended; else it begins anew. What a
survey finds is the same either way.
"""

import collections
import dataclasses
from collections.abc import Hashable, Sequence
from typing import Final

from pathstats_pipeline.events.formats.parsed import LogFormat
from pathstats_pipeline.intake.lines import Source
from pathstats_pipeline.intake.sources import Beginning, Survey

WORTH_BYTES: Final = 1 << 20
"""Smaller files are read as a whole in less time than the parsing of what is new takes."""
MOST: Final = 1_000
"""Files that are kept; of more that grow at once, those that were read longest ago are read anew."""


@dataclasses.dataclass
class Reading:
    """A survey, before or after it was read to the end of a stream.

    `head` is what was read of the stream before it, where it begins anew; `log_format` is what the file was read with.
    """

    version: Hashable
    first: bytes
    head: bytes
    ends: Sequence[int]
    survey: Survey
    worth_keeping: bool
    log_format: LogFormat | None = None

    def go_on(self, stream: Source) -> Beginning:
        """Read on to the end of the stream."""
        return self.survey.read(stream, self.ends, self.head)


class Readings:
    """The readings of the files that were read last."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[Hashable, Reading] = collections.OrderedDict()

    def take(self, stream: Source, head: bytes, ends: Sequence[int]) -> Reading:
        """The reading of a stream of which `head` was read, with facts of its prefixes of these lengths.

        A kept one isn't kept any more: what fails in the middle of it begins anew.
        """
        kept = self._kept.pop(stream.version, None)
        if kept and stream.seekable:
            if kept.first == head and _goes_on(kept.survey, stream, ends):
                return dataclasses.replace(kept, head=b"", ends=ends)
            stream.seek(len(head))
        return Reading(stream.version, head, head, ends, Survey(), stream.seekable)

    def keep(self, reading: Reading) -> None:
        """Keep a reading that has come to the end, for when the file has grown."""
        if reading.worth_keeping and reading.survey.length >= WORTH_BYTES:
            self._kept[reading.version] = reading
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)


def _goes_on(survey: Survey, stream: Source, ends: Sequence[int]) -> bool:
    """Whether the stream still has what was surveyed, and no prefix in it is asked for that wasn't looked at.

    Then it stands where the survey ended.
    """
    if any(end < survey.length and end not in survey.prefixes for end in ends):
        return False
    stream.seek(survey.length - len(survey.tail))
    tail = b""
    while len(tail) < len(survey.tail) and (data := stream.read(len(survey.tail) - len(tail))):
        tail += data
    return tail == survey.tail
