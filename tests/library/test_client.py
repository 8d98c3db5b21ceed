"""Failures of the hub, and of what stands before it, as the six errors."""

from contextlib import closing

import pytest

from lineside.core import InvalidError, LinesideError, RefusedError, UnavailableError
from lineside.library.client import HubClient
from tests.edge.conftest import PackageServer


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (400, b"[]", InvalidError, "Bad Request"),
        (403, b'"no"', RefusedError, "Forbidden"),
        (429, b"null", UnavailableError, "Too Many Requests.*Try again in 7 s"),
        (429, b'{"detail":"full","fix":"Wait."}', UnavailableError, "full.*fix: Wait"),
        (502, b"<html>", UnavailableError, "Bad Gateway"),
    ],
)
def test_a_refusal_is_one_of_the_six_errors_whatever_its_body(
    status: int, body: bytes, kind: type[LinesideError], says: str
) -> None:
    with closing(PackageServer()) as server:
        server.answers["/api/v1/runs"] = (status, body, {"Retry-After": "7"})
        with pytest.raises(kind, match=says):
            HubClient(server.url, token="").get("/runs")
