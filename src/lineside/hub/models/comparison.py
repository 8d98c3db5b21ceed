"""Comparisons of each registered version with the one in use, by a child process in log order.

1. A follower of the log hears of registrations, also of those by command or pipeline while the hub
   was away, and of those who ask again. No request waits for it.
2. One comparison at a time, in a process of its own: what it needs or fails at takes nothing with
   it. A hub that is stopped or killed meanwhile makes it after its next start.
3. What could not be compared is kept with the reason, in a sentence; nothing is tried by itself
   again.
"""

import logging
from collections.abc import Sequence
from datetime import datetime

from lineside.core import Clock, LinesideError, UnavailableError, decode, decode_json
from lineside.hub.children import ChildRunner, ChildSettings, child_folder
from lineside.hub.models.model_service import COMPARISON_REQUESTED, REGISTERED, ModelService
from lineside.models import Comparison, ModelVersion, PackageRecord
from lineside.models.versions import Creation
from lineside.store import Logged

logger = logging.getLogger(__name__)

_LONGEST_S = 1800.0
_MOST_BYTES = 16_000_000


class Comparisons:
    """Maker of comparisons; one follower calls ``take``, whoever ends it ``close``."""

    def __init__(self, models: ModelService, *, settings: ChildSettings, clock: Clock) -> None:
        self._models = models
        self._settings = settings
        self._clock = clock
        self._child = ChildRunner(most_bytes=_MOST_BYTES, limit_s=_LONGEST_S)

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
        self._child.close()

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
            if self._child.is_closing:
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
        with child_folder(self._settings.folder) as folder:
            packages = [folder / "version.lspkg"]
            packages[0].write_bytes(self._models.content(version.digest))
            if baseline is not None:
                packages.append(folder / "in_use.lspkg")
                packages[1].write_bytes(self._models.content(baseline.digest))
            settings = self._settings
            command = [*settings.command, *map(str, packages), "--json"]
            found = self._child.run(command, folder=folder, environment=settings.environment)
            return decode(Comparison, found, where=version.name)
