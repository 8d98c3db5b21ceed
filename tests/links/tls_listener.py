"""A port that speaks TLS and notes what a Kafka client says first; it answers nothing."""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

API_VERSIONS = 18
"""The request by which a client begins (Kafka protocol, ApiKey of ApiVersions)."""


@dataclass
class Told:
    """The heads of first requests ``(0, ApiKey, …)``, and the subjects of shown certificates."""

    address: str = ""
    requests: list[tuple[int, int]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)


@contextmanager
def tls_listener(files: tuple[str, str], *, trusted: str = "") -> Iterator[Told]:
    """One for the length of a ``with``.

    Args:
        files: certificate and key, PEM.
        trusted: file of the authorities of clients, who must show a certificate then.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    if trusted:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(trusted)
    told, stop = Told(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        told.address = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(
            target=_accept, args=(server, context), kwargs={"told": told, "stop": stop}
        )
        thread.start()
        try:
            yield told
        finally:
            stop.set()
            thread.join()


def _accept(
    server: socket.socket, context: ssl.SSLContext, *, told: Told, stop: threading.Event
) -> None:
    while not stop.is_set():
        # Nobody came, they did not agree, or they left before they said a word.
        with suppress(OSError, struct.error):
            plain, _ = server.accept()
            plain.settimeout(60)
            with plain, context.wrap_socket(plain, server_side=True) as peer:
                shown = peer.getpeercert() or {}
                size, kind = struct.unpack(">ih", peer.recv(6))
                told.peers.append(str(shown.get("subjectAltName", "")))
                told.requests.append((size >> 16, kind))
