"""Comparisons of each registered version with the one in use, by a child process in log order.

1. A follower of the log hears of registrations, also of those by command or pipeline while the hub
   was away, and of those who ask again. No request waits for it.
2. One comparison at a time, in a process of its own: what it needs or fails at takes nothing with
   it. A hub that is stopped or killed meanwhile makes it after its next start.
3. What could not be compared is kept with the reason, in a sentence; nothing is tried by itself
   again.
"""

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lineside.core import Clock, InvalidError, LinesideError, UnavailableError, decode, decode_json
from lineside.core.processes import end_with_parent
from lineside.hub.children import end_child, why_it_failed
from lineside.hub.models.model_service import COMPARISON_REQUESTED, REGISTERED, ModelService
from lineside.models import Comparison, ModelVersion, PackageRecord
from lineside.models.versions import Creation
from lineside.store import Logged

logger = logging.getLogger(__name__)

_LONGEST_S = 1800.0
_MOST_BYTES = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSettings:
    """Start of the child; packages, the stores' URLs and ``--json`` are added."""

    folder: Path
    records_url: str
    blobs_url: str
    command: tuple[str, ...] = (sys.executable, "-m", "lineside", "package", "compare")


class Comparisons:
    """Maker of comparisons; one follower calls ``take``, whoever ends it ``close``."""

    def __init__(self, models: ModelService, *, settings: ComparisonSettings, clock: Clock) -> None:
        self._models = models
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closing = False

    def take(self, page: Sequence[Logged]) -> None:
        """Compare the versions that a page of the log registers or asks for.

        Raises:
            UnavailableError: the hub stops; the page comes again.
        """
        for logged in page:
            event = decode_json(logged.entry.body, where=logged.entry.id)
            data = event["data"]
            if data.get("action") == REGISTERED:
                named = self._models.versions(str(data["group"]))
                for version in (one for one in named if one.digest == data["digest"]):
                    self._compare_new(version)
            elif data.get("action") == COMPARISON_REQUESTED:
                version = self._models.one(str(data["group"]), int(data["version"]))
                self._compare_again(version, datetime.fromisoformat(event["time"]))

    def close(self) -> None:
        """End a child at work; its comparison is made after the next start."""
        with self._lock:
            self._closing = True
            child = self._child
        if child is not None:
            child.terminate()

    def _compare_new(self, version: ModelVersion) -> None:
        if version.creation is Creation.COMPLETED and self._models.comparison(version) is None:
            self._compare(version)

    def _compare_again(self, version: ModelVersion, requested_at: datetime) -> None:
        stored = self._models.comparison(version)
        if stored is None or stored.at is None or stored.at < requested_at:
            self._compare(version)

    def _compare(self, version: ModelVersion) -> None:
        baseline = self._models.baseline(version)
        try:
            found = self._run_comparison(version, baseline)
        except LinesideError as error:
            if self._closing:
                raise UnavailableError("the hub stops", fix="It goes on at its start.") from error
            found = Comparison(
                in_use=baseline.digest if baseline else "",
                in_use_name=baseline.name if baseline else "",
                at=self._clock.now(),
                why_not=f"The comparison failed: {error.message}.",
            )
        self._models.store_comparison(version, found)
        logger.info(
            "version compared version=%s better=%d worse=%d why_not=%s",
            version.name, found.better_count, found.worse_count, found.why_not,
        )  # fmt: skip

    def _run_comparison(self, version: ModelVersion, baseline: PackageRecord | None) -> Comparison:
        with _folder(self._settings.folder) as folder:
            files = [folder / "version.lspkg", folder / "in_use.lspkg"]
            files[0].write_bytes(self._models.content(version.digest))
            if baseline is not None:
                files[1].write_bytes(self._models.content(baseline.digest))
            code = self._run(files if baseline is not None else files[:1], folder=folder)
            if code != 0:
                raise InvalidError(why_it_failed(_stderr_lines(folder), code=code))
            raw = (folder / "found.json").read_bytes()
            if len(raw) > _MOST_BYTES:
                raise InvalidError(f"it has {len(raw)} bytes, {_MOST_BYTES} at most are kept")
            return decode(Comparison, raw, where=version.name)

    def _run(self, packages: Sequence[Path], *, folder: Path) -> int:
        settings = self._settings
        command = [
            *settings.command, *map(str, packages), "--json",
            "--records", settings.records_url, "--blobs", settings.blobs_url,
        ]  # fmt: skip
        with (
            (folder / "found.json").open("wb") as out,
            (folder / "stderr.log").open("wb") as stderr,
        ):
            with self._lock:
                if self._closing:
                    raise UnavailableError("the hub stops", fix="It goes on at its start.")
                self._child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                    end_with_parent(command), stdin=subprocess.DEVNULL, stdout=out, stderr=stderr
                )
            try:
                return self._child.wait(timeout=_LONGEST_S)
            except subprocess.TimeoutExpired as error:
                raise UnavailableError(f"it took more than {_LONGEST_S / 60:.0f} min") from error
            finally:
                end_child(self._child)
                with self._lock:
                    self._child = None


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    """A folder for one comparison; what a killed hub left there goes first."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _stderr_lines(folder: Path) -> list[str]:
    """Lines of the child's standard error."""
    return (folder / "stderr.log").read_text(errors="replace").splitlines()
