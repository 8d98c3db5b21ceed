"""The hub's update repository as the device reads it over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.edge import HubClient
from lineside.edge.deploy.jobs import pause_s
from lineside.edge.hub_client import BusyError
from lineside.fleet import Part
from tests.edge.conftest import PackageServer

PATH = "targets/packages/tiles/1/x.lspkg"


@contextmanager
def opened(server: PackageServer, *, start_byte: int = 0, token: str = "") -> Iterator[Part]:
    with HubClient(server.url, token=lambda: token).open(PATH, start_byte=start_byte) as part:
        yield part


def test_a_file_comes_whole_and_the_token_goes_along(packages: PackageServer) -> None:
    packages.answers[f"/tuf/{PATH}"] = (200, b"x" * 200_000, {})
    with opened(packages, token="secret") as part:  # noqa: S106  a test's
        assert (part.start_byte, b"".join(part.chunks)) == (0, b"x" * 200_000)
    assert packages.requests == [(f"/tuf/{PATH}", "Bearer secret")]


@pytest.mark.parametrize(
    ("status", "headers", "start"),
    [
        (206, {"Content-Range": "bytes 4-9/10"}, 4),
        (206, {"Content-Range": "bytes */10"}, 0),
        (206, {}, 0),
        (200, {"Content-Range": "bytes 4-9/10"}, 0),
        (200, {}, 0),
    ],
)
def test_where_an_answer_begins_is_what_it_says(
    status: int, headers: dict[str, str], start: int, packages: PackageServer
) -> None:
    packages.answers[f"/tuf/{PATH}"] = (status, b"456789", headers)
    with opened(packages, start_byte=4) as part:
        assert part.start_byte == start


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFoundError), (401, RefusedError), (403, RefusedError), (500, UnavailableError),
        (503, UnavailableError), (302, UnavailableError), (400, UnavailableError),
    ],
)  # fmt: skip
def test_refusals_are_told_apart(
    status: int, error: type[Exception], packages: PackageServer
) -> None:
    packages.answers[f"/tuf/{PATH}"] = (status, b"", {"Location": "http://elsewhere.test/"})
    with pytest.raises(error), opened(packages):
        pass


def test_a_hub_that_has_no_more_than_was_kept_gives_nothing(packages: PackageServer) -> None:
    packages.answers[f"/tuf/{PATH}"] = (416, b"", {})
    with opened(packages, start_byte=9) as part:
        assert (part.start_byte, list(part.chunks)) == (9, [])


def test_a_part_is_asked_for_by_its_last_byte(packages: PackageServer) -> None:
    packages.answers[f"/tuf/{PATH}"] = (206, b"45", {"Content-Range": "bytes 4-5/10"})
    source = HubClient(packages.url, token=str)
    with source.open(PATH, start_byte=4, end_byte=6) as part:
        assert (part.start_byte, b"".join(part.chunks)) == (4, b"45")
    assert packages.ranges == ["bytes=4-5"]


@pytest.mark.parametrize(
    ("status", "asked", "after_s"),
    [(503, "7", 7.0), (429, "0", 0.0), (503, "99999999", 3600.0), (503, "9" * 300, None),
     (503, "Wed, 21 Oct 2026 07:28:00 GMT", None), (503, "-1", None), (500, "7", None)],
)  # fmt: skip
def test_a_busy_hub_says_when_to_come_again(
    status: int, asked: str, after_s: float | None, packages: PackageServer
) -> None:
    packages.answers[f"/tuf/{PATH}"] = (status, b"", {"Retry-After": asked})
    with pytest.raises(UnavailableError) as told, opened(packages):
        pass
    assert getattr(told.value, "after_s", None) == after_s


def test_devices_that_wait_do_not_come_back_together() -> None:
    busy, away = BusyError("busy", after_s=5.0), UnavailableError("away")
    pauses = {pause_s(busy, attempt=3) for _ in range(100)}
    assert len(pauses) > 10
    assert all(5.0 <= one < 10.0 for one in pauses)
    for attempt, most in ((0, 1.0), (3, 8.0), (50, 60.0)):
        assert all(most / 2 <= pause_s(away, attempt=attempt) <= most for _ in range(20))


def test_a_connection_that_breaks_off_is_tried_again_later(packages: PackageServer) -> None:
    packages.answers[f"/tuf/{PATH}"] = (200, b"half", {"Content-Length": "8"})
    with opened(packages) as part, pytest.raises(UnavailableError, match="does not answer"):
        list(part.chunks)
    with pytest.raises(InvalidError, match="no hub is configured"):
        HubClient("", token=str).open(PATH).__enter__()
