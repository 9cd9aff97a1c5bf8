"""How two sides are compared: in turns, in one process run, by their medians; and the line that says so.

A comparison is a function of a scale that yields its lines. Here is no workload and no number of any of them.
"""

import concurrent.futures
import contextlib
import dataclasses
import enum
import gc
import multiprocessing
import os
import pathlib
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, ParamSpec, TypeVar

_Ours = TypeVar("_Ours")
_Peer = TypeVar("_Peer")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Scale(enum.StrEnum):
    """How much work: `tiny` only shows that it runs, `small` takes minutes, `full` has 4 million events."""

    TINY = "tiny"
    SMALL = "small"
    FULL = "full"

    def pick(self, *, tiny: int, small: int, full: int) -> int:
        """The number that belongs to this scale."""
        return {Scale.TINY: tiny, Scale.SMALL: small, Scale.FULL: full}[self]


@dataclasses.dataclass(frozen=True)
class Turns(Generic[_Ours, _Peer]):
    """Median seconds of both sides, and the last answer of each."""

    ours_seconds: float
    peer_seconds: float
    ours: _Ours
    peer: _Peer


def take_turns(
    ours: Callable[[], _Ours], peer: Callable[[], _Peer], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Turns[_Ours, _Peer]:
    """Run both sides in turns: what the machine does besides then falls on both alike."""
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        our_answer = _timed(ours, seconds[0], clock)
        peer_answer = _timed(peer, seconds[1], clock)
    return Turns(statistics.median(seconds[0]), statistics.median(seconds[1]), our_answer, peer_answer)


def medians(sides: Mapping[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, object]]:
    """The same for any number of sides: median seconds of each by its name, and the last answers."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, object] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            answers[name] = _timed(side, seconds[name])
    return {name: statistics.median(each) for name, each in seconds.items()}, answers


def apart(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """The function's answer, from a fresh process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(function, *args, **kwargs).result()


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and the processes that it starts meanwhile, on one core. Linux only."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has waited for, in user and system mode."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def reset_peak() -> None:
    """Let VmHWM begin anew at what the process has now. Linux only, see proc(5)."""
    gc.collect()
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def status_mb(field: str) -> float:
    """A line of this process's memory status, in MiB: VmRSS is what it has, VmHWM the most it ever had. Linux only."""
    [found] = [text for text in pathlib.Path("/proc/self/status").read_text().splitlines() if text.startswith(field)]
    return int(found.split()[1]) / 1024


def _timed(side: Callable[[], _Ours], seconds: list[float], clock: Callable[[], float] = time.perf_counter) -> _Ours:
    gc.collect()
    started = clock()
    answer = side()
    seconds.append(clock() - started)
    return answer


def line(name: str, ours: float, peer: float, goal: float, unit: str = "s") -> str:
    """The verdict on a comparison; `ours` and `peer` are better when smaller, `goal` is the largest good ratio."""
    ratio = ours / peer
    verdict = "met" if ratio <= goal else "missed"
    return f"bench {name} ours={ours:.3f}{unit} peer={peer:.3f}{unit} ratio={ratio:.3f} goal={goal:g} {verdict}"
