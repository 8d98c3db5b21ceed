"""The OPC UA server of the hub: what it offers, to whom, and the threads that feed it.

1. The newest of everything is looked at after each commit, at most twenty times a second, and once
   a second for what grows old by time alone; only what changed is written.
2. Rule events are counted from the log, each once, also over a crash: count and place in the log
   are one document.
3. Sign-in is that of lineside's users, over an encrypted channel; the certificate is of the site's
   authority, renewed at a start.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from lineside.core import InvalidError, LinesideError, NotFoundError, replace_durably
from lineside.fleet import SiteAuthority, renewal_due, server_certificate
from lineside.hub.access.auth import Credentials
from lineside.hub.access.tls import hosts_of
from lineside.hub.config import HubConfig
from lineside.hub.eventlog.followers import Follower, Selection, follow_from_now, skip_entry
from lineside.hub.eventlog.ledger import Recorded
from lineside.hub.eventlog.stats import NAMES
from lineside.hub.services import Services
from lineside.hub.sinks.opcua_words import (
    OWN_RULES,
    Known,
    RuleSaid,
    Values,
    changed,
    event_told,
    values_of,
)
from lineside.links import OpcuaServer, OpcuaSettings, opcua_address
from lineside.store import Logged
from lineside.streams import (
    EVENT_TYPE,
    PREDICTION_TYPE,
    Event,
    decode_event,
    read_prediction,
)

_FOLLOWER = "opcua"
_KIND = "opcua-counts"
_SOON_S = 0.05
_OFTEN_S = 1.0
_TOLD_FOR = timedelta(seconds=60)


class OpcuaFeed:
    """Brings what is new to the server; one thread, and the follower's."""

    def __init__(self, server: OpcuaServer, *, services: Services) -> None:
        self._server = server
        self._services = services
        self._stop = threading.Event()
        self._grown = threading.Event()
        self._lock = threading.Lock()
        self._inspections = {one.id for one in services.plant.inspection}
        self._newest: dict[str, Event] = {}
        self._told: Values = {}
        self._position = 0
        self._rules = {
            name: RuleSaid() for name in (*(one.id for one in services.plant.rule), *OWN_RULES)
        }
        self._thread = threading.Thread(target=self._run, name="opcua-feed")

    def load(self) -> None:
        """What was there before the start."""
        log = self._services.records.log
        for inspection in self._services.plant.inspection:
            found = log.read(
                type=PREDICTION_TYPE, subject=inspection.id, newest_first=True, limit=1
            )
            for logged in found:
                self._newest[inspection.id] = decode_event(logged.entry.body, where=inspection.id)
        for name, count in self._kept_counts().items():
            page = log.read(type=EVENT_TYPE, subject=name, newest_first=True, limit=1)
            last = decode_event(page[0].entry.body, where=name) if page else None
            self._rules[name] = RuleSaid(count=count, last=last)
        self.step()

    def start(self) -> None:
        """Begin."""
        self._services.ledger.listen(self._heard)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._grown.set()
        if self._thread.ident is not None:
            self._thread.join()

    def step(self) -> int:
        """Say what changed; how many nodes."""
        with self._lock:
            newest, rules = dict(self._newest), dict(self._rules)
        counts, now = self._services.stats.plain(), self._services.clock.now()
        known = Known(
            state=self._services.ledger.state,
            predictions={name: read_prediction(event) for name, event in newest.items()},
            rules=rules,
            counters={name: int(counts[name]) for name in NAMES},
            now=now,
        )
        told = changed(values_of(known, plant=self._services.plant), before=self._told, now=now)
        self._told |= told
        self._server.set(told)
        return len(told)

    def resume(self, position: int) -> int:
        """Go on behind the kept counts, whichever hub of the site kept them."""
        return self._position or position

    def take(self, entries: Sequence[Logged]) -> None:
        """Rule events, by a follower of the log."""
        fresh = [one for one in entries if one.position > self._position]
        events = [decode_event(one.entry.body, where=one.entry.id) for one in fresh]
        with self._lock:
            rules = dict(self._rules)
        for event in events:
            said = rules.get(event.subject, RuleSaid())
            rules[event.subject] = RuleSaid(count=said.count + 1, last=event)
        position = max((one.position for one in fresh), default=self._position)
        counts = {name: said.count for name, said in rules.items()}
        body = {"position": position, "counts": counts}
        self._services.records.documents.put(_KIND, _FOLLOWER, body=body)
        self._position = position
        with self._lock:
            self._rules = rules
        recent = self._services.clock.now() - _TOLD_FOR
        self._server.tell(
            event_told(event)
            for event, logged in zip(events, fresh, strict=True)
            if logged.arrived_at >= recent
        )
        self._grown.set()

    def _kept_counts(self) -> Mapping[str, int]:
        try:
            body = self._services.records.documents.get(_KIND, _FOLLOWER).body
        except NotFoundError:
            return {}
        self._position = int(body["position"])
        return {name: int(count) for name, count in body["counts"].items()}

    def _heard(self, recorded: Recorded) -> None:
        """After each commit, on the writer's thread."""
        with self._lock:
            for event in recorded.events:
                if event.type == PREDICTION_TYPE and event.subject in self._inspections:
                    held = self._newest.get(event.subject)
                    if held is None or held.time <= event.time:
                        self._newest[event.subject] = event
        self._grown.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._grown.clear()
            self.step()
            self._stop.wait(_SOON_S)
            self._grown.wait(_OFTEN_S)


def start_opcua(services: Services, *, stack: ExitStack) -> None:
    """The server, where the settings ask for one; ended by the stack in reverse."""
    config = services.config
    if not config.opcua:
        return
    server = OpcuaServer(
        opcua_settings(services),
        sign_in=lambda name, word: may_enter(services, name=name, password=word),
    )
    feed = OpcuaFeed(server, services=services)
    feed.load()
    server.start()
    stack.callback(server.close)
    follow_from_now(_FOLLOWER, records=services.records, ledger=services.ledger)
    follower = Follower(
        _FOLLOWER, records=services.records, ledger=services.ledger, handle=feed.take,
        selection=Selection(type=EVENT_TYPE), skip=skip_entry, resume=feed.resume,
    )  # fmt: skip
    feed.start()
    stack.callback(feed.stop)
    services.followers.start(follower, stack=stack, each=True)
    services.stats.watch("opcua_clients", server.clients)
    services.stats.watch("opcua_dropped", lambda: server.dropped)
    services.stats.watch("opcua_behind", lambda: follower.behind)


def opcua_settings(services: Services) -> OpcuaSettings:
    """Where it listens, and with which certificate.

    Raises:
        InvalidError: nobody could read from it.
    """
    config, site = services.config, services.plant.site
    settings = OpcuaSettings(
        url=config.opcua, application=f"urn:lineside:{site}:hub", anonymous=config.opcua_anonymous
    )
    if (config.authority_folder / "authority.key").exists():
        certificate, key = _files(services, application=settings.application)
        return replace(settings, certificate=certificate, key=key)
    check_opcua(config)
    return settings


def check_opcua(config: HubConfig) -> None:
    """Refuse a server that nobody could read from; before a start makes anything.

    Raises:
        InvalidError: there is neither an authority for its sign-in, nor may anybody read.
    """
    signed = (config.authority_folder / "authority.key").exists()
    if config.opcua and not (signed or config.opcua_anonymous):
        raise InvalidError(
            "an OPC UA server that nobody could sign in to", where="opcua",
            fix="Run lineside hub init, or set opcua_anonymous = true.",
        )  # fmt: skip


def _files(services: Services, *, application: str) -> tuple[Path, Path]:
    """Certificate and key, made or renewed where that is due; the key last."""
    folder = services.config.folder / "opcua"
    certificate, key = folder / "server.crt", folder / "server.key"
    if not (key.exists() and _holds(certificate, services=services)):
        authority = SiteAuthority.open(services.config.authority_folder, clock=services.clock)
        pair = authority.issue_application(application, hosts=_hosts(services.config))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key.unlink(missing_ok=True)
        replace_durably(certificate, pair.certificate, mode=0o600)
        replace_durably(key, pair.key, mode=0o600)
    return certificate, key


def _holds(certificate: Path, *, services: Services) -> bool:
    try:
        found = server_certificate(certificate.read_bytes(), where=str(certificate))
    except (OSError, LinesideError):
        return False
    return not renewal_due(found, now=services.clock.now())


def _hosts(config: HubConfig) -> tuple[str, ...]:
    host, _ = opcua_address(config.opcua)
    own = () if host in {"0.0.0.0", "::"} else (host,)  # noqa: S104  compared, not listened at
    return tuple(dict.fromkeys((*own, *hosts_of(config))))


def may_enter(services: Services, *, name: str, password: str) -> bool:
    """Whether they belong together; wrong tries are counted as those of the pages."""
    try:
        token = services.auth.sign_in_by_password(
            Credentials(name=name, password=password, address="opcua")
        )
    except LinesideError:
        return False
    services.auth.sign_out(token)
    return True
