"""Runs whose process died in the middle: nobody else would ever end them, or give their slots of the pool back.

Dagster's run monitoring looks after no run of a command, and of the runs that a power cut ended it knows only when
their longest time is over. So whoever executes a run holds a lock that has its name, for as long as it lives; a run
whose lock is there on this host, and held by nobody, is given up by whoever comes next: a command or a sensor. Between
its start and its lock, only the code server that started it knows that it lives.
"""

import contextlib
import fcntl
import pathlib
import time
from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

# Not public: what the default launcher itself asks before it cancels a run. Exit: when it can be asked for its health.
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from pathstats_pipeline.defs.jobs import UNFINISHED

_FOLDER: Final = "running"
_LOOKED_AT: Final = 500
_UNLOCKED_SECONDS: Final = 30
"""For so long a run may have started without holding its lock yet."""


@contextlib.contextmanager
def living(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """While the context is open, nobody takes the run for dead."""
    path = _lock_of(instance, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # the command that executes the run holds it already
            yield
            return
        try:
            yield
        except BaseException:
            # What couldn't even be recorded as failed, as on a full disk, is to be given up like one that was killed.
            if _is_over(instance, run_id):
                path.unlink(missing_ok=True)
            raise
        # Gone before it is let go of: who finds it free knows that nobody ended in order.
        path.unlink(missing_ok=True)


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether there is nothing to give up of a run; no where the instance can't be asked."""
    with contextlib.suppress(Exception):
        run = instance.get_run_by_id(run_id)
        return run is None or run.is_finished
    return False


class LivingResource(dg.ConfigurableResource[Any]):
    """A resource that tells, for as long as a run has it, that the run's process lives."""

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """As ever; sensors have resources without a run."""
        with contextlib.ExitStack() as stack:
            if context.run and context.instance:
                stack.enter_context(living(context.instance, context.run.run_id))
            yield stack.enter_context(super().yield_for_execution(context))


def give_up(instance: dg.DagsterInstance) -> list[str]:
    """End the runs that died on this host, and free their slots; their ids."""
    ended = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(UNFINISHED)), limit=_LOOKED_AT):
        run, path = record.dagster_run, _lock_of(instance, record.dagster_run.run_id)
        if _died(path) or (not path.exists() and _is_unknown_to_its_server(instance, record)):
            instance.report_run_failed(run, "the process that ran it died")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            path.unlink(missing_ok=True)
            ended.append(run.run_id)
    return ended


def _lock_of(instance: dg.DagsterInstance, run_id: str) -> pathlib.Path:
    return pathlib.Path(instance.root_directory) / _FOLDER / f"{run_id}.lock"


def _died(lock_path: pathlib.Path) -> bool:
    """Whether there is a lock that nobody holds; one that is gone was let go of in order, or is another host's."""
    try:
        with lock_path.open("rb") as lock:
            # Shared, so that two who look at once don't take each other for the run.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return lock_path.exists()
    except (FileNotFoundError, BlockingIOError):
        return False


def _is_unknown_to_its_server(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Whether a run that started a while ago is not, or no longer, a child of the code server that started it."""
    launcher, run_id = instance.run_launcher, record.dagster_run.run_id
    if not isinstance(launcher, DefaultRunLauncher) or not record.start_time:
        return False
    if time.time() < record.start_time + _UNLOCKED_SECONDS or not (
        client := launcher._get_grpc_client_for_termination(run_id)  # type: ignore[no-untyped-call]  # noqa: SLF001 - see above
    ):
        return False
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id))
    except DagsterUserCodeUnreachableError:
        is_known = False
    else:
        is_known = deserialize_value(answer, CanCancelExecutionResult).can_cancel
    # It may have ended in order while the server was asked.
    return not is_known and (run := instance.get_run_by_id(run_id)) is not None and not run.is_finished
