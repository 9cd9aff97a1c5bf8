"""Runs from a command instead of the UI: the same jobs, on the same instance, in this process.

What the command line needs of Dagster, and nothing else: where the instance lives, and one function a job. A run that
fails is raised as one line.
"""

import datetime as dt
import fcntl
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from pathstats_pipeline.definitions import defs
from pathstats_pipeline.defs import abandoned
from pathstats_pipeline.defs.partitions import DAILY, FIRST_HOUR, HOURS_PER_RUN
from pathstats_pipeline.defs.presentation import day_key, hour_key
from pathstats_pipeline.events.window import HOUR, Window

LOCATION = "pathstats_pipeline"
_PACKAGE = pathlib.Path(__file__).absolute().parents[1]
_SHIPPED = (_PACKAGE / "dagster.yaml", _PACKAGE.parent / "dagster.yaml")
"""Where the project's dagster.yaml is: in a wheel, and beside the package in a checkout."""
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


class RunFailedError(RuntimeError):
    """A run failed; one line with the step and its error."""


def prepare_home(home: pathlib.Path) -> pathlib.Path:
    """Where the Dagster instance lives: `DAGSTER_HOME`, or a folder below `home` that is made here.

    A fresh SQLite instance opened by two processes at once is damaged for good, so the first one in makes it alone.
    """
    folder = pathlib.Path(os.environ.get("DAGSTER_HOME") or home / "dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(folder)
    # Not the one of the working directory, which may be another project's: without ours there would be neither pools
    # nor monitoring. Who wants another one puts it into the folder.
    shipped = next(path for path in _SHIPPED if path.exists())
    yaml = folder / "dagster.yaml"
    with (folder / ".init.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not yaml.exists():
            yaml.unlink(missing_ok=True)  # a link to a project that has moved
            yaml.symlink_to(os.path.relpath(shipped, folder))
        with dg.DagsterInstance.get() as instance:
            instance.get_runs(limit=1)
            instance.schedule_storage.all_instigator_state() if instance.schedule_storage else None
            instance.event_log_storage.get_pool_limits()
    return folder


def clamp(window: Window, now: dt.datetime) -> Window:
    """The part of a window that has hourly partitions; raises ValueError when it has none."""
    first, end = FIRST_HOUR, now.replace(minute=0, second=0, microsecond=0) + HOUR
    if window.end <= first:
        raise ValueError(f"{window.end:%Y-%m-%dT%H:%M} lies before the first partition, {first}: PATHSTATS_START_DATE")
    if window.start >= end:
        raise ValueError(f"{window.start:%Y-%m-%dT%H:%M} lies in the future")
    return Window(max(window.start, first), min(window.end, end))


def build_hours(window: Window) -> Iterator[Window]:
    """Materialise the hourly assets of a window, a run for each week of it; yields each span when it is done."""
    start = window.start
    while start < window.end:
        span = Window(start, min(window.end, start + HOURS_PER_RUN * HOUR))
        _run("hourly", _range(hour_key(span.start), hour_key(span.end - HOUR)))
        yield span
        start = span.end


def whole_days(window: Window) -> list[dt.date]:
    """The days that lie in a window with all of their hours."""
    return [
        day
        for day in window.days()
        if window.start <= Window.of_day(day).start and Window.of_day(day).end <= window.end
    ]


def build_days(days: Sequence[dt.date]) -> None:
    """Materialise the daily statistics of consecutive days in one run."""
    if days:
        _run("daily", _range(day_key(days[0]), day_key(days[-1])))


def archive_day(date: dt.date) -> None:
    """Materialise a day's archive, its check and its metadata."""
    _run("archive", {"dagster/partition": day_key(_day_partition(date))}, ["events_archive", "archive_metadata"])


def clean_day(date: dt.date) -> None:
    """Materialise a day's clean-up."""
    _run("archive", {"dagster/partition": day_key(_day_partition(date))}, ["events_cleanup"])


def _day_partition(date: dt.date) -> dt.date:
    if not DAILY.has_partition_key(day_key(date)):
        raise ValueError(f"{date} is no daily partition: it lies before PATHSTATS_START_DATE, or is not over yet")
    return date


def _range(first: str, last: str) -> dict[str, str]:
    return {_RANGE_START: first, _RANGE_END: last}


def _run(job_name: str, tags: Mapping[str, str], assets: Sequence[str] = ()) -> None:
    """Run a job, or some of its assets, in this process on the configured instance."""
    job = defs.resolve_job_def(job_name)
    run_id = str(uuid.uuid4())
    with dg.DagsterInstance.get() as instance, abandoned.living(instance, run_id):
        abandoned.give_up(instance)
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            # By this tag the UI's timeline and job pages find runs of the code location.
            tags={**tags, ".dagster/repository": f"__repository__@{LOCATION}"},
            partition_key=tags.get("dagster/partition"),
            asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
            # What a command has to say of a failure is one line; the whole story is in the UI.
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
    if not result.success:
        raise RunFailedError(_failure_of(result))


def _failure_of(result: dg.ExecuteInProcessResult) -> str:
    """The blocking check that failed, or the first failed step with the error that was raised there, in one line."""
    for check in result.get_asset_check_evaluations():
        if check.blocking and not check.passed:
            return f"{check.check_name}: {_one_line(check.description or 'failed')} (run {result.run_id})"
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            # Dagster wraps what was raised; what that was caused by in turn is for those who read the code.
            error = event.step_failure_data.error.cause or event.step_failure_data.error
            text = _one_line(error.message).removeprefix(f"{error.cls_name}: ").partition(f"{error.cls_name}: ")
            return f"{event.step_key}: {text[2] or text[0]} (run {result.run_id})"
    return f"run {result.run_id} failed before its first step"


def _one_line(text: str) -> str:
    return " ".join(text.split())
