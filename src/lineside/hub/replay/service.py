"""Replays in the background: one at a time, each by a child process, in the log's order.

1. A follower of the log hears of those who ask; no request waits for a replay.
2. The child reads the store and writes nothing; what it finds is kept by the hub, in one commit
   with the event that says so. What it needs or fails at takes nothing with it.
3. A hub that is stopped or killed meanwhile makes the replay after its next start, from the
   beginning. A child whose hub is gone ends at its next word.
"""

import logging
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import (
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    UnavailableError,
    decode,
    decode_json,
    rfc3339,
)
from lineside.core.processes import end_with_parent
from lineside.hub.children import end_child, why_it_failed
from lineside.hub.replay.records import AS_RECORDED, ReplayOrder, ReplayResult
from lineside.hub.replay.repository import ASKED, RUNNING, ReplayRepository, ReplayView
from lineside.hub.replay.run import ReplayRequest, check_request, named_package
from lineside.models import ModelVersions, Registry
from lineside.store import Logged

logger = logging.getLogger(__name__)

_MOST_BYTES = 64_000_000
_MOST_LINES = 20
_PERCENT = re.compile(rb"^\s*(\d+) %")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWish:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """Settings of the child process; span, package, rules and stores' URLs are added."""

    folder: Path
    plant: str
    records_url: str
    blobs_url: str
    command: tuple[str, ...] = (sys.executable, "-m", "lineside", "replay")


class Replays:
    """Replays in the background; one follower calls ``take``, its owner calls ``close``."""

    def __init__(
        self, book: ReplayRepository, *, settings: ReplaySettings, plant: Plant, registry: Registry,
        versions: ModelVersions,
    ) -> None:  # fmt: skip
        self.book = book
        self._settings = settings
        self._plant = plant
        self._registry = registry
        self._versions = versions
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._at_work = ""
        self._percent = 0.0
        self._closing = False

    # ---- asking

    def all(self) -> tuple[ReplayView, ...]:
        """Newest first."""
        return tuple(map(self._told, self.book.all()))

    def one(self, replay_id: str) -> ReplayView:
        """``NotFoundError`` if there is none."""
        return self._told(self.book.one(replay_id))

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
        tried = check_request(
            ReplayRequest(order=order, rules=text), self._registry, plant=self._plant
        )
        return self.book.ask(order, rules=text, name=tried.name, by=by)

    def cancel(self, replay_id: str, *, by: str) -> ReplayView:
        """Nobody wants it any more; ``ConflictError`` where it ended already."""
        view = self.book.cancel(replay_id, by=by)
        with self._lock:
            child = self._child if self._at_work == replay_id else None
        if child is not None:
            child.terminate()
        logger.info("replay cancelled replay=%s by=%s", replay_id, by)
        return view

    def _told(self, view: ReplayView) -> ReplayView:
        with self._lock:
            at_work = view.state == RUNNING and view.id == self._at_work
            return replace(view, percent=self._percent) if at_work else view

    # ---- making

    def take(self, page: Sequence[Logged]) -> None:
        """Make the replays that a page of the log asks for.

        Raises:
            UnavailableError: the hub stops, or the store is away; the page comes again.
            ConflictError: another hub was at the same replay that moment; so it does then.
        """
        for logged in page:
            told = decode_json(logged.entry.body, where=logged.entry.id)["data"]
            if told.get("action") != ASKED:
                continue
            try:
                view = self.book.one(str(told["replay"]))
            except NotFoundError:
                continue
            if not view.ended:
                self._make(view)

    def close(self) -> None:
        """End a child at work; its replay is made after the next start."""
        with self._lock:
            self._closing = True
            child = self._child
        if child is not None:
            child.terminate()

    def _make(self, view: ReplayView) -> None:
        try:
            view = self.book.run(view)
            found = self._made(view)
            self.book.keep(found, rules=self.book.rules(view.id), by=view.asked_by, view=view)
        except LinesideError as error:
            if self._closing:
                raise UnavailableError("the hub stops", fix="It goes on at its start.") from error
            if self.book.one(view.id).ended:
                return
            if isinstance(error, ConflictError | UnavailableError):
                raise  # another hub moved it meanwhile, or the store is away: no fault of its own
            self.book.fail(view, reason=error.message)
        logger.info("replay ended replay=%s state=%s", view.id, self.book.one(view.id).state)

    def _made(self, view: ReplayView) -> ReplayResult:
        folder = self._settings.folder
        shutil.rmtree(folder, ignore_errors=True)  # what a killed hub left there goes first
        folder.mkdir(parents=True)
        try:
            code, said = self._run(view, folder=folder)
            if self.book.one(view.id).ended:
                raise ConflictError("somebody cancelled it", where=view.id)
            if code != 0:
                raise InvalidError(why_it_failed(said, code=code))
            raw = (folder / "found.json").read_bytes()
            if len(raw) > _MOST_BYTES:
                raise InvalidError(f"it has {len(raw)} bytes, {_MOST_BYTES} at most are kept")
            return decode(ReplayResult, raw, where=view.id)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _command(self, view: ReplayView, *, folder: Path) -> list[str]:
        settings, order = self._settings, view.order
        command = [
            *settings.command, "--from", rfc3339(order.since), "--to", rfc3339(order.until),
            "--plant", settings.plant, "--records", settings.records_url,
            "--blobs", settings.blobs_url, "--no-keep", "--json",
        ]  # fmt: skip
        rules = self.book.rules(view.id)
        if rules:
            (folder / "rules.toml").write_bytes(rules)
            command += ["--rules", str(folder / "rules.toml")]
        if order.warm_up_s is not None:
            command += ["--warm-up", f"{order.warm_up_s:g}"]
        named = (("--package", order.package), ("--inspection", order.inspection))
        return [*command, *(word for pair in named if pair[1] for word in pair)]

    def _run(self, view: ReplayView, *, folder: Path) -> tuple[int, Sequence[str]]:
        """The child's exit code, and what it said last."""
        command = self._command(view, folder=folder)
        said: deque[str] = deque(maxlen=_MOST_LINES)
        with (folder / "found.json").open("wb") as out:
            with self._lock:
                if self._closing:
                    raise UnavailableError("the hub stops", fix="It goes on at its start.")
                child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                    end_with_parent(command),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.PIPE,
                )
                self._child, self._at_work, self._percent = child, view.id, 0.0
            try:
                assert child.stderr is not None  # noqa: S101  opened as a pipe
                with child.stderr:
                    for line in child.stderr:
                        self._hear(line, said)
                return child.wait(), said
            finally:
                end_child(child)
                with self._lock:
                    self._child, self._at_work = None, ""

    def _hear(self, line: bytes, said: deque[str]) -> None:
        told = _PERCENT.match(line)
        if told is None:
            said.append(line.decode(errors="replace").strip())
            return
        with self._lock:
            self._percent = min(100.0, float(told.group(1)))
