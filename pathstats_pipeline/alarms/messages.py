"""The text of an alarm, as Slack and those who read its JSON (Mattermost, Rocket.Chat, Discord's `/slack`) want it.

Pure. What came from a log, a run or a check is escaped and cut: it calls nobody by name; no link is made but ours.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from pathstats_pipeline.alarms.judging import News, Verdict

_TEXT_CHARACTERS: Final = 600
_RUN_CHARACTERS: Final = 250
"""Of each of several runs: a path of a landing file, and what is wrong with it."""
_MOST_RUNS: Final = 10
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
    """The message of runs of one job that failed one after another: the first ten, with partition and error."""
    if len(runs) > 1:
        lines = [f":rotating_light: *{len(runs)} runs failed*: {_plain(runs[0].job)}"]
        lines += [" ".join([_in_one_line(run), *_link_to(run, dagster_url)]) for run in runs[:_MOST_RUNS]]
        lines += [f"and {len(runs) - _MOST_RUNS} more"] if len(runs) > _MOST_RUNS else []
        return {"text": "\n".join(lines)}
    [run] = runs
    lines = [f":rotating_light: *Run failed*: {_plain(' '.join(filter(None, [run.job, run.partition])))}"]
    lines.append(_plain(_what_it_said(run)))
    if run.reason:
        lines.append(f"asked for: {_plain(run.reason)}")
    return {"text": "\n".join([*lines, *_link_to(run, dagster_url)])}


def _in_one_line(run: FailedRun) -> str:
    return f"• {_plain(run.partition or run.run_id)}: {_plain(_what_it_said(run), _RUN_CHARACTERS)}"


def _what_it_said(run: FailedRun) -> str:
    return f"{run.step}: {run.error}" if run.step else run.error


def _link_to(run: FailedRun, dagster_url: str | None) -> list[str]:
    return _link(dagster_url, f"/runs/{quote(run.run_id)}", f"run {run.run_id[:8]}")


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


def _plain(text: str, most_characters: int = _TEXT_CHARACTERS) -> str:
    """One line, cut, with Slack's three control characters escaped."""
    line = " ".join(text.split())
    cut = line if len(line) <= most_characters else f"{line[:most_characters]}…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _link(dagster_url: str | None, path: str, name: str) -> list[str]:
    return [f"<{dagster_url.rstrip('/')}{path}|{_plain(name)}>"] if dagster_url else []
