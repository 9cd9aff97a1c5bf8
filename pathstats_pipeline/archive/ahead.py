"""Work done ahead in threads, its results in the order of its items, in bounded memory. Knows nothing of events."""

import collections
import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

THREADS: Final = 2
"""Beside the caller's own, which reads and sends. Array code and compression leave the interpreter to the others."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Ahead:
    """Threads that work ahead of whoever asks for the results; open them with `threads`."""

    def __init__(self, pool: concurrent.futures.Executor, depth: int) -> None:
        self._pool, self._depth = pool, depth

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """What `function` makes of each item, in the items' order; its error is raised where its result would stand.

        Items are taken by the caller's thread, so they may come from another `map`, or from what knows one thread only.
        """
        waiting: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) >= self._depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def draw(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, each drawn while the caller is at the one before. For a single thread: they come one by one."""
        iterator = iter(items)
        # A list, for what ends the items must be told from any of them.
        drawn = self.map(lambda _: list(itertools.islice(iterator, 1)), itertools.repeat(None))
        return itertools.chain.from_iterable(itertools.takewhile(bool, drawn))


@contextlib.contextmanager
def threads(count: int = THREADS) -> Iterator[Ahead]:
    """So many threads; none outlives the context, and what nobody asks for any more isn't begun."""
    pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="archive")
    try:
        yield Ahead(pool, count + 1)
    finally:
        pool.shutdown(cancel_futures=True)
