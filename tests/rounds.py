"""How often the long tests break things: as often as CI has time for, or as often as they can, with FULL=1."""

import os

FULL = os.environ.get("FULL") == "1"
"""`make test-faults FULL=1`."""


def rounds(usual: int, full: int) -> int:
    """So many rounds in CI, so many where all are asked for."""
    return full if FULL else usual
