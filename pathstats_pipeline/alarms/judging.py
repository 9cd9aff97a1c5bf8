"""Which verdicts of checks are told: when one turns bad, is good again, and once a day while it stays bad. Pure.

What a run failed of is always told; a check that is evaluated every ten minutes is not.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping
from typing import Final

REMINDED_AFTER: Final = dt.timedelta(days=1)
MOST_OPEN: Final = 500
"""Bad verdicts that are remembered; of more, the oldest are forgotten, and told again if they come again."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One evaluation of a check, of one partition or of the whole asset. `at` is when, naive UTC."""

    asset: str
    check: str
    partition: str | None
    passed: bool
    is_warning: bool
    description: str
    at: dt.datetime
    run_id: str = ""
    """Empty for what a sensor has evaluated."""

    @property
    def name(self) -> str:
        """What is judged: the same for each evaluation of it."""
        return f"{self.asset}:{self.check}:{self.partition or ''}"


class News(enum.StrEnum):
    """What an evaluation is, to people."""

    BAD = "bad"
    STILL_BAD = "still bad"
    GOOD_AGAIN = "good again"


Open = Mapping[str, dt.datetime]
"""The verdicts that were bad when they were last told, by name, and when that was."""


def judge(verdict: Verdict, told: Open) -> tuple[News | None, Open]:
    """Whether a verdict is told, and as what; and what is open once it was."""
    since = told.get(verdict.name)
    others = {name: at for name, at in told.items() if name != verdict.name}
    if verdict.passed:
        return (None if since is None else News.GOOD_AGAIN), others
    if since is not None and verdict.at < since + REMINDED_AFTER:
        return None, told
    newest = dict(sorted(others.items(), key=lambda item: item[1])[-(MOST_OPEN - 1) :])
    return (News.BAD if since is None else News.STILL_BAD), {**newest, verdict.name: verdict.at}
