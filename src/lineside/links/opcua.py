"""An OPC UA server (asyncua) that others read: values with quality and time, and events.

1. Nobody can write, call or add anything: a client reads, subscribes and browses.
2. A value has the time of its capture as source timestamp, and a status: Good, Uncertain (the
   answer itself is not sure), UncertainLastUsableValue (it is older than it may be), or, before
   there was any, BadWaitingForInitialData (OPC 10000-8, 6.3.4).
3. With a certificate it offers Basic256Sha256, sign and encrypt, and sign-in by name and password;
   without encryption only to read as anybody, where that was said.
4. It runs on a thread with an event loop of its own. ``set`` does not wait: of what was not written
   yet, the newest value of each node stands.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lineside.core import InvalidError, LinesideError, UnavailableError, need
from lineside.core.worker import Worker

NAMESPACE = "urn:lineside:ua:1"
ROOT = "Lineside"

Scalar = bool | int | float | str
SignIn = Callable[[str, str], bool]
"""Whether name and password belong together."""


class Kind(StrEnum):
    """Types of values, as OPC UA names them."""

    BOOLEAN = "Boolean"
    INTEGER = "Int64"
    DOUBLE = "Double"
    TEXT = "String"


class Quality(StrEnum):
    """Reliability of a value; the names are those of OPC UA's status codes."""

    GOOD = "Good"
    UNSURE = "Uncertain"
    STALE = "UncertainLastUsableValue"
    WAITING = "BadWaitingForInitialData"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaNode:
    """A variable: its place below ``Lineside``, levels parted by ``/``, and its type."""

    path: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaValue:
    """A value, when it was captured, and how far it may be relied on."""

    value: Scalar | None
    at: datetime | None
    quality: Quality = Quality.GOOD


EVENT_FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "LinesideEventType": dict.fromkeys(("LinesideId", "Rule", "Data"), Kind.TEXT),
    "LinesideVerdictEventType": {
        **dict.fromkeys(("LinesideId", "Line", "Part", "Verdict", "Reasons"), Kind.TEXT),
        "Sequence": Kind.INTEGER,
    },
}
"""Types of events, each with the fields that it has beside those of ``BaseEventType``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaEvent:
    """One event: ``at`` is its time, ``fields`` those of its type in ``EVENT_FIELDS``."""

    type: str
    source: str
    at: datetime
    message: str
    fields: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaSettings:
    """Where and for whom.

    Attributes:
        url: ``opc.tcp://host:port``.
        application: its name in the world, ``urn:…``, as in its certificate.
        certificate, key: PEM files (RSA); None: no encrypted endpoint.
        anonymous: anybody may read, also without encryption.
    """

    url: str
    application: str
    certificate: Path | None = None
    key: Path | None = None
    anonymous: bool = False


def opcua_address(url: str) -> tuple[str, int]:
    """Host and port of ``opc.tcp://host:port``.

    Raises:
        InvalidError: it is no such address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme != "opc.tcp" or not host or not port or parts.username:
        raise InvalidError(
            f"{url!r} is no address of OPC UA", where="opcua",
            fix='Write opcua = "opc.tcp://127.0.0.1:4840".',
        )  # fmt: skip
    return host, port


FASTEST_MS = 20.0
SLOWEST_MS = 3_600_000.0
MOST_SUBSCRIPTIONS = 20
MOST_ITEMS = 50_000
MOST_QUEUED = 1000
_MOST_CLIENTS = 100
_MOST_UNACKED = 500


def bound(server: Any) -> None:  # noqa: ANN401  of the library
    """Set the limits; before the server's ``init``."""
    inner = server.iserver
    inner.max_connections = _MOST_CLIENTS
    inner.max_subscriptions = _MOST_CLIENTS * MOST_SUBSCRIPTIONS
    inner.max_monitored_item_queue_size = MOST_QUEUED
    inner.max_unacked_messages_per_subscription = _MOST_UNACKED
    inner.subscription_service = inner.isession.subscription_service = _bounded_service(inner)


def _bounded_service(inner: Any) -> Any:  # noqa: ANN401  of the library
    library = need("asyncua.server.subscription_service", extra="opcua")
    ua = need("asyncua", extra="opcua").ua
    refused = need("asyncua.common.utils", extra="opcua").ServiceError

    class Bounded(library.SubscriptionService):  # type: ignore[misc, name-defined]  # a class found when it runs
        async def create_subscription(self, params: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401  handed on
            mine = [sub for sub in self.subscriptions.values() if sub.session_id == args[1]]
            if len(mine) >= MOST_SUBSCRIPTIONS:
                raise refused(ua.StatusCodes.BadTooManySubscriptions)
            asked_ms = max(FASTEST_MS, params.RequestedPublishingInterval)  # in this order: NaN
            params.RequestedPublishingInterval = min(asked_ms, SLOWEST_MS)
            return await super().create_subscription(params, *args, **more)

        async def create_monitored_items(self, params: Any) -> Any:  # noqa: ANN401
            services = [one.monitored_item_srv for one in self.subscriptions.values()]
            known = sum(len(one._monitored_items) for one in services)  # noqa: SLF001  nothing else tells
            if known + len(params.ItemsToCreate) > MOST_ITEMS:
                raise refused(ua.StatusCodes.BadTooManyMonitoredItems)
            for item in params.ItemsToCreate:
                # OPC 10000-4, 7.21: of events 0 and 1 leave the size to the server; asyncua keeps 1
                if item.ItemToMonitor.AttributeId == ua.AttributeIds.EventNotifier:
                    item.RequestedParameters.QueueSize = MOST_QUEUED
            return await super().create_monitored_items(params)

        def modify_monitored_items(self, params: Any) -> Any:  # noqa: ANN401
            for item in params.ItemsToModify:
                wanted = item.RequestedParameters
                wanted.QueueSize = min(wanted.QueueSize or MOST_QUEUED, MOST_QUEUED)
            return super().modify_monitored_items(params)

    return Bounded(inner.aspace, iserver=inner)


logger = logging.getLogger(__name__)

_MOST_NODES = 20_000
_MOST_MESSAGE_BYTES = 4_000_000
_CHUNK_BYTES = 65_535
_PATH = "/lineside"
_NAME = "lineside"


class OpcuaSpace:
    """Server and nodes; see ``links.opcua`` for the rules."""

    def __init__(self, settings: OpcuaSettings, *, sign_in: SignIn) -> None:
        self._settings = settings
        self._sign_in = sign_in
        self._ua: Any = need("asyncua", extra="opcua").ua
        self._server: Any = None
        self._index = 0
        self._nodes: dict[OpcuaNode, Any] = {}
        self._folders: dict[str, Any] = {}
        self._generators: dict[str, Any] = {}

    async def open(self) -> None:
        """Make the space and listen.

        Raises:
            UnavailableError: the port is taken.
            InvalidError: certificate and key are none.
        """
        asyncua = need("asyncua", extra="opcua")
        host, port = opcua_address(self._settings.url)
        server = asyncua.Server(user_manager=_Users(self._settings, sign_in=self._sign_in))
        bound(server)
        await self._secure(server)
        self._check_free((host, port))  # making the space takes seconds
        await server.init()
        await server.set_application_uri(self._settings.application)
        server.set_server_name(_NAME)
        server.set_endpoint(f"opc.tcp://{urlsplit(self._settings.url).netloc}{_PATH}")
        server.socket_address = (host, port)
        server.limits.max_message_size = _MOST_MESSAGE_BYTES
        server.limits.max_chunk_count = _MOST_MESSAGE_BYTES // _CHUNK_BYTES + 1
        self._index = await server.register_namespace(NAMESPACE)
        self._folders[""] = await server.nodes.objects.add_object(
            self._ua.NodeId(ROOT, self._index), self._ua.QualifiedName(ROOT, self._index)
        )
        for name, fields in EVENT_FIELDS.items():
            kinds = [(field, self._ua.VariantType[kind]) for field, kind in fields.items()]
            made = await server.create_custom_event_type(self._index, name, properties=kinds)
            self._generators[name] = await server.get_event_generator(made)
        try:
            await server.start()
        except OSError as error:
            raise self._port_in_use(error) from error
        self._server = server

    async def close(self) -> None:
        """Stop."""
        await self._server.stop()

    def clients(self) -> int:
        """Connections now."""
        return len(self._server.iserver.asyncio_transports)

    async def write(self, values: Mapping[OpcuaNode, OpcuaValue]) -> None:
        """Say these; nodes that are new are made, up to a number.

        A node whose path is taken, as that of a label named like a folder is, has no place.
        """
        for node, value in values.items():
            if node not in self._nodes and len(self._nodes) < _MOST_NODES:
                try:
                    self._nodes[node] = await self._made(node)
                except self._ua.UaStatusCodeError as error:
                    self._nodes[node] = None
                    logger.warning("opcua node has no place path=%s why=%s", node.path, error)
            if (known := self._nodes.get(node)) is not None:
                await self._server.write_attribute_value(known, self._data_value(node, value))

    async def tell(self, events: Iterable[OpcuaEvent]) -> None:
        """Fire these."""
        for event in events:
            generator = self._generators[event.type]
            for name, value in {
                "SourceName": event.source,
                "Severity": 500,
                **event.fields,
            }.items():
                setattr(generator.event, name, value)
            await generator.trigger(time_attr=event.at, message=event.message)

    def _check_free(self, address: tuple[str, int]) -> None:
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise self._port_in_use(error) from error

    def _port_in_use(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"cannot listen: {error.strerror or error}", where=self._settings.url,
            fix="Choose a free port.",
        )  # fmt: skip

    async def _secure(self, server: Any) -> None:  # noqa: ANN401  of the library
        ua, settings = self._ua, self._settings
        policies = [ua.SecurityPolicyType.NoSecurity] if settings.anonymous else []
        tokens = [ua.AnonymousIdentityToken] if settings.anonymous else []
        if settings.certificate and settings.key:
            try:
                await server.load_certificate(settings.certificate.read_bytes(), "pem")
                await server.load_private_key(settings.key.read_bytes(), None, "pem")
            except (OSError, ValueError, TypeError) as error:
                raise InvalidError(
                    f"no certificate with its key: {error}", where=str(settings.certificate),
                    fix="Delete both; the hub makes new ones at its start.",
                ) from error  # fmt: skip
            policies.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
            tokens.append(ua.UserNameIdentityToken)
        server.set_security_policy(policies, permission_ruleset=_readers(ua))
        server.set_identity_tokens(tokens)

    async def _made(self, node: OpcuaNode) -> Any:  # noqa: ANN401  of the library
        ua = self._ua
        folder, _, name = node.path.rpartition("/")
        parent = await self._folder(folder)
        kind = getattr(ua.ObjectIds, node.kind.value)
        made = await parent.add_variable(
            ua.NodeId(node.path, self._index), ua.QualifiedName(name, self._index),
            ua.Variant(None, ua.VariantType.Null), datatype=ua.NodeId(kind),
        )  # fmt: skip
        return made.nodeid

    async def _folder(self, path: str) -> Any:  # noqa: ANN401  of the library
        if path not in self._folders:
            above, _, name = path.rpartition("/")
            parent = await self._folder(above)
            self._folders[path] = await parent.add_object(
                self._ua.NodeId(path, self._index), self._ua.QualifiedName(name, self._index)
            )
        return self._folders[path]

    def _data_value(self, node: OpcuaNode, value: OpcuaValue) -> Any:  # noqa: ANN401  of the library
        ua = self._ua
        status = ua.StatusCode(getattr(ua.StatusCodes, value.quality))
        kind = getattr(ua.VariantType, node.kind)
        told = None if value.value is None else ua.Variant(value.value, kind)
        return ua.DataValue(told, status, SourceTimestamp=value.at)


class _Users:
    """Who a client is; in asyncua's form."""

    def __init__(self, settings: OpcuaSettings, *, sign_in: SignIn) -> None:
        self._anonymous = settings.anonymous
        self._sign_in = sign_in

    def get_user(
        self, _server: object, *, username: str | None = None, password: str | bytes | None = None,
        certificate: object = None,  # noqa: ARG002  a channel's certificate names no person
    ) -> Any:  # noqa: ANN401  of the library  # fmt: skip
        rules = need("asyncua.crypto.permission_rules", extra="opcua")
        if username is None:
            return rules.User(role=rules.UserRole.User) if self._anonymous else None
        if isinstance(password, bytes):
            password = password.decode(errors="replace")
        if not self._sign_in(username, password or ""):
            return None
        return rules.User(role=rules.UserRole.User, name=username)


def _readers(ua: Any) -> Any:  # noqa: ANN401  of the library
    """Everybody reads; nobody writes or calls."""
    rules = need("asyncua.crypto.permission_rules", extra="opcua")
    refused = {
        ua.NodeId(ua.ObjectIds.WriteRequest_Encoding_DefaultBinary),
        ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary),
    }
    allowed = {ua.NodeId(number) for number in rules.USER_TYPES} - refused

    class Readers(rules.SimpleRoleRuleset):  # type: ignore[misc, name-defined]  # a class found when it runs
        def check_validity(self, _user: object, action_type_id: object, _body: object) -> bool:
            return action_type_id in allowed

    return Readers()


_START_S = 60.0
_MOST_EVENTS = 1000


class OpcuaServer:
    """One server, closed by whoever started it; ``set`` and ``tell`` are for any thread."""

    def __init__(self, settings: OpcuaSettings, *, sign_in: SignIn) -> None:
        self._settings = settings
        self._sign_in = sign_in
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._turns: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._values: dict[OpcuaNode, OpcuaValue] = {}
        self._events: deque[OpcuaEvent] = deque(maxlen=_MOST_EVENTS)
        self._woken = False
        self._space: OpcuaSpace | None = None
        self._worker = Worker("opcua", self._run, every_s=None)
        self.dropped = 0

    def start(self) -> None:
        """Listen; returns when clients can come.

        Raises:
            UnavailableError: the port is taken, or it did not start in time.
            InvalidError: certificate and key are none.
            MissingExtraError: asyncua is not installed.
        """
        need("asyncua", extra="opcua")
        self._worker.start()
        self._ready.wait(_START_S)
        failure = self._failure
        if failure is None and self._ready.is_set():
            return
        self.close()
        if isinstance(failure, LinesideError):
            raise failure
        raise UnavailableError(
            f"the OPC UA server did not start: {failure or 'it took too long'}",
            where=self._settings.url, fix="Choose a free port.",
        ) from failure  # fmt: skip

    def set(self, values: Mapping[OpcuaNode, OpcuaValue]) -> None:
        """Set the values of nodes; a node that is new is made."""
        with self._lock:
            self._values.update(values)
            while len(self._values) > _MOST_NODES:
                self._values.pop(next(iter(self._values)))
                self.dropped += 1
            self._wake()

    def tell(self, events: Iterable[OpcuaEvent]) -> None:
        """Say these to who subscribed to events."""
        with self._lock:
            for event in events:
                self.dropped += len(self._events) == _MOST_EVENTS
                self._events.append(event)
            self._wake()

    def clients(self) -> int:
        """Return how many clients are there."""
        return self._space.clients() if self._space is not None else 0

    def close(self) -> None:
        """End every session and stop."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself meanwhile
                self._loop.call_soon_threadsafe(self._stop.set)
        self._worker.join()

    def _wake(self) -> None:
        """The lock is held."""
        if self._loop is not None and self._turns is not None and not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._turns.set)

    # ---- the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # boundary
            self._failure = error
            if self._ready.is_set():
                logger.exception("opcua server ended")
        self._ready.set()

    async def _serve(self) -> None:
        space = OpcuaSpace(self._settings, sign_in=self._sign_in)
        await space.open()
        self._turns, self._stop = asyncio.Event(), asyncio.Event()
        try:
            writer = asyncio.create_task(self._keep_writing(space, self._turns))
            with self._lock:
                self._space, self._loop = space, asyncio.get_running_loop()
                self._wake()
            self._ready.set()
            await self._stop.wait()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        finally:
            await space.close()

    async def _keep_writing(self, space: OpcuaSpace, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            with self._lock:
                values, self._values = self._values, {}
                events = list(self._events)
                self._events.clear()
                self._woken = False
            try:
                await space.write(values)
                await space.tell(events)
            except Exception:  # boundary
                logger.exception("opcua values not written")
