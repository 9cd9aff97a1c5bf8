"""What the strict S3 server is told to do wrong: which fault, on which request, how often."""

import dataclasses
import enum


class Fault(enum.StrEnum):
    """Everything that the server can be told to do wrong."""

    TOO_MANY = "429"
    INTERNAL = "500"
    SLOW_DOWN = "503"
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after commit"
    SLOW = "1 kB/s"
    CUT = "cut body"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    SKEWED = "clock skew"

    KEEPS_NOTHING = "says 200, stores nothing"
    GARBAGE = "stores garbage of the same length"
    CUTS_MEMBER = "cuts the body at a gzip member boundary"
    EMPTY = "stores an empty object"
    HEAD_ONLY = "200 on HEAD, 404 on GET"
    FRAMED = "stores aws-chunked framing in the body"
    FLIPPED = "a bit flips between client and server"
    FLIPS_STORED = "a bit flips after the checks"
    NO_CHECKSUMS = "knows no checksums"
    NO_CONDITIONS = "ignores If-None-Match"
    NO_FLOOR = "takes parts of any size"
    NO_RANGE = "ignores Range"
    KEEPS_DELETED = "says 204, keeps the object"
    DELETE_ERRORS = "answers 200 with an error for each key"

    COMPLETE_ERROR = "200 with <Error>"
    COMPLETE_EMPTY = "200 with an empty body, done"
    COMPLETE_EMPTY_UNDONE = "200 with an empty body, not done"
    COMPLETE_CUT_XML = "200 with cut XML, done"
    COMPLETE_GONE = "NoSuchUpload after a success"
    CONFLICT = "409"


ANSWERS = {
    Fault.TOO_MANY: (429, "TooManyRequests"),
    Fault.INTERNAL: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.FORBIDDEN: (403, "AccessDenied"),
    Fault.NOT_FOUND: (404, "NoSuchKey"),
    Fault.SKEWED: (403, "RequestTimeTooSkewed"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
}
"""Faults that are an answer instead of the work."""

MATRIX = (
    Fault.TOO_MANY,
    Fault.INTERNAL,
    Fault.SLOW_DOWN,
    Fault.RESET_BEFORE,
    Fault.RESET_AFTER,
    Fault.SLOW,
    Fault.CUT,
    Fault.FORBIDDEN,
    Fault.NOT_FOUND,
    Fault.SKEWED,
)
"""The columns of the fault matrix, M15."""


@dataclasses.dataclass
class Rule:
    """A fault for requests of a verb (any verb, when it is empty) whose key contains a text.

    `after` such requests it comes `times` times.
    """

    fault: Fault
    verb: str = ""
    key: str = ""
    after: int = 0
    times: float = float("inf")
    met: int = 0
    """Requests that it was for, with the fault or without."""

    def applies(self, verb: str, key: str) -> bool:
        """Count a request; whether the fault comes."""
        if (self.verb and self.verb != verb) or self.key not in key:
            return False
        self.met += 1
        return self.after < self.met <= self.after + self.times
