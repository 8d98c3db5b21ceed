"""Bodies in parts: put together, and refused where parts or checksums do not fit."""

import base64
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.compat.aws.sigv4 import plain_body
from lineside.core import InvalidError

PARTS = {
    "content-encoding": "aws-chunked",
    "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
}


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def in_parts(data: bytes, *, sizes: list[int]) -> bytes:
    parts, place = b"", 0
    for size in sizes:
        part = data[place : place + size]
        place += len(part)
        parts += b"%x\r\n%b\r\n" % (len(part), part) if part else b""
    rest = data[place:]
    parts += b"%X\r\n%b\r\n" % (len(rest), rest) if rest else b""
    return parts + f"0\r\nx-amz-checksum-crc32:{crc32(data)}\r\n\r\n".encode()


@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(1, 100), max_size=8))
def test_however_it_is_cut_it_is_the_same(data: bytes, sizes: list[int]) -> None:
    headers = {**PARTS, "x-amz-decoded-content-length": str(len(data))}
    assert plain_body(in_parts(data, sizes=sizes), headers) == data


@given(body=st.binary(max_size=60))
def test_what_comes_in_one_piece_stays_as_it_is(body: bytes) -> None:
    assert plain_body(body, {}) == body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "without its length"),
        (b"7", "without its length"),
        (b"\r\n", "without its length"),
        (b"-1\r\n", "without its length"),
        (b"0x1\r\na\r\n0\r\n\r\n", "without its length"),
        (b"fffffffff\r\na\r\n", "without its length"),
        (b"ffffffff\r\na\r\n", "shorter or longer"),
        (b"1\r\nab\r\n0\r\n\r\n", "shorter or longer"),
        (b"2\r\nab", "shorter or longer"),
        (b"2\r\nab\r\n", "without its length"),
        (b"2;chunk-signature=ab\r\nab\r\n0\r\n\r\n", "without its length"),
        (b"1\r\na\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "crc32 belongs to other"),
        (b"1\r\na\r\n0\r\nX-Amz-Checksum-SHA256: \xff\r\n\r\n", "sha256 belongs to other"),
        (b"1\r\na\r\n0\r\nx-amz-checksum-sha1:no\r\n\r\n", "sha1 belongs to other"),
    ],
)
def test_what_does_not_fit_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        plain_body(body, PARTS)


def test_the_length_that_was_announced_is_held_against_it() -> None:
    with pytest.raises(InvalidError, match="1 bytes came, and 2 were announced"):
        plain_body(b"1\r\na\r\n0\r\n\r\n", {**PARTS, "x-amz-decoded-content-length": "2"})


def test_parts_that_are_signed_one_by_one_are_refused_with_what_to_do() -> None:
    headers = {**PARTS, "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    with pytest.raises(InvalidError, match="one by one") as refused:
        plain_body(b"1;chunk-signature=ab\r\na\r\n0\r\n\r\n", headers)
    assert "TLS" in refused.value.fix


@given(body=st.binary(max_size=80))
def test_whatever_comes_is_refused_or_read(body: bytes) -> None:
    with suppress(InvalidError):
        assert len(plain_body(body, PARTS)) < len(body)
