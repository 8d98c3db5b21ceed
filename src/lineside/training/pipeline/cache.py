"""Steps that are done once for the same inputs, kept in a folder each.

1. A step's key is the digest of its name, its parameters, the digests of what it reads, and the
   version of the code; the folder of that name holds what it made.
2. ``done.json`` is written last: without it a folder is work under way, to go on with.
3. After 30 days a result is made anew.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lineside.core import Clock, InvalidError, decode, digest_of, encode, replace_durably
from lineside.training.pipeline.definition import EXPIRE_AFTER_DAYS

_DONE = "done.json"
_KEPT_NAME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a finished step left.

    Attributes:
        facts: small outputs by name, such as digests and counts.
    """

    key: str
    step: str
    finished_at: datetime
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    schema: str = "lineside.pipeline-step/1"


def key_of(step: str, *, inputs: Mapping[str, object]) -> str:
    """The digest that names a step's result."""
    return digest_of(encode({"step": step, "code": _code(), "inputs": dict(inputs)}))


def _code() -> str:
    try:
        return version("lineside")
    except PackageNotFoundError:
        return ""


class Cache:
    """Folders of steps under one folder; one process at a time."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        """Keep results below ``folder``, which is made when it is needed."""
        self._folder = folder
        self._clock = clock

    def folder(self, key: str) -> Path:
        """Where the step with that key works."""
        return self._folder / key.removeprefix("sha256:")[:_KEPT_NAME]

    def find(self, key: str) -> Done | None:
        """The finished step, or None: not there, not whole, or too old, which empties it."""
        path = self.folder(key) / _DONE
        try:
            done = decode(Done, path.read_bytes(), where=str(path))
        except (OSError, InvalidError):
            return None
        limit = done.finished_at + timedelta(days=EXPIRE_AFTER_DAYS)
        if done.key == key and self._clock.now() < limit:
            return done
        shutil.rmtree(self.folder(key))
        return None

    def finish(self, key: str, *, step: str, facts: Mapping[str, str | int | float]) -> Done:
        """Mark a step's folder as whole."""
        done = Done(key=key, step=step, finished_at=self._clock.now(), facts=dict(facts))
        replace_durably(self.folder(key) / _DONE, encode(done))
        return done
