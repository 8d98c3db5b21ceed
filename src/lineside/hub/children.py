"""Children of the hub: how one is ended, and what it said of why it failed."""

import subprocess
from collections.abc import Iterable

_KILL_AFTER_S = 10.0
_MOST_SAID = 500


def end_child(child: subprocess.Popen[bytes]) -> None:
    """One that runs on is ended; one that ended stays as it is."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=_KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def why_it_failed(said: Iterable[str], *, code: int) -> str:
    """The child's own sentence, or how it ended.

    Args:
        said: lines of its standard error.
        code: its exit code; negative for a signal (POSIX).
    """
    if code < 0:
        return f"its process was ended by signal {-code}"
    lines = [line for line in said if line.strip()]
    named = next((line for line in lines if line.startswith(("error: ", "bug: "))), "")
    told = named.removeprefix("error: ") or (lines[-1] if lines else "it said nothing")
    return told[:_MOST_SAID].rstrip(".")
