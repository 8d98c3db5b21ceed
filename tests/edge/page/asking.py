"""A plain HTTP client: no cookies, no redirects, nothing added but what is said."""

import http.client
import json
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lineside.testing.links import LONG_S


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  any JSON
        return json.loads(self.body)


def ask(
    url: str,
    path: str = "/",
    *,
    method: str = "GET",
    body: bytes | str | None = None,
    **headers: str,
) -> Answer:
    """One request on a connection of its own; ``_`` of a header's name stands for a dash."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=LONG_S)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=named)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(status=answer.status, headers=told, body=answer.read())
    finally:
        connection.close()


def parts_of(body: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """What ``/api/live`` answers, taken apart as the documentation says."""
    found, at = [], 0
    while at < len(body):
        head, size = struct.unpack_from(">II", body, at)
        header = json.loads(body[at + 8 : at + 8 + head])
        found.append((header, body[at + 8 + head : at + 8 + head + size]))
        at += 8 + head + size
    assert at == len(body)
    return found
