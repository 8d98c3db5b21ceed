"""ONVIF cameras of the local network, found by WS-Discovery (April 2005, which ONVIF names).

1. A probe leaves each network interface by IPv4 multicast, twice. Cameras answer to one socket,
   which is closed when the wait is over; no thread is started.
2. An answer is a datagram that anybody may have sent. One that cannot be read, or not in time, is
   skipped; what is kept of the others is bounded and printable.
3. Messages are written and read by the library WSDiscovery. Its own search is not used: one answer
   can end its thread, and it leaves out loopback and link-local addresses (ADR 50).
"""

import logging
import socket
import struct
from ipaddress import IPv4Address
from urllib.parse import unquote
from xml.parsers import expat

from lineside.core import Clock, InvalidError, UnavailableError, need

_GROUP = ("239.255.255.250", 3702)
_ANY = bytes(4)
_TYPES = (
    ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter", "dn"),
    ("http://www.onvif.org/ver10/device/wsdl", "Device", "tds"),
)
_SCOPE = "onvif://www.onvif.org/"
_DATAGRAM_BYTES = 65_535
_DEEPEST = 10  # an answer needs 6
_MOST_CAMERAS = 1000
_MOST_SERVICES = 8
_MOST_CHARACTERS = 200

OnvifCamera = tuple[str, str, str, tuple[str, ...]]


def find_onvif_cameras(*, clock: Clock, wait_s: float = 3.0) -> list[OnvifCamera]:
    """IP address, name, hardware and service addresses (XAddrs) of each camera, by IP address.

    The IP address is the one that answered. Name and hardware are empty where the camera gives
    none. A camera answers within 0.5 s; the second probe leaves after a third of the wait.

    Args:
        clock: measures the wait.
        wait_s: how long answers are awaited, in seconds.

    Raises:
        MissingExtraError: the library is not installed.
        UnavailableError: no network interface sends multicast.
    """
    need("wsdiscovery", extra="onvif")
    from wsdiscovery import QName
    from wsdiscovery.actions import constructProbe
    from wsdiscovery.message import createSOAPMessage

    logging.getLogger("wsdiscovery.message").setLevel(logging.CRITICAL)  # answers it cannot read
    probes = [createSOAPMessage(constructProbe([QName(*one)], None)).encode() for one in _TYPES]
    found: dict[str, OnvifCamera] = {}
    begun_s = clock.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for part in (1 / 3, 1):
            _send(sock, probes)
            while (left_s := begun_s + part * wait_s - clock.monotonic()) > 0:
                sock.settimeout(left_s)
                try:
                    data, (address, _) = sock.recvfrom(_DATAGRAM_BYTES)
                except TimeoutError:
                    break
                for key, camera in _cameras(data, address=address):
                    if len(found) < _MOST_CAMERAS:
                        found.setdefault(key, camera)
    return sorted(found.values(), key=lambda camera: IPv4Address(camera[0]))


def _send(sock: socket.socket, probes: list[bytes]) -> None:
    is_sent = False
    for index, _ in socket.if_nameindex():
        try:
            sock.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", _ANY, _ANY, index)
            )
            for probe in probes:
                sock.sendto(probe, _GROUP)
            is_sent = True
        except OSError:  # it is down, or has no multicast
            continue
    if not is_sent:
        raise UnavailableError(
            "no network interface sends multicast", fix="Look by `ip address` whether one is up."
        )


def _cameras(data: bytes, *, address: str) -> list[tuple[str, OnvifCamera]]:
    """Key (endpoint reference) and description of each camera that an answer names."""
    from wsdiscovery.message import parseSOAPMessage

    try:
        _check_form(data)
        message = parseSOAPMessage(data, address)
    except Exception:  # noqa: BLE001  boundary: the library raises whatever hostile XML leads to
        return []
    wanted = {kind[:2] for kind in _TYPES}
    found = []
    for match in message.getProbeResolveMatches() if message else ():
        if not wanted & {(kind.getNamespace(), kind.getLocalname()) for kind in match.getTypes()}:
            continue
        scopes: dict[str, str] = {}
        for scope in match.getScopes():
            kind, _, value = scope.getValue().removeprefix(_SCOPE).partition("/")
            scopes.setdefault(kind, _printable(unquote(value)))
        services = [
            one for one in match.getXAddrs() if one.startswith("http") and _printable(one) == one
        ]
        camera = (
            address, scopes.get("name", ""), scopes.get("hardware", ""),
            tuple(services[:_MOST_SERVICES]),
        )  # fmt: skip
        found.append((match.getEPR(), camera))
    return found


def _check_form(data: bytes) -> None:
    """Refuse XML that the library could read for minutes.

    Raises:
        ExpatError: it is no XML.
        InvalidError: it has a document type, which SOAP 1.2 (part 1, 5) forbids, or is nested
            deeper than any answer.
    """
    depth = 0

    def start(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            refuse()

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> None:
        raise InvalidError("no answer of WS-Discovery")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(data, True)  # noqa: FBT003  the parser's way to say that this is all


def _printable(text: str) -> str:
    """One line without control characters, which a terminal would obey."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(shown.split())[:_MOST_CHARACTERS]
