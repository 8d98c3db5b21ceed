"""Samples what the threads of a Python program spend processor time on; ``profiles.py`` reads it.

Python imports a module of this name as it starts. With this folder on ``PYTHONPATH`` and a folder
in ``LINESIDE_PROFILE``, a program writes ``<its process id>.txt`` there when it ends: its command,
then lines of a stack, outermost first and divided by ";", and of its microseconds. It counts from
when there is a file ``begin`` in the folder.

What a thread has used since the last sample, a millisecond ago, counts for the stack that it has
now, and if it waits by now for the last one in which it did not: native code counts for the Python
function that called it. What threads without Python frames used is ``native``.
"""

import atexit
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY_S = 0.001
_WAITS = ("threading.py", "selectors.py", "queue.py", "socket.py")
Stack = tuple[str, ...]


def _used_ns(task: int) -> int:
    """Processor time of a thread, by the clock that Linux makes of its number; 0 once ended."""
    try:
        return time.clock_gettime_ns(~task << 3 | 6)
    except OSError:
        return 0


def _name(frame: FrameType) -> str:
    code = frame.f_code
    path = code.co_filename.rpartition("site-packages/")[2].rpartition("/src/")[2]
    return f"{code.co_qualname} ({path.rpartition('/lib/')[2]})".replace(";", ",")


def _stack(frame: FrameType) -> Stack:
    names, outer = [_name(frame)], frame.f_back
    while outer is not None:
        names.append(_name(outer))
        outer = outer.f_back
    return tuple(reversed(names))


def _sample(found: "Counter[Stack]", stop: threading.Event, begin: Path) -> None:
    while not begin.exists() and not stop.wait(EVERY_S):
        pass
    busy: dict[int, Stack] = {}
    before: dict[int, int] = {}
    began_ns = time.process_time_ns() - time.thread_time_ns()
    while not stop.wait(EVERY_S):
        frames = sys._current_frames()  # noqa: SLF001  the interpreter's, meant for this
        for thread in threading.enumerate():
            task, frame = thread.native_id, frames.get(thread.ident or 0)
            if task is None or frame is None or thread is threading.current_thread():
                continue
            used_ns = _used_ns(task)
            spent_ns = used_ns - before.setdefault(task, used_ns)
            if spent_ns <= 0:
                continue
            before[task] = used_ns
            stack = thread.name.rstrip("-_0123456789"), *_stack(frame)
            if frame.f_code.co_filename.endswith(_WAITS):
                stack = busy.get(task, stack)
            else:
                busy[task] = stack
            found[stack] += spent_ns
    all_ns = time.process_time_ns() - time.thread_time_ns() - began_ns
    found["native",] += max(0, all_ns - found.total())


def _start(folder: Path) -> None:
    found: Counter[Stack] = Counter()
    stop = threading.Event()
    given = found, stop, folder / "begin"
    sampler = threading.Thread(target=_sample, args=given, name="sampler", daemon=True)

    def write() -> None:
        stop.set()
        sampler.join()
        lines = [" ".join(sys.orig_argv)]
        lines += [f"{';'.join(stack)} {spent_ns // 1000}" for stack, spent_ns in found.items()]
        (folder / f"{os.getpid()}.txt").write_text("\n".join(lines) + "\n")

    sampler.start()
    atexit.register(write)


if os.environ.get("LINESIDE_PROFILE"):  # noqa: TID251  handed on by profiles.py
    _start(Path(os.environ["LINESIDE_PROFILE"]))  # noqa: TID251  likewise
