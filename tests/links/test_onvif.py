"""ONVIF cameras: WSDiscovery's publishing side in a second process, over real multicast.

The loopback interface is enough. Other tests and real cameras may answer too, so each test looks
for a name of its own.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from wsdiscovery import QName, Scope
from wsdiscovery.actions import constructProbeMatch
from wsdiscovery.message import createSOAPMessage, parseSOAPMessage
from wsdiscovery.service import Service

from lineside.cli.app import app
from lineside.cli.plant import _camera_table
from lineside.core import SystemClock, UnavailableError
from lineside.links import camera_aravis as aravis
from lineside.links import onvif
from lineside.links.onvif import OnvifCamera, _cameras, find_onvif_cameras
from lineside.testing.links import LONG_S

WAIT_S = 1.5  # the publishing side answers within 0.5 s, then once more
TRANSMITTER = ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter", "dn")
DEVICE = ("http://www.onvif.org/ver10/device/wsdl", "Device", "tds")
PRINTER = ("http://schemas.microsoft.com/windows/2006/08/wdp/print", "PrintDeviceType", "pnpx")
SERVICE = "http://10.0.0.7/onvif/device_service"
CAMERA = """
import ipaddress, json, sys
from wsdiscovery import QName, Scope
from wsdiscovery.publishing import ThreadedWSPublishing
types, scopes, services = json.loads(sys.argv[1])
camera = ThreadedWSPublishing()
camera.start()
camera.addSourceAddr(ipaddress.ip_address("127.0.0.1"))
camera.publishService([QName(*one) for one in types], [Scope(one) for one in scopes], services)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def publishing(*types: tuple[str, str, str], scopes: list[str]) -> Iterator[None]:
    """A camera in a process of its own: its thread for IPv6 ends with an error when it answers."""
    described = json.dumps([types, scopes, [SERVICE]])
    with subprocess.Popen(
        [sys.executable, "-c", CAMERA, described], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


@contextmanager
def answering(answers: Callable[[str], list[bytes]]) -> Iterator[None]:
    """A socket that answers each probe with the datagrams made for its message id."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", 3702))
        group, loopback = socket.inet_aton("239.255.255.250"), socket.if_nametoindex("lo")
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
            struct.pack("@4s4si", group, bytes(4), loopback),
        )  # fmt: skip
        sock.settimeout(0.1)
        ended = threading.Event()

        def answer() -> None:
            while not ended.is_set():
                try:
                    probe, sender = sock.recvfrom(65_535)
                except TimeoutError:
                    continue
                for datagram in answers(parseSOAPMessage(probe, sender[0]).getMessageId()):
                    sock.sendto(datagram, sender)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(LONG_S)


def answer_of(
    *scopes: str, kind: tuple[str, str, str] = TRANSMITTER, services: tuple[str, ...] = (SERVICE,),
    key: str = "urn:uuid:1", relates_to: str = "urn:uuid:2",
) -> bytes:  # fmt: skip
    described = Service([QName(*kind)], [Scope(one) for one in scopes], services, key, 0)
    message: str = createSOAPMessage(constructProbeMatch([described], relates_to))
    return message.encode()


def named(name: str, found: list[OnvifCamera]) -> list[OnvifCamera]:
    return [camera for camera in found if camera[1] == name]


# The cameras of the first search that finds what is awaited: a busy machine answers a later one.
def search(
    wait_s: float = WAIT_S, *, until: Callable[[list[OnvifCamera]], object] = lambda _: True
) -> list[OnvifCamera]:
    return next(
        (
            found
            for _ in range(int(LONG_S / wait_s))
            if until(found := find_onvif_cameras(clock=SystemClock(), wait_s=wait_s))
        ),
        [],
    )


@pytest.mark.parametrize("types", [(TRANSMITTER, DEVICE), (TRANSMITTER,), (DEVICE,)])
def test_a_camera_is_found_once(types: tuple[tuple[str, str, str], ...]) -> None:
    name = f"Tür 4/{uuid4()}"
    scopes = [
        "onvif://www.onvif.org/Profile/Streaming",
        f"onvif://www.onvif.org/name/{name.replace('ü', '%C3%BC').replace('/', '%2F')}",
        "onvif://www.onvif.org/hardware/M3045-V",
    ]
    with publishing(*types, scopes=scopes):
        ((address, _, hardware, services),) = named(
            name, search(until=lambda one: named(name, one))
        )
    assert hardware == "M3045-V"
    assert services == (SERVICE,)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))  # one of this machine, on which the camera runs


@pytest.mark.timeout(LONG_S)  # the library alone takes minutes
def test_hostile_answers_are_skipped() -> None:
    name = str(uuid4())
    scope = f"onvif://www.onvif.org/name/{name}"
    whole = answer_of(scope, key="urn:uuid:hostile")
    bomb = b"<!DOCTYPE a [<!ENTITY b '%s'>%s]><a>&c9;</a>" % (
        b"x" * 1000,
        b"".join(b"<!ENTITY c%d '%s'>" % (n, b"&c%d;" % (n - 1) * 10 if n else b"&b;")
                 for n in range(10)),
    )  # fmt: skip
    # Types in nested matches: the library looks for the namespace of each, from each, upwards.
    kinds, match, close = b"<d:Types>", b"<d:ProbeMatch>", b"</d:ProbeMatch>"
    nested = whole.replace(match, match * 200).replace(close, close * 200)
    garbage = [
        b"", b"\xff" * 1000, whole[: len(whole) // 2], bomb, b"<a>" * 15_000,
        b"<a>" * 9_000 + b"</a>" * 9_000, whole.replace(b"ProbeMatches</a:Action>", b"</a:Action>"),
        whole.replace(b"urn:uuid:2", b""), whole.replace(b"urn:uuid:hostile", b""),
        whole.replace(b"dn:Network", b"no:Network"), nested.replace(kinds, kinds + b"a:b " * 9_000),
    ]  # fmt: skip

    def answers(message_id: str) -> list[bytes]:
        odd = answer_of(
            scope + "%1B%5B2J%0Aend%E2%80%AE", services=("http://IP/x", "file:///etc", "\x85"),
            key=f"urn:{name}", relates_to=message_id,
        )  # fmt: skip
        odd = odd.replace(b"InstanceId=", b'InstanceId="x" Was=').replace(b"IP", b"{ip}")
        printer = answer_of(scope, kind=PRINTER, key="urn:uuid:printer", relates_to=message_id)
        return [*garbage, printer, odd]

    with answering(answers):
        found = search(0.6, until=lambda found: any(name in one[1] for one in found))
    ((_, *rest),) = [camera for camera in found if name in camera[1]]
    assert rest == [f"{name} [2J end", "", ("http://{ip}/x",)]


def test_cameras_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onvif, "_MOST_CAMERAS", 5)

    def answers(message_id: str) -> list[bytes]:
        return [answer_of(key=f"urn:{number}", relates_to=message_id) for number in range(30)]

    with answering(answers):
        assert len(search(0.3, until=lambda found: len(found) >= 5)) == 5


def test_a_search_leaves_no_file_open_and_ends_in_time() -> None:
    search(0.1)
    before = len([*Path("/proc/self/fd").iterdir()])
    begun_s = SystemClock().monotonic()
    search(0.3)
    assert SystemClock().monotonic() - begun_s >= 0.3
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_without_a_network_interface_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(2**31 - 1, "gone0")])
    with pytest.raises(UnavailableError, match="no network interface sends multicast"):
        search()


@given(
    at=st.integers(0, 2000), put=st.binary(max_size=20), cut=st.integers(0, 40),
    name=st.text(max_size=20),
)  # fmt: skip
def test_a_changed_answer_gives_printable_text_or_nothing(
    at: int, put: bytes, cut: int, name: str
) -> None:
    whole = answer_of(f"onvif://www.onvif.org/name/{name.encode(errors='ignore').hex('%')}")
    for _, camera in _cameras(whole[:at] + put + whole[at + cut :], address="10.0.0.7"):
        assert all(text.isprintable() for text in (*camera[:3], *camera[3]))


@pytest.fixture
def no_aravis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(aravis, "_LIBRARY", "libaravis-none.so.0")
    aravis._library.cache_clear()
    yield
    aravis._library.cache_clear()


MISSING = (
    "GigE Vision and USB3 Vision cameras were not searched for:"
    " libaravis-none.so.0 is not installed. apt install libaravis-0.8-0\n"
)


@pytest.mark.usefixtures("no_aravis")
def test_the_command_lists_them_also_without_aravis() -> None:
    name = str(uuid4())
    scopes = [f"onvif://www.onvif.org/{kind}" for kind in (f"name/{name}", "hardware/M3045")]
    with publishing(TRANSMITTER, scopes=scopes):
        done = CliRunner().invoke(app, ["camera", "list", "--json"])
    assert done.exit_code == 0
    assert done.stderr == MISSING
    (row,) = (one for one in json.loads(done.stdout) if name in one["name"])
    address = row["address"]
    assert row == {
        "source": f"rtsp://USER:PASSWORD@{address}/PATH", "address": address,
        "protocol": "ONVIF", "name": f"{name} M3045", "services": [SERVICE],
    }  # fmt: skip
    head, shown, sentence = _camera_table([row]).splitlines()
    assert head.split() == ["source", "address", "protocol", "name"]
    assert shown == f"{row['source']}  {address}  ONVIF     {name} M3045"
    assert "only after a login" in sentence


@pytest.mark.usefixtures("no_aravis")
def test_the_command_fails_where_nothing_can_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsdiscovery", None)
    done = CliRunner().invoke(app, ["camera", "list"])
    assert getattr(done.exception, "exit_code", 0) == 7
    assert done.stdout == ""
    assert done.stderr.startswith(MISSING + "ONVIF cameras were not searched for: wsdiscovery is")
