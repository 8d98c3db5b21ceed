"""Work done ahead on another thread, handed on in order: decoding beside computing."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 8


def ahead(
    work: Callable[[T], R], items: Iterable[T], *, most: int = _AHEAD
) -> Generator[R, None, None]:
    """``map``, up to ``most`` results ahead, on one thread of its own; same order, same errors.

    Decoders and OpenCV let other threads run meanwhile. The thread ends with the iteration, however
    that ends; close the iterator where it is left early.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
