"""Child programs that do not outlive the program that started them."""

import os
import sys
from collections.abc import Sequence

# The kernel tells the child (prctl(2), PR_SET_PDEATHSIG) when its parent is gone, also after
# kill -9. A process of its own asks for it, because code between fork and exec can hang in a
# process with threads.
_TIE = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, 15, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def end_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs the given one and sends it SIGTERM when this process is gone.

    The thread that starts it counts as its parent (Linux), so it has to be one that lives as long
    as the child should. Where the system has no such call, the child runs on.
    """
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]
