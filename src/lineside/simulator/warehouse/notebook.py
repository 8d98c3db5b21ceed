"""The simulator's own notebook: what was true of each published frame, and of the rack at the end.

One JSON object a line: ``{"ts", "digest", "slots"}`` per frame, where ``digest`` is the SHA-256 of
the picture's bytes and ``slots`` maps A1 … C3 to a colour or ``empty``; at the end
``{"end": true, "ts", "slots", "frames", "dropped"}``. For counting right and wrong answers
afterwards; no other program reads it while the simulator runs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lineside.core import digest_of, encode


class Notebook:
    """Writes truth lines; made by ``open_notebook``."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def frame(self, picture: bytes, *, ts: str, slots: Mapping[str, str]) -> None:
        """Note one frame that was published."""
        self._write({"ts": ts, "digest": digest_of(picture), "slots": dict(slots)})

    def end(self, *, ts: str, slots: Mapping[str, str], frames: int, dropped: int) -> None:
        """Note the rack as it stands at the end."""
        self._write(
            {"end": True, "ts": ts, "slots": dict(slots), "frames": frames, "dropped": dropped}
        )

    def _write(self, line: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(encode(line).decode() + "\n")
            self._file.flush()


@contextmanager
def open_notebook(path: str) -> Iterator[Notebook]:
    """A notebook in this file; with an empty path, one that forgets."""
    if not path:
        yield Notebook(None)
        return
    with Path(path).open("w", encoding="utf-8") as file:
        yield Notebook(file)
