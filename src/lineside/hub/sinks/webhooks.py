"""Events of the log posted to others' URLs, each webhook by a follower of its own.

1. Events of one key go in the log's order, one after the other: none is overtaken by a later one.
   ``parallel`` keys go at a time, each by a lane of its own, so that one that is tried again holds
   up no other.
2. A lane's first event stays its first until it was dealt with; those behind it wait in the log.
   Where each lane stands is stored, not what waits in it: as many places as there are lanes,
   however long one is held up. With ``MOST_LANES`` of them nothing further is read.
3. An event that is not taken is tried again, later and later, up to five minutes apart, or as late
   as the answer asks. After ``dead_after_s`` it is given up: that is an event of the hub
   (``lineside.webhook.v1``, ``action`` ``dead``) and counted, it stands in the quarantine of the
   webhook's follower, and the next one follows.
4. Where nobody answered at all, it was not for the sake of one event: the first answer that takes
   something makes every lane due that waits for that reason.
5. How far each key came is written after each event: after a crash as many events may come twice
   as were under way, ``parallel`` at most, under the same ``webhook-id``. So may those whose posts
   are not answered within ``_END_S`` of a stop.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from lineside.core import (
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    UnavailableError,
    digest_of,
    parse_rfc3339,
    rfc3339,
    stable_id,
)
from lineside.core.webhooks import WebhookConfig
from lineside.core.worker import Worker, backoff_s
from lineside.hub.config import key_of
from lineside.hub.eventlog.dead_letters import Quarantine
from lineside.hub.eventlog.followers import WaitReason, follow_from_now
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.services import Services
from lineside.links.webhook import WebhookSender
from lineside.store import Logged
from lineside.streams import Event

MOST_LANES = 100
MOST_HELD = 20


@dataclass(slots=True, kw_only=True)
class Lane:
    """The events of one key that were read and are not dealt with.

    Attributes:
        position: in the log, of the first of them, or one before it.
        since: when the first try of the first one failed, as text; "" before.
        held: the first few; empty where they must be read from the log.
        more: whether there may be others behind those held.
        tries: how often the first one was tried, in this life of the hub.
        due_s: when it is tried next, on a monotonic clock.
        away: whether the last try met nobody.
        busy: whether somebody is at it.
    """

    position: int
    since: str = ""
    held: deque[Logged] = field(default_factory=deque)
    more: bool = False
    tries: int = 0
    due_s: float = 0.0
    away: bool = False
    busy: bool = False


class Lanes:
    """All lanes of one webhook; guarded by whoever owns it."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        """Go on from what ``plain`` said."""
        self.read_to = stored["position"] if stored else 0
        self._lanes = {
            key: Lane(position=position, since=since, more=True)
            for key, position, since in (stored or {}).get("lanes", ())
        }

    def __len__(self) -> int:
        return len(self._lanes)

    def plain(self) -> dict[str, Any]:
        """State to store: how far the log was read; of each lane key, position and since."""
        lanes = [[key, lane.position, lane.since] for key, lane in self._lanes.items()]
        return {"position": self.read_to, "lanes": lanes}

    def read(self, entries: Iterable[tuple[Logged, str | None]]) -> int:
        """Take what was read, in the log's order, as far as there is room; how many were taken.

        An entry without key is not wanted; one that was taken before changes nothing.
        """
        count = 0
        for logged, key in entries:
            if logged.position > self.read_to and key is not None and not self._join(logged, key):
                break
            self.read_to = max(self.read_to, logged.position)
            count += 1
        return count

    def claim(self, now_s: float) -> tuple[str, Lane] | None:
        """A lane that is due, for the caller alone until its result is known or ``release``."""
        for key, lane in self._lanes.items():
            if not lane.busy and lane.due_s <= now_s:
                lane.busy = True
                return key, lane
        return None

    def next_due_s(self) -> float | None:
        """When a lane that nobody is at is due; None: there is none."""
        return min((lane.due_s for lane in self._lanes.values() if not lane.busy), default=None)

    def found(self, key: str, entries: Sequence[Logged], *, looked_to: int) -> None:
        """Events read from the log for a lane that held nothing.

        Args:
            key: of the lane.
            entries: its events from its position on, ``MOST_HELD`` at most.
            looked_to: the position up to which these are all of them.
        """
        lane = self._lanes[key]
        lane.held.extend(entries)
        lane.more = looked_to < self.read_to
        if entries:
            self._stand(lane, entries[0].position)
        elif lane.more:
            self._stand(lane, looked_to + 1)
        else:
            del self._lanes[key]

    def mark_delivered(self, key: str) -> None:
        """The first event of a lane was dealt with."""
        lane = self._lanes.pop(key)
        done = lane.held.popleft()
        if not (lane.held or lane.more):
            return
        after = lane.held[0].position if lane.held else done.position + 1
        fresh = Lane(position=after, held=lane.held, more=lane.more)
        self._lanes[key] = fresh  # at the end: others first

    def answered(self, now_s: float) -> None:
        """The other side is there; see rule 3."""
        for lane in self._lanes.values():
            if lane.away and not lane.busy:
                lane.away, lane.due_s = False, now_s

    def missed(self, key: str, *, due_s: float, away: bool) -> None:
        """The first event of a lane was not taken; it is tried again."""
        lane = self._lanes[key]
        lane.busy, lane.due_s, lane.away = False, due_s, away
        lane.tries += 1

    def release(self, key: str, *, due_s: float) -> None:
        """Nothing was tried."""
        if key in self._lanes:
            self._lanes[key].busy, self._lanes[key].due_s = False, due_s

    @property
    def failing(self) -> bool:
        """Return True while a lane waits for another try."""
        return any(lane.tries for lane in self._lanes.values())

    def _join(self, logged: Logged, key: str) -> bool:
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= MOST_LANES:
                return False
            self._lanes[key] = Lane(position=logged.position, held=deque([logged]))
        elif lane.more or len(lane.held) >= MOST_HELD:
            lane.more = True
        else:
            lane.held.append(logged)
        return True

    @staticmethod
    def _stand(lane: Lane, position: int) -> None:
        """A lane whose first event is gone from the log begins anew with the next."""
        if position != lane.position:
            lane.position, lane.since, lane.tries = position, "", 0


logger = logging.getLogger(__name__)

WEBHOOK_TYPE = "lineside.webhook.v1"
CONTENT = "application/cloudevents+json; charset=utf-8"
_KIND = "webhook"
_PAGE = 200
_MOST_KEY = 100
_LOOK_S = 1.0
_AGAIN_S = 2.0
_FIRST_S = 1.0
_MOST_S = 300.0
_END_S = 2.0


def is_wanted(logged: Logged, config: WebhookConfig) -> bool:
    """Return True if a webhook gets this event; never one about itself."""
    entry = logged.entry
    if entry.type == WEBHOOK_TYPE and entry.subject == config.name:
        return False
    typed = any(fnmatchcase(entry.type, pattern) for pattern in config.types)
    return typed and (not config.rules or entry.subject in config.rules)


def lane_key(logged: Logged, config: WebhookConfig) -> str | None:
    """The key whose order an event keeps; None: the webhook does not select it."""
    if not is_wanted(logged, config):
        return None
    key = key_of(logged, config.key)
    return key if len(key) <= _MOST_KEY else digest_of(key.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """Result of one post: why it was not taken, "" if it was."""

    why: str = ""
    away: bool = False
    wait_s: float = 0.0


class Webhook:
    """Handler of a follower over the log, and the threads that post."""

    def __init__(
        self, config: WebhookConfig, *, services: Services, quarantine: Quarantine
    ) -> None:
        self._config = config
        self._services = services
        self._lease = services.leases.lease(follower_name(config))
        self._token = self._lease.token
        self._busy = 0
        self._quarantine = quarantine
        self._moved = threading.Condition()
        self._lanes = self._load()
        self._lost: WaitReason | None = None
        self._unkept = False
        self._senders = [WebhookSender(config) for _ in range(config.parallel)]
        self._retrying = WebhookSender(config)
        self._workers = [
            self._worker(f"webhook-{config.name}-{number}", sender)
            for number, sender in enumerate(self._senders)
        ]
        self._stop = self._workers[0].stopping
        self._end_s = 0.0
        self.sent = self.retried = self.dead = 0

    @property
    def waiting(self) -> int:
        """Keys that have something to be posted."""
        return len(self._lanes)

    def trouble(self) -> WaitReason | None:
        """Since when somebody does not take what is posted; None where all is well."""
        return self._lost

    def start(self) -> None:
        """Begin to post."""
        for worker in self._workers:
            worker.start()

    def request_stop(self) -> None:
        """Begin no further post, without waiting for those in hand."""
        if not self._stop.is_set():
            self._end_s = self._services.clock.monotonic() + _END_S
        for worker in self._workers:
            worker.request_stop()
        with self._moved:
            self._moved.notify_all()

    def stop(self) -> None:
        """End; posts in hand that are not answered soon are broken off, and come once more."""
        self.request_stop()
        for worker in self._workers:
            worker.join(max(0.0, self._end_s - self._services.clock.monotonic()))
        for sender in (*self._senders, self._retrying):
            sender.stop()
        for worker in self._workers:
            worker.join()

    def read(self, entries: Sequence[Logged]) -> None:
        """Put what is wanted into the lanes; returns when all of it is there.

        Raises:
            UnavailableError: the hub stops before, or the store is away.
        """
        keyed = [(logged, lane_key(logged, self._config)) for logged in entries]
        while keyed:
            with self._moved:
                count = self._lanes.read(keyed)
                if count:
                    self._keep()
                    self._moved.notify_all()
                elif self._stop.is_set():
                    raise _stops()
                else:
                    self._moved.wait(_LOOK_S)
            keyed = keyed[count:]

    def retry(self, logged: Logged) -> None:
        """Post an event that was given up, once.

        Raises:
            InvalidError: it is not taken.
            UnavailableError: the hub stops.
        """
        with closing(self._retrying) as sender:
            attempt = self._post(logged, sender=sender)
        if attempt.away and self._stop.is_set():
            raise _stops()
        if attempt.why:
            raise InvalidError(attempt.why)
        with self._moved:
            self.sent += 1

    def resume(self, position: int) -> int:
        """Go on with the lanes as they were kept last, maybe by another hub."""
        with self._moved:
            self._moved.wait_for(lambda: not self._busy)
            self._lanes = self._load()
            self._token = self._lease.token
        return position

    def turn(self, sender: WebhookSender) -> bool:
        """One try of the first event of a lane that is due; False if none is, or it may not."""
        with self._moved:
            if not self._may_post:
                return False
            claimed = self._lanes.claim(self._services.clock.monotonic())
            self._busy += claimed is not None
        if claimed is None:
            return False
        try:
            self._try(*claimed, sender=sender)
        finally:
            with self._moved:
                self._busy -= 1
                self._moved.notify_all()
        return True

    @property
    def _may_post(self) -> bool:
        """Return True if this hub runs the webhook, with the lanes that the last one stored."""
        return self._lease.is_held and self._lease.token == self._token

    def _try(self, key: str, lane: Lane, *, sender: WebhookSender) -> None:
        try:
            self._do(key, lane, sender=sender)
        except BaseException:
            with self._moved:
                again_s = self._services.clock.monotonic() + _AGAIN_S
                self._lanes.release(key, due_s=again_s)
            raise

    def _do(self, key: str, lane: Lane, *, sender: WebhookSender) -> None:
        if not lane.held:
            self._look(key, lane)
            return
        logged = lane.held[0]
        attempt = self._post(logged, sender=sender)
        if attempt.away and self._stop.is_set():  # it was broken off, which is no fault of its own
            with self._moved:
                self._lanes.release(key, due_s=lane.due_s)
            return
        with self._moved:
            self.retried += lane.tries > 0
        if attempt.why and not self._is_over(lane):
            self._miss(key, lane, attempt=attempt)
            return
        if attempt.why:
            self._give_up(logged, lane, why=attempt.why)
        with self._moved:
            self.dead += bool(attempt.why)
            self.sent += not attempt.why
            self._lanes.mark_delivered(key)
            if not attempt.why:
                self._lanes.answered(self._services.clock.monotonic())
            self._note_back()
            self._keep_later()
            self._moved.notify_all()

    def _look(self, key: str, lane: Lane) -> None:
        """Read a lane's next events from the log."""
        with self._moved:
            after, end = lane.position - 1, self._lanes.read_to
        found: list[Logged] = []
        while after < end and len(found) < MOST_HELD:
            page = self._services.records.log.read(
                after=after, limit=_PAGE, type=selected_type(self._config)
            )
            found += [
                logged
                for logged in page
                if logged.position <= end and lane_key(logged, self._config) == key
            ]
            after = page[-1].position if len(page) == _PAGE else end
        found, rest = found[:MOST_HELD], found[MOST_HELD:]
        with self._moved:
            looked_to = rest[0].position - 1 if rest else min(after, end)
            self._lanes.found(key, found, looked_to=looked_to)
            self._lanes.release(key, due_s=lane.due_s)
            self._moved.notify_all()

    def _post(self, logged: Logged, *, sender: WebhookSender) -> _Attempt:
        try:
            answer = sender.post(
                logged.entry.id, logged.entry.body, at=self._services.clock.now(), content=CONTENT
            )
        except LinesideError as error:
            return _Attempt(why=error.message, away=True)
        if answer.accepted:
            return _Attempt()
        return _Attempt(why=f"answered {answer.status}", wait_s=answer.retry_after_s)

    def _is_over(self, lane: Lane) -> bool:
        """Return True if its time is over, counted from the first failure, over restarts."""
        now = self._services.clock.now()
        lane.since = lane.since or rfc3339(now)
        return self._left_s(lane) <= 0

    def _left_s(self, lane: Lane) -> float:
        tried_for = self._services.clock.now() - parse_rfc3339(lane.since)
        return self._config.dead_after_s - tried_for.total_seconds()

    def _miss(self, key: str, lane: Lane, *, attempt: _Attempt) -> None:
        waits_s = max(attempt.wait_s, backoff_s(lane.tries, first_s=_FIRST_S, most_s=_MOST_S))
        due_s = self._services.clock.monotonic() + min(waits_s, self._left_s(lane))
        with self._moved:
            first = lane.tries == 0
            self._lanes.missed(key, due_s=due_s, away=attempt.away)
            self._note_lost(attempt.why)
            if first:
                self._keep_later()

    def _give_up(self, logged: Logged, lane: Lane, *, why: str) -> None:
        self._quarantine.check_capacity()
        data: dict[str, Json] = {
            "action": "dead", "event": logged.entry.id, "type": logged.entry.type, "why": why,
            "since": lane.since, "tries": lane.tries + 1,
        }  # fmt: skip
        site = self._services.plant.site
        event = Event(
            id=stable_id("evt", WEBHOOK_TYPE, self._config.name, logged.entry.id),
            source=hub_source(site), type=WEBHOOK_TYPE, subject=self._config.name,
            time=self._services.clock.now(), data=data,
        )  # fmt: skip
        self._quarantine.add(logged, why, at=event.time)
        self._services.ledger.record([event])
        logger.warning(
            "webhook gave up name=%s event=%s why=%s", self._config.name, logged.entry.id, why
        )

    # ---- what survives

    def _load(self) -> Lanes:
        try:
            return Lanes(self._services.records.documents.get(_KIND, self._config.name).body)
        except NotFoundError:
            return Lanes()

    def _keep(self) -> None:
        """The lock is held."""
        with self._lease.writing():
            self._services.records.documents.put(_KIND, self._config.name, body=self._lanes.plain())
        self._unkept = False

    def _keep_later(self) -> None:
        """The same; where the store is away, with what comes next."""
        try:
            self._keep()
        except LinesideError as error:
            if not self._unkept:
                logger.warning("webhook not noted name=%s reason=%s", self._config.name, error)
            self._unkept = True

    # ---- threads

    def _worker(self, name: str, sender: WebhookSender) -> Worker:
        return Worker(
            name, lambda: None if self.turn(sender) else self._wait(), longest_retry_s=_LOOK_S,
            at_end=sender.close, report=self._note_failure,
        )  # fmt: skip

    def _note_failure(self, error: Exception | None) -> None:
        """Remember who is away; a post that is taken clears that."""
        if isinstance(error, LinesideError):
            with self._moved:
                self._note_lost(error.message)
        elif error is not None:
            logger.error("webhook failed name=%s", self._config.name, exc_info=error)

    def _wait(self) -> None:
        with self._moved:
            due_s = self._lanes.next_due_s()
            waits = due_s is None or not self._may_post
            left_s = _LOOK_S if waits or due_s is None else due_s - self._services.clock.monotonic()
            if left_s > 0 and not self._stop.is_set():
                self._moved.wait(min(left_s, _LOOK_S))

    def _note_lost(self, why: str) -> None:
        if self._lost is None:
            logger.warning("webhook waits name=%s reason=%s", self._config.name, why)
            self._lost = WaitReason(self._services.clock.now(), why)

    def _note_back(self) -> None:
        if self._lost is not None and not self._lanes.failing:
            logger.info("webhook goes on name=%s", self._config.name)
            self._lost = None


def _stops() -> UnavailableError:
    return UnavailableError("the hub stops", fix="It goes on at the next start.")


def selected_type(config: WebhookConfig) -> str:
    """The one type to read by; "" where there are several or patterns."""
    plain = len(config.types) == 1 and not set(config.types[0]) & set("*?[")
    return config.types[0] if plain else ""


def follower_name(config: WebhookConfig) -> str:
    """The name of a webhook's follower, quarantine and lease."""
    return f"webhook-{config.name}"


_FIGURES = ("sent", "retried", "dead", "waiting")


class Webhooks:
    """The webhooks in force, each with a follower: those of a changed plant file at once.

    One that changes ends and begins anew where it was; see rule 5.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._running: dict[str, tuple[WebhookConfig, Webhook, ExitStack]] = {}
        self._worker = Worker("webhooks", self.step, every_s=_LOOK_S, delay_s=_LOOK_S)

    def start(self) -> None:
        """Start those in force, and follow what is."""
        self.step()
        self._worker.start()
        self._services.stats.watch_each("webhook", "webhook", read=self._figures)

    def stop(self) -> None:
        """End all of them."""
        self._worker.stop()
        self._end(self._running)

    def step(self) -> None:
        """End what is not in force any more, start what is."""
        wanted = {config.name: config for config in self._services.webhooks}
        self._end(
            [name for name, (config, *_) in self._running.items() if wanted.get(name) != config]
        )
        for name, config in wanted.items():
            if name not in self._running:
                with ExitStack() as opening:
                    webhook = _start(config, services=self._services, stack=opening)
                    self._running[name] = config, webhook, opening.pop_all()
                    logger.info("webhook runs name=%s", name)

    def _end(self, names: Iterable[str]) -> None:
        ending = list(names)
        for name in ending:  # all of them, before the first is waited for
            self._running[name][1].request_stop()
        for name in ending:
            config, _, stack = self._running.pop(name)
            stack.close()
            self._services.followers.remove(follower_name(config))
            logger.info("webhook ends name=%s", name)

    def _figures(self) -> dict[str, dict[str, float]]:
        return {
            name: {part: getattr(webhook, part) for part in _FIGURES}
            for name, (_, webhook, _) in list(self._running.items())  # the worker changes it
        }


def _start(config: WebhookConfig, *, services: Services, stack: ExitStack) -> Webhook:
    name = follower_name(config)
    quarantine = Quarantine(services.records.documents, follower=name)
    webhook = Webhook(config, services=services, quarantine=quarantine)
    follow_from_now(name, records=services.records, ledger=services.ledger)
    services.followers.follow(
        name, webhook.read, stack=stack, type=selected_type(config), quarantine=quarantine,
        retry=webhook.retry, outside=webhook.trouble, resume=webhook.resume,
    )  # fmt: skip
    webhook.start()
    stack.callback(webhook.stop)
    return webhook
