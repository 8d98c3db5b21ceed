"""Events of the log posted to others' URLs, each webhook by a follower of its own.

1. In the log's order, one after the other: an event is not overtaken by a later one. What waits,
   waits in the log; nothing is queued in memory.
2. An event that is not taken is tried again, later and later, up to five minutes apart, or as late
   as the answer asks. After ``dead_after_s`` it is given up: that is an event of the hub
   (``lineside.webhook.v1``, ``action`` ``dead``) and counted, and the next one follows.
3. How far a webhook came is written after each event: after a crash one event may come twice,
   under the same ``webhook-id``.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial

from lineside.core import (
    Json,
    LinesideError,
    NotFoundError,
    UnavailableError,
    parse_rfc3339,
    rfc3339,
    stable_id,
)
from lineside.hub.follow import Follower, Selection, follow_from_now
from lineside.hub.services import Services
from lineside.hub.topics import hub_source
from lineside.hub.webhooks_config import WebhookConfig
from lineside.links import WebhookSender, backoff_s
from lineside.store import Logged
from lineside.streams import Event

logger = logging.getLogger(__name__)

WEBHOOK_TYPE = "lineside.webhook.v1"
CONTENT = "application/cloudevents+json; charset=utf-8"
_KIND = "webhook"
_FIRST_S = 1.0
_MOST_S = 300.0


@dataclass(slots=True)
class WebhookFigures:
    """Counts since the start."""

    sent: int = 0
    retried: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """How far it came: the last position dealt with, and since when the next one is tried."""

    position: int = 0
    event: str = ""
    since: str = ""


def is_wanted(logged: Logged, config: WebhookConfig) -> bool:
    """Whether a webhook gets this event; never one about itself."""
    entry = logged.entry
    if entry.type == WEBHOOK_TYPE and entry.subject == config.name:
        return False
    typed = any(fnmatchcase(entry.type, pattern) for pattern in config.types)
    return typed and (not config.rules or entry.subject in config.rules)


class Webhook:
    """Handler of a follower over the log."""

    def __init__(self, config: WebhookConfig, *, services: Services, sender: WebhookSender) -> None:
        self._config = config
        self._services = services
        self._sender = sender
        self._stop = threading.Event()
        self._lost = False
        self._mark = self._load()
        self.figures = WebhookFigures()

    def send(self, entries: Sequence[Logged]) -> None:
        """Post what is wanted, in order; returns when each was taken or given up.

        Raises:
            UnavailableError: the hub stops before.
        """
        for logged in entries:
            if logged.position > self._mark.position and is_wanted(logged, self._config):
                self._deliver(logged)
                self._keep(_Mark(position=logged.position))

    def stop(self) -> None:
        """Wait no longer."""
        self._stop.set()

    def _deliver(self, logged: Logged) -> None:
        tries = 0
        while True:
            why, wait_s = self._attempt(logged)
            tries += 1
            if not why:
                self._note_back()
                self.figures.sent += 1
                return
            self._note_lost(why)
            since = self._trying_since(logged)
            left_s = (since - self._services.clock.now()).total_seconds()
            left_s += self._config.dead_after_s
            if left_s <= 0:
                self._give_up(logged, why=why, since=since, tries=tries)
                return
            waited_s = max(wait_s, backoff_s(tries - 1, first_s=_FIRST_S, most_s=_MOST_S))
            if self._stop.wait(min(waited_s, left_s)):
                raise UnavailableError("the hub stops", fix="It goes on at the next start.")
            self.figures.retried += 1

    def _attempt(self, logged: Logged) -> tuple[str, float]:
        """Why it was not taken, "" if it was, and how long the other side asks to wait."""
        if self._stop.is_set():
            raise UnavailableError("the hub stops", fix="It goes on at the next start.")
        try:
            answer = self._sender.post(
                logged.entry.id, logged.entry.body, at=self._services.clock.now(), content=CONTENT
            )
        except LinesideError as error:
            return error.message, 0.0
        if answer.taken:
            return "", 0.0
        return f"answered {answer.status}", answer.retry_after_s

    def _trying_since(self, logged: Logged) -> datetime:
        """When its first try failed, also before a restart."""
        if self._mark.event != logged.entry.id:
            since = rfc3339(self._services.clock.now())
            mark = _Mark(position=self._mark.position, event=logged.entry.id, since=since)
            self._keep(mark)
        return parse_rfc3339(self._mark.since)

    def _give_up(self, logged: Logged, *, why: str, since: datetime, tries: int) -> None:
        told: dict[str, Json] = {
            "action": "dead", "event": logged.entry.id, "type": logged.entry.type, "why": why,
            "since": rfc3339(since), "tries": tries,
        }  # fmt: skip
        site = self._services.plant.site
        event = Event(
            id=stable_id("evt", WEBHOOK_TYPE, self._config.name, logged.entry.id),
            source=hub_source(site), type=WEBHOOK_TYPE, subject=self._config.name,
            time=self._services.clock.now(), data=dict(told),
        )  # fmt: skip
        self._services.ledger.record([event])
        self.figures.dead += 1
        logger.warning(
            "webhook gave up name=%s event=%s why=%s", self._config.name, logged.entry.id, why
        )

    def _load(self) -> _Mark:
        try:
            body = self._services.records.documents.get(_KIND, self._config.name).body
        except NotFoundError:
            return _Mark()
        return _Mark(position=body["position"], event=body["event"], since=body["since"])

    def _keep(self, mark: _Mark) -> None:
        body = {"position": mark.position, "event": mark.event, "since": mark.since}
        self._services.records.documents.put(_KIND, self._config.name, body=body)
        self._mark = mark

    def _note_lost(self, why: str) -> None:
        if not self._lost:
            logger.warning("webhook waits name=%s reason=%s", self._config.name, why)
        self._lost = True

    def _note_back(self) -> None:
        if self._lost:
            logger.info("webhook goes on name=%s", self._config.name)
        self._lost = False


def start_webhooks(services: Services, *, stack: ExitStack) -> None:
    """One follower each; ended by the stack in reverse."""
    for config in services.config.webhook:
        _start(config, services=services, stack=stack)


def _start(config: WebhookConfig, *, services: Services, stack: ExitStack) -> None:
    sender = WebhookSender(config.target)
    webhook = Webhook(config, services=services, sender=sender)
    name = f"webhook-{config.name}"
    follow_from_now(name, records=services.records, ledger=services.ledger)
    plain = len(config.types) == 1 and not set(config.types[0]) & set("*?[")
    follower = Follower(
        name, records=services.records, ledger=services.ledger, handle=webhook.send,
        selection=Selection(type=config.types[0] if plain else ""),
    )  # fmt: skip
    stack.callback(sender.close)
    follower.start()
    stack.callback(follower.stop)
    stack.callback(webhook.stop)
    figure = f"webhook_{config.name.replace('-', '_')}"
    for part in ("sent", "retried", "dead"):
        services.stats.watch(f"{figure}_{part}", partial(getattr, webhook.figures, part))
    services.stats.watch(f"{figure}_behind", partial(getattr, follower, "behind"))
