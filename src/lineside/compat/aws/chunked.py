"""Bodies in parts, as AWS' clients send them over TLS (``Content-Encoding: aws-chunked``).

Source: Amazon S3 API reference, "Signature calculations: unsigned payload trailer". A part is its
length in hexadecimal, a line end, its bytes, a line end; the last one is empty; checksums follow it
as lines. Checksums that are known are held against the bytes. Pure.
"""

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping

from lineside.core import InvalidError

UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""What ``x-amz-content-sha256`` may say instead of the body's hash."""
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_LINE = b"\r\n"
_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
}


def plain_body(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body itself, put together where it came in parts.

    Args:
        body: as it came.
        headers: names in lower case.

    Raises:
        InvalidError: parts that do not fit, that are signed one by one, or a checksum that is
            another.
    """
    if "aws-chunked" not in headers.get("content-encoding", "").lower():
        return body
    if headers.get("x-amz-content-sha256") not in UNSIGNED:
        raise _wrong(
            "the parts of the body are signed one by one",
            fix="Send it over TLS, or in one piece.",
        )
    data, trailer = _parts(body)
    _check(data, _lines(trailer))
    announced = headers.get("x-amz-decoded-content-length", str(len(data)))
    if announced != str(len(data)):
        raise _wrong(f"{len(data)} bytes came, and {announced[:20]} were announced")
    return data


def _parts(body: bytes) -> tuple[bytes, bytes]:
    """All parts in one, and what follows the last."""
    found: list[bytes] = []
    place = 0
    while True:
        end = body.find(_LINE, place)
        if end < 0 or not _SIZE.fullmatch(body, place, end):
            raise _wrong("a part without its length")
        size, begin = int(body[place:end], 16), end + len(_LINE)
        if size == 0:
            return b"".join(found), body[begin:]
        place = begin + size + len(_LINE)
        if body[begin + size : place] != _LINE:
            raise _wrong("a part that is shorter or longer than its length")
        found.append(body[begin : begin + size])


def _lines(trailer: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in trailer.split(_LINE) if line)
    return {
        name.decode("latin-1").strip().lower(): value.decode("latin-1").strip()
        for name, _, value in pairs
    }


def _check(data: bytes, announced: Mapping[str, str]) -> None:
    for name, sum_of in _CHECKSUMS.items():
        expected = base64.b64encode(sum_of(data)).decode()
        if not hmac.compare_digest(announced.get(name, expected).encode(), expected.encode()):
            raise _wrong(f"{name} belongs to other bytes")


def _wrong(message: str, *, fix: str = "Send it again.") -> InvalidError:
    return InvalidError(message, where="body", fix=fix)
