"""The page ends while somebody watches: whoever reads is told, and nobody is an error."""

import http.client
import logging
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lineside.core import SystemClock
from lineside.edge.page import server
from lineside.testing.links import LONG_S, wait_until
from tests.edge.page.asking import ask
from tests.edge.page.pages import Shown, classified, shown

MORE_THAN_IS_BUFFERED = 16_000_000
STREAMS = ("/cameras/surface/live.mjpeg", "/cameras/surface/answers.mjpeg")


def watch(page: Shown, path: str) -> http.client.HTTPConnection:
    place = urlsplit(page.url)
    link = http.client.HTTPConnection(place.hostname or "", place.port or 0, timeout=LONG_S)
    link.request("GET", path)
    return link


def see(page: Shown, *, seed: int) -> None:
    frame = page.frame(seed=seed)
    page.see(frame, classified(frame))


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.fixture
def _grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page may take as long as a test to end what somebody reads."""
    monkeypatch.setattr(server, "_GRACE_S", LONG_S)


@pytest.mark.usefixtures("_grace")
@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_ends_with_its_last_boundary(
    tmp_path: Path,
    path: str,
    complaints: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with shown(tmp_path, clock=SystemClock()) as page:
        see(page, seed=1)
        link = watch(page, path)
        answer = link.getresponse()
        assert answer.readline() == b"--lineside-frame\r\n"
    assert answer.read().endswith(b"\r\n--lineside-frame--\r\n")
    link.close()
    assert complaints.records == []
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("_grace")
def test_who_waits_for_the_next_picture_is_answered_with_none(
    tmp_path: Path, complaints: pytest.LogCaptureFixture
) -> None:
    with shown(tmp_path, clock=SystemClock()) as page:
        link = watch(page, "/api/live?after=0")
        wait_until(lambda: ask(page.url, "/api/status").json["viewers"] == 1)
    answer = link.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    link.close()
    assert complaints.records == []


def test_who_does_not_read_is_let_go(tmp_path: Path, complaints: pytest.LogCaptureFixture) -> None:
    with shown(tmp_path, clock=SystemClock()) as page:
        frame = page.frame()
        page.see(
            replace(frame, encoded=frame.encoded + bytes(MORE_THAN_IS_BUFFERED)), classified(frame)
        )
        link = watch(page, "/api/latest/defect/picture")
        assert link.getresponse().status == 200
    link.close()
    assert complaints.records == []
