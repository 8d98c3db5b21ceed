"""The address space of our OPC UA server and who may see it, in asyncua's words.

Used by one thread, inside its event loop.
"""

import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from lineside.core import InvalidError, UnavailableError, need
from lineside.links.opcua_bounds import bound
from lineside.links.opcua_records import (
    NAMESPACE,
    ROOT,
    OpcuaEvent,
    OpcuaNode,
    OpcuaSettings,
    OpcuaValue,
    SignIn,
)

logger = logging.getLogger(__name__)

EVENT_TYPE = "LinesideEventType"
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
        self._generator: Any = None

    async def open(self) -> None:
        """Make the space and listen.

        Raises:
            UnavailableError: the port is taken.
            InvalidError: certificate and key are none.
        """
        asyncua = need("asyncua", extra="opcua")
        host, port = self._settings.address
        server = asyncua.Server(user_manager=_Users(self._settings, sign_in=self._sign_in))
        bound(server)
        await self._secure(server)
        self._check_free((host, port))  # making the space takes seconds
        await server.init()
        await server.set_application_uri(self._settings.application)
        server.set_server_name(_NAME)
        server.set_endpoint(f"opc.tcp://{_bracketed(host)}:{port}{_PATH}")
        server.socket_address = (host, port)
        server.limits.max_message_size = _MOST_MESSAGE_BYTES
        server.limits.max_chunk_count = _MOST_MESSAGE_BYTES // _CHUNK_BYTES + 1
        self._index = await server.register_namespace(NAMESPACE)
        self._folders[""] = await server.nodes.objects.add_object(
            self._ua.NodeId(ROOT, self._index), self._ua.QualifiedName(ROOT, self._index)
        )
        self._generator = await self._made_generator(server)
        try:
            await server.start()
        except OSError as error:
            raise self._taken(error) from error
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
            known = self._nodes.get(node)
            if known is not None:
                await self._server.write_attribute_value(known, self._told(node, value))

    async def tell(self, events: Iterable[OpcuaEvent]) -> None:
        """Fire these."""
        for event in events:
            told = self._generator.event
            told.SourceName, told.Rule, told.LinesideId = event.rule, event.rule, event.id
            told.Data, told.Severity = event.data, 500
            await self._generator.trigger(time_attr=event.at, message=event.message)

    def _check_free(self, address: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise self._taken(error) from error

    def _taken(self, error: OSError) -> UnavailableError:
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

    async def _made_generator(self, server: Any) -> Any:  # noqa: ANN401  of the library
        text = self._ua.VariantType.String
        properties = [("LinesideId", text), ("Rule", text), ("Data", text)]
        kind = await server.create_custom_event_type(self._index, EVENT_TYPE, properties=properties)
        return await server.get_event_generator(kind)

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

    def _told(self, node: OpcuaNode, value: OpcuaValue) -> Any:  # noqa: ANN401  of the library
        ua = self._ua
        status = ua.StatusCode(getattr(ua.StatusCodes, value.quality.value))
        said = None
        if value.value is not None:
            said = ua.Variant(value.value, getattr(ua.VariantType, node.kind.value))
        return ua.DataValue(said, status, SourceTimestamp=value.at)


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


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
