"""The text of an alarm, as Slack and those who read its JSON (Mattermost, Rocket.Chat, Discord's `/slack`) want it.

Pure. What came from a log, a run or a check is escaped and cut: it calls nobody by name; no link is made but ours.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from pathstats_pipeline.alarms.judging import News, Verdict

_TEXT_CHARACTERS: Final = 600
_SIGNS: Final = {News.BAD: "failed", News.STILL_BAD: "still fails", News.GOOD_AGAIN: "is good again"}


@dataclasses.dataclass(frozen=True)
class FailedRun:
    """A run that failed: its job, its partition, the step and what it said."""

    run_id: str
    job: str
    partition: str | None
    step: str | None
    error: str
    reason: str | None = None
    """Why automation asked for the run."""


Message = dict[str, str]
"""JSON for a webhook."""


def of_runs(runs: Sequence[FailedRun], dagster_url: str | None) -> Message:
    """The message of runs of one job that failed one after another; the first of them in full."""
    first, others = runs[0], len(runs) - 1
    more = f"and {others} more, to {runs[-1].partition or runs[-1].run_id}" if others else ""
    what = " ".join(filter(None, [first.job, first.partition, more]))
    lines = [f":rotating_light: *Run failed*: {_plain(what)}"]
    lines.append(f"{_plain(first.step)}: {_plain(first.error)}" if first.step else _plain(first.error))
    if first.reason:
        lines.append(f"asked for: {_plain(first.reason)}")
    lines += _link(dagster_url, f"/runs/{quote(first.run_id)}", f"run {first.run_id[:8]}")
    return {"text": "\n".join(lines)}


def of_verdict(verdict: Verdict, news: News, dagster_url: str | None) -> Message:
    """The message of a check that turned bad, stays bad, or is good again; a warning is worded as one."""
    sign = ":white_check_mark: *Resolved*" if news is News.GOOD_AGAIN else ":rotating_light: *Check failed*"
    if verdict.is_warning and news is not News.GOOD_AGAIN:
        sign = ":warning: *Warning*"
    what = f"{verdict.check} of {verdict.asset}" + (f" {verdict.partition}" if verdict.partition else "")
    lines = [f"{sign}: {_plain(what)} {_SIGNS[news]}"]
    if verdict.description:
        lines.append(_plain(verdict.description))
    lines += _link(dagster_url, f"/assets/{quote(verdict.asset)}?view=checks", verdict.asset)
    return {"text": "\n".join(lines)}


def _plain(text: str) -> str:
    """One line, cut, with Slack's three control characters escaped."""
    line = " ".join(text.split())
    cut = line if len(line) <= _TEXT_CHARACTERS else f"{line[:_TEXT_CHARACTERS]}…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _link(dagster_url: str | None, path: str, name: str) -> list[str]:
    return [f"<{dagster_url.rstrip('/')}{path}|{_plain(name)}>"] if dagster_url else []
