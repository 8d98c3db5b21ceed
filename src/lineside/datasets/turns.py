"""Several threads, one order: results come as their work was given, a bounded number ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4


def in_order(call: Callable[[T], R], items: Iterable[T], *, threads: int) -> Iterator[R]:
    """``map`` on several threads; at most four items a thread are under way or wait.

    An error of ``call`` comes out where its result would stand.
    """
    if threads < 2:
        yield from map(call, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, "in-order") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) >= threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
