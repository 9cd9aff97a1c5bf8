"""The code location with a clock that a test sets: the file that `TEST_CLOCK` names."""

import os

from clocks import FileClock

from pathstats_pipeline.definitions import build_defs

defs = build_defs(clock=FileClock(path=os.environ["TEST_CLOCK"]))
