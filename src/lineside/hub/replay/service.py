"""Replays in the background: one at a time, each by a child process, in the log's order.

1. A follower of the log hears of those who ask; no request waits for a replay.
2. The child reads the store and writes nothing; what it finds is kept by the hub, in one commit
   with the event that says so. What it needs or fails at takes nothing with it.
3. A hub that is stopped or killed meanwhile makes the replay after its next start, from the
   beginning. A child whose hub is gone ends at its next word.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lineside.core import (
    ConflictError,
    LinesideError,
    NotFoundError,
    Plant,
    UnavailableError,
    decode,
    decode_json,
    rfc3339,
)
from lineside.hub.children import ChildRunner, ChildSettings, child_folder
from lineside.hub.replay.repository import (
    AS_RECORDED,
    ASKED,
    RUNNING,
    ReplayOrder,
    ReplayRepository,
    ReplayResult,
    ReplayView,
)
from lineside.hub.replay.run import check_request, named_package
from lineside.models import ModelVersions, Registry
from lineside.store import Logged

logger = logging.getLogger(__name__)

_MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Body of ``POST /api/v1/replays``.

    Attributes:
        since, until: what arrived from the first on and before the second.
        package: digest, its first digits, GROUP/NUMBER, ``recorded``, or "".
        inspection: whose frames; "" for the package's own.
        rules: ``[[rule]]`` tables as TOML; "" for the plant's own.
        warm_up_s: how long before the span rules begin; None: as far as their memory reaches.
    """

    since: str
    until: str
    package: str = ""
    inspection: str = ""
    rules: str = ""
    warm_up_s: float | None = None


class Replays:
    """Replays in the background; one follower calls ``take``, its owner calls ``close``."""

    def __init__(
        self, book: ReplayRepository, *, settings: ChildSettings, plant: Plant, registry: Registry,
        versions: ModelVersions, plant_file: str,
    ) -> None:  # fmt: skip
        self.book = book
        self._settings = settings
        self._plant = plant
        self._registry = registry
        self._versions = versions
        self._plant_file = plant_file
        self._child = ChildRunner(most_bytes=_MOST_BYTES)
        self._at_work = ""

    # ---- asking

    def all(self) -> tuple[ReplayView, ...]:
        """Newest first."""
        return tuple(map(self._with_progress, self.book.all()))

    def one(self, replay_id: str) -> ReplayView:
        """``NotFoundError`` if there is none."""
        return self._with_progress(self.book.one(replay_id))

    def ask(self, order: ReplayOrder, *, rules: str, by: str) -> ReplayView:
        """Wish for a replay; it is made in the background.

        Raises:
            InvalidError, NotFoundError: no such package, inspection or rules.
            ConflictError: too many wait already.
        """
        if order.package not in ("", AS_RECORDED):
            digest = named_package(order.package, self._registry, versions=self._versions)
            order = replace(order, package=digest)
        text = rules.strip().encode()
        tried = check_request(order, self._registry, plant=self._plant, rules=text)
        return self.book.ask(order, rules=text, name=tried.name, by=by)

    def cancel(self, replay_id: str, *, by: str) -> ReplayView:
        """Nobody wants it any more; ``ConflictError`` where it ended already."""
        view = self.book.cancel(replay_id, by=by)
        if self._at_work == replay_id:
            self._child.end()
        logger.info("replay cancelled replay=%s by=%s", replay_id, by)
        return view

    def _with_progress(self, view: ReplayView) -> ReplayView:
        at_work = view.state == RUNNING and view.id == self._at_work
        return msgspec.structs.replace(view, percent=self._child.percent) if at_work else view

    # ---- making

    def take(self, page: Sequence[Logged]) -> None:
        """Make the replays that a page of the log asks for.

        Raises:
            UnavailableError: the hub stops, or the store is away; the page comes again.
            ConflictError: another hub was at the same replay that moment; so it does then.
        """
        for logged in page:
            data = decode_json(logged.entry.body, where=logged.entry.id)["data"]
            if data.get("action") != ASKED:
                continue
            try:
                view = self.book.one(str(data["replay"]))
            except NotFoundError:
                continue
            if not view.ended:
                self._make(view)

    def close(self) -> None:
        """End a child at work; its replay is made after the next start."""
        self._child.close()

    def _make(self, view: ReplayView) -> None:
        try:
            view = self.book.run(view)
            found = self._run(view)
            self.book.keep(found, rules=self.book.rules(view.id), by=view.requested_by, view=view)
        except LinesideError as error:
            if self._child.is_closing:
                raise UnavailableError("the hub stops", fix="It goes on at its start.") from error
            if self.book.one(view.id).ended:
                return
            if isinstance(error, ConflictError | UnavailableError):
                raise  # another hub moved it meanwhile, or the store is away: no fault of its own
            self.book.fail(view, reason=error.message)
        logger.info("replay ended replay=%s state=%s", view.id, self.book.one(view.id).state)

    def _run(self, view: ReplayView) -> ReplayResult:
        with child_folder(self._settings.folder) as folder:
            command = self._command(view, folder=folder)
            self._at_work = view.id
            try:
                found = self._child.run(
                    command, folder=folder, environment=self._settings.environment
                )
            finally:
                self._at_work = ""
            return decode(ReplayResult, found, where=view.id)

    def _command(self, view: ReplayView, *, folder: Path) -> list[str]:
        settings, order = self._settings, view.order
        command = [
            *settings.command, "--from", rfc3339(order.since), "--to", rfc3339(order.until),
            "--plant", self._plant_file, "--no-keep", "--json",
        ]  # fmt: skip
        rules = self.book.rules(view.id)
        if rules:
            (folder / "rules.toml").write_bytes(rules)
            command += ["--rules", str(folder / "rules.toml")]
        if order.warm_up_s is not None:
            command += ["--warm-up", f"{order.warm_up_s:g}"]
        named = (("--package", order.package), ("--inspection", order.inspection))
        return [*command, *(word for pair in named if pair[1] for word in pair)]
