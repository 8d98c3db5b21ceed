"""The OPC UA server against asyncua's own client: values, times, events, who may what."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography import x509

from lineside.core import InvalidError, SystemClock, UnavailableError
from lineside.fleet import CertificateAuthority
from lineside.links.opcua import (
    FASTEST_MS,
    MOST_QUEUED,
    MOST_SUBSCRIPTIONS,
    NAMESPACE,
    SLOWEST_MS,
    Kind,
    OpcuaEvent,
    OpcuaNode,
    OpcuaServer,
    OpcuaSettings,
    OpcuaValue,
    Quality,
    opcua_address,
)
from lineside.testing.links import LONG_S
from tests.links.conftest import free_port
from tests.links.opcua_client import Heard, asked, node_of, until, value_of

AT = datetime(2024, 5, 1, 12, 0, 0, 250000, tzinfo=UTC)
SEEN = OpcuaNode(path="Twin/Slots/A1/Seen", kind=Kind.TEXT)
COUNT = OpcuaNode(path="Counters/frames", kind=Kind.INTEGER)
SHARE = OpcuaNode(path="Inspections/a/Labels/blue/Probability", kind=Kind.DOUBLE)
ACTIVE = OpcuaNode(path="Twin/Stations/hbw/Active", kind=Kind.BOOLEAN)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, OpcuaServer]]:
    """One that anybody may read."""
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    settings = OpcuaSettings(url=url, application="urn:lineside:hall:hub", anonymous=True)
    made = OpcuaServer(settings, sign_in=lambda *_: False)
    made.start()
    yield url + "/lineside", made
    made.close()


@pytest.mark.parametrize(
    ("node", "value", "kind"),
    [
        (SEEN, "present", ua.ObjectIds.String),
        (COUNT, 7, ua.ObjectIds.Int64),
        (SHARE, 0.25, ua.ObjectIds.Double),
        (ACTIVE, True, ua.ObjectIds.Boolean),
    ],
)
def test_a_value_has_its_type_its_capture_time_and_its_quality(
    server: tuple[str, OpcuaServer],
    node: OpcuaNode,
    value: object,
    kind: int,
) -> None:
    url, said = server
    said.set({node: OpcuaValue(value=value, at=AT)})  # type: ignore[arg-type]  # of the table

    async def look(client: Client) -> tuple[Any, Any]:
        found = await value_of(client, node, until=lambda one: one.Value.Value == value)
        return found, await (await node_of(client, node.path)).read_data_type()

    found, data_type = asked(url, look)
    assert found.StatusCode.is_good()
    assert found.SourceTimestamp == AT
    assert data_type.Identifier == kind


@pytest.mark.parametrize(
    ("quality", "code"),
    [
        (Quality.UNSURE, ua.StatusCodes.Uncertain),
        (Quality.STALE, ua.StatusCodes.UncertainLastUsableValue),
        (Quality.WAITING, ua.StatusCodes.BadWaitingForInitialData),
    ],
)
def test_what_may_not_be_relied_on_says_so(
    server: tuple[str, OpcuaServer], quality: Quality, code: int
) -> None:
    url, said = server
    text = None if quality is Quality.WAITING else "unsure"
    at = None if quality is Quality.WAITING else AT
    said.set({SEEN: OpcuaValue(value=text, at=at, quality=quality)})
    found = asked(url, partial(value_of, node=SEEN, until=lambda one: one.StatusCode.value == code))
    assert found.Value.Value == text


def test_a_subscriber_hears_each_change(server: tuple[str, OpcuaServer]) -> None:
    url, said = server
    said.set({COUNT: OpcuaValue(value=0, at=AT)})

    async def follow(client: Client) -> list[Any]:
        await value_of(client, COUNT, until=lambda one: one.Value.Value == 0)
        heard = Heard()
        subscription = await client.create_subscription(20, heard)
        await subscription.subscribe_data_change(await node_of(client, COUNT.path))
        await until(lambda: heard.values)
        for number in (1, 2):
            said.set({COUNT: OpcuaValue(value=number, at=AT)})
            await until(lambda: number in heard.values)  # noqa: B023  waited for here
        return heard.values

    assert asked(url, follow) == [0, 1, 2]


def test_events_come_with_their_id_time_and_figures(server: tuple[str, OpcuaServer]) -> None:
    url, said = server

    async def follow(client: Client) -> list[Any]:
        index = await client.get_namespace_index(NAMESPACE)
        kind = await client.nodes.base_event_type.get_child(f"{index}:LinesideEventType")
        heard = Heard()
        subscription = await client.create_subscription(20, heard)
        await subscription.subscribe_events(evtypes=kind, queuesize=1)
        said.tell(
            OpcuaEvent(
                type="LinesideEventType", source="pair", at=AT, message="pair final",
                fields={"LinesideId": f"evt_{n}", "Rule": "pair", "Data": "{}"},
            )
            for n in range(3)
        )  # fmt: skip
        await until(lambda: len(heard.events) == 3)
        return heard.events

    events = asked(url, follow)
    assert [event.LinesideId for event in events] == ["evt_0", "evt_1", "evt_2"]
    assert {(event.Rule, event.SourceName, event.Data) for event in events} == {
        ("pair", "pair", "{}")
    }
    assert {event.Time for event in events} == {AT}


def test_nobody_writes_adds_or_calls(server: tuple[str, OpcuaServer]) -> None:
    url, said = server
    said.set({COUNT: OpcuaValue(value=3, at=AT)})

    async def attack(client: Client) -> list[str]:
        await value_of(client, COUNT, until=lambda one: one.Value.Value == 3)
        node, names = await node_of(client, COUNT.path), []
        index = await client.get_namespace_index(NAMESPACE)
        acts: list[Awaitable[Any]] = [
            node.write_value(9, ua.VariantType.Int64),
            client.nodes.objects.add_object(index, "mine"),
            client.delete_nodes([node]),
            client.nodes.server.call_method("0:GetMonitoredItems", 1),
        ]
        for act in acts:
            try:
                await act
            except ua.UaError as error:
                names.append(type(error).__name__)
        return names

    assert asked(url, attack) == ["BadUserAccessDenied"] * 4
    assert asked(url, partial(value_of, node=COUNT, until=bool)).Value.Value == 3


def test_noise_on_the_port_harms_nobody(server: tuple[str, OpcuaServer]) -> None:
    url, said = server
    host, port = opcua_address(url.removesuffix("/lineside"))

    async def noise() -> None:
        for raw in (b"", b"\x00" * 64, b"HELF\xff\xff\xff\xff" + b"x" * 100, b"GET / HTTP/1.1\r\n"):
            _, writer = await asyncio.open_connection(host, port)
            writer.write(raw)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    asyncio.run(noise())
    said.set({COUNT: OpcuaValue(value=11, at=AT)})
    found = asked(url, partial(value_of, node=COUNT, until=lambda one: one.Value.Value == 11))
    assert found.StatusCode.is_good()


def test_a_path_that_is_taken_takes_no_other_value_with_it(
    server: tuple[str, OpcuaServer], caplog: pytest.LogCaptureFixture
) -> None:
    url, said = server
    taken = [OpcuaNode(path=path, kind=Kind.TEXT) for path in ("Odd", "Odd/Below", "Odd/Below/A")]
    values = {node: OpcuaValue(value="x", at=AT) for node in (*taken, SEEN)}
    said.set(dict(reversed(values.items())))
    said.set(values | {SEEN: OpcuaValue(value="after", at=AT)})
    found = asked(url, partial(value_of, node=SEEN, until=lambda one: one.Value.Value == "after"))
    assert found.StatusCode.is_good()
    assert "has no place path=Odd" in caplog.text


def test_a_name_may_be_anything(server: tuple[str, OpcuaServer]) -> None:
    url, said = server
    nodes = [
        OpcuaNode(path=f"Inspections/odd/Labels/{name}/Decision", kind=Kind.TEXT)
        for name in ("", " ", "ns=1;i=2", "a:b", "ä\u4e2d\U0001f600", "x" * 4000, "/", "<&>.#!")
    ]
    said.set({node: OpcuaValue(value="present", at=AT) for node in nodes})
    for node in nodes:
        asked(url, partial(value_of, node=node, until=lambda one: one.Value.Value == "present"))


def test_what_a_client_may_ask_for_is_bounded(server: tuple[str, OpcuaServer]) -> None:
    url, said = server
    said.set({COUNT: OpcuaValue(value=3, at=AT)})

    async def attack(client: Client) -> tuple[list[float], str, int]:
        node = await node_of(client, COUNT.path)
        await value_of(client, COUNT, until=lambda one: one.Value.Value == 3)
        first = await client.create_subscription(100, Heard())
        handle = await first.subscribe_data_change(node, queuesize=0)
        (changed,) = await first.modify_monitored_item(handle, ua.Double(0), 10**6)
        intervals, refused = list[float](), ""
        try:
            for place in range(MOST_SUBSCRIPTIONS):
                asked_ms = (0.0, 0.001, -5.0, float("nan"), float("inf"))[place % 5]
                wanted = ua.CreateSubscriptionParameters(
                    RequestedPublishingInterval=asked_ms, RequestedLifetimeCount=100,
                    RequestedMaxKeepAliveCount=10, PublishingEnabled=False,
                )  # fmt: skip
                made = await client.uaclient.create_subscription(wanted, callback=print)
                intervals.append(made.RevisedPublishingInterval)
        except ua.UaError as error:
            refused = type(error).__name__
        return intervals, refused, changed.RevisedQueueSize

    intervals, refused, queued = asked(url, attack)
    assert len(intervals) == MOST_SUBSCRIPTIONS - 1
    assert set(intervals) == {FASTEST_MS, SLOWEST_MS}
    assert refused == "BadTooManySubscriptions"
    assert queued == MOST_QUEUED


def test_watched_items_are_bounded_and_end_with_their_client(
    server: tuple[str, OpcuaServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, said = server
    monkeypatch.setattr("lineside.links.opcua.MOST_ITEMS", 50)
    said.set({COUNT: OpcuaValue(value=3, at=AT)})

    async def attack(client: Client) -> str:
        await value_of(client, COUNT, until=lambda one: one.Value.Value == 3)
        node = await node_of(client, COUNT.path)
        subscription = await client.create_subscription(1000, Heard())
        try:
            for _ in range(10):
                await subscription.subscribe_data_change([node] * 10)
        except ua.UaError as error:
            return type(error).__name__
        return ""

    assert asked(url, attack) == "BadTooManyMonitoredItems"
    assert asked(url, attack) == "BadTooManyMonitoredItems"


# ---- with a certificate of the site


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("opcua")


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[str]:
    """One that asks for name and password, and encrypts."""
    authority = CertificateAuthority.create(folder / "authority", site="hall", clock=SystemClock())
    pair = authority.issue_application("urn:lineside:hall:hub", hosts=["127.0.0.1"])
    (folder / "server.crt").write_bytes(pair.certificate)
    (folder / "server.key").write_bytes(pair.key)
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    settings = OpcuaSettings(
        url=url, application="urn:lineside:hall:hub", certificate=folder / "server.crt",
        key=folder / "server.key",
    )  # fmt: skip
    made = OpcuaServer(settings, sign_in=lambda name, word: (name, word) == ("anna", "right"))
    made.start()
    made.set({COUNT: OpcuaValue(value=5, at=AT)})
    yield url + "/lineside"
    made.close()


def client_pair(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "client.crt.pem", folder / "client.key.pem"
    authority = CertificateAuthority.open(folder / "authority", clock=SystemClock())
    pair = authority.issue_application("urn:test:client", hosts=["localhost"])
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return certificate, key


@asynccontextmanager
async def signed_in(url: str, folder: Path, *, word: str) -> AsyncIterator[Client]:
    client = Client(url, timeout=LONG_S)
    client.application_uri = "urn:test:client"
    certificate, key = client_pair(folder)
    await client.set_security(
        SecurityPolicyBasic256Sha256, certificate=certificate, private_key=key,
        mode=ua.MessageSecurityMode.SignAndEncrypt,
    )  # fmt: skip
    client.set_user("anna")
    client.set_password(word)
    async with client:
        yield client


def test_name_and_password_open_an_encrypted_channel(secure: str, folder: Path) -> None:
    async def read() -> Any:  # noqa: ANN401
        async with signed_in(secure, folder, word="right") as client:
            return await value_of(client, COUNT, until=lambda one: one.Value.Value == 5)

    assert asyncio.run(read()).StatusCode.is_good()


def test_a_wrong_password_is_refused(secure: str, folder: Path) -> None:
    async def read() -> None:
        async with signed_in(secure, folder, word="wrong"):
            pytest.fail("let in")

    with pytest.raises(ua.UaError):
        asyncio.run(read())


def test_without_encryption_nobody_comes_in(secure: str) -> None:
    async def read(client: Client) -> None:
        await client.nodes.objects.get_children()
        pytest.fail("let in")

    with pytest.raises((ua.UaError, ConnectionError, TimeoutError)):
        asked(secure, read)


def test_only_the_encrypted_endpoint_is_offered_with_the_sites_certificate(
    secure: str, folder: Path
) -> None:
    endpoints = asyncio.run(Client(secure, timeout=LONG_S).connect_and_get_server_endpoints())
    assert {one.SecurityMode for one in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
    tokens = {token.TokenType for one in endpoints for token in one.UserIdentityTokens}
    assert tokens == {ua.UserTokenType.UserName}
    shown = x509.load_der_x509_certificate(endpoints[0].ServerCertificate)
    root = x509.load_pem_x509_certificate((folder / "authority" / "authority.crt").read_bytes())
    shown.verify_directly_issued_by(root)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [endpoints[0].Server.ApplicationUri] == ["urn:lineside:hall:hub"]


# ---- starting


def test_a_taken_port_and_a_bad_certificate_are_told_apart(
    server: tuple[str, OpcuaServer], tmp_path: Path
) -> None:
    url = server[0].removesuffix("/lineside")
    taken = OpcuaSettings(url=url, application="urn:a", anonymous=True)
    with pytest.raises(UnavailableError, match="cannot listen"):
        OpcuaServer(taken, sign_in=lambda *_: False).start()
    bad = tmp_path / "bad"
    bad.write_text("no certificate")
    settings = OpcuaSettings(
        url=f"opc.tcp://127.0.0.1:{free_port()}", application="urn:a", certificate=bad, key=bad
    )
    with pytest.raises(InvalidError, match="no certificate with its key"):
        OpcuaServer(settings, sign_in=lambda *_: False).start()


@pytest.mark.parametrize(
    "url", ["", "opc.tcp://", "opc.tcp://host", "http://host:1", "opc.tcp://[::1", "opc.tcp://h:x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="no address of OPC UA"):
        opcua_address(url)
