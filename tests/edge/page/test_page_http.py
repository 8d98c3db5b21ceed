"""The page over real HTTP: what it says, to several at once, and what nobody's looking costs."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lineside.core import SystemClock, UnavailableError, decode_json
from lineside.edge.page import gallery
from lineside.edge.page.facts import HubContact, ModelRow, RunningUpdate
from lineside.edge.page.server import ADDRESS_FILE
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import decode_picture
from tests.edge.page.asking import ask, parts_of
from tests.edge.page.pages import PACKAGE, Shown, classified, counted, segmented, shown


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Shown]:
    with shown(tmp_path, clock=SystemClock()) as served:
        yield served


def test_the_page_names_its_device_and_plant_and_loads_its_own_files_only(page: Shown) -> None:
    answer = ask(page.url)
    text = answer.body.decode()
    assert answer.status == 200
    assert "<h1>edge-1</h1>" in text
    assert "Werk &lt;2&gt;" in text
    assert "Sign out" not in text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    for word in text.split():
        for start in ('src="', 'href="'):
            if word.startswith(start) and not word.startswith('href="#'):
                there = ask(page.url, word.removeprefix(start).partition('"')[0])
                assert there.status == 200, word


def test_its_address_stands_in_a_file_while_it_is_there(tmp_path: Path) -> None:
    with shown(tmp_path, clock=SystemClock()) as page:
        told = decode_json((tmp_path / ADDRESS_FILE).read_bytes(), where="page.json")
        assert told == {"url": page.url}
    assert not (tmp_path / ADDRESS_FILE).exists()
    with pytest.raises(ConnectionRefusedError):
        ask(page.url)


def test_the_status_says_everything_the_page_says(page: Shown) -> None:
    frame = page.frame()
    page.see(frame, classified(frame), segmented(frame))
    page.contact.append(
        HubContact(connected=False, heard_at="2026-01-01T12:00:00.000Z", clock_offset_s=-2.0)
    )
    page.jobs.append(
        RunningUpdate(
            job="j-1", model="unet", version="1.3",
            details={"step": "fetching", "bytes": "10", "bytes_total": "40"},
        )
    )  # fmt: skip
    page.faults.append("camera bin: away")
    said = ask(page.url, "/api/status").json
    assert said["schema"] == "lineside.page/1"
    assert (said["device"], said["site"], said["spool_depth"]) == ("edge-1", "Werk <2>", 12)
    assert said["hub"] == {
        "connected": False, "heard_at": "2026-01-01T12:00:00.000Z", "clock_offset_s": -2.0
    }  # fmt: skip
    [model] = said["models"]
    assert model["name"] == "img-classification"
    assert model["identifier"] == "img-classification-1-2"
    assert model["digest"] == PACKAGE
    assert [one["nothing"] for one in said["inspections"]] == [
        "No image classification result available", "No segmentation mask available",
        "No result available", "No result available",
    ]  # fmt: skip
    seen = {one["id"]: one["arrived_at"] for one in said["cameras"]}
    assert seen["surface"]
    assert not seen["bin"]
    assert said["updates"][0]["details"]["bytes"] == "10"
    assert said["faults"] == ["camera bin: away"]
    assert [one["inspection"] for one in said["recent"]] == ["where", "defect"]


def test_packages_that_are_loaded_by_name_stand_among_the_models(tmp_path: Path) -> None:
    row = ModelRow(
        name="unet", version="1", identifier="unet-1", digest=PACKAGE, inspection="",
        task="segment", since="2026-01-01T12:00:00.000Z",
    )  # fmt: skip
    with shown(tmp_path, clock=SystemClock(), named=[row]) as page:
        assert [one["name"] for one in ask(page.url, "/api/status").json["models"]] == [
            "img-classification",
            "unet",
        ]


def test_health_tells_how_many_faults_there_are_and_nothing_else(page: Shown) -> None:
    answer = ask(page.url, "/health")
    assert (answer.status, answer.json) == (200, {"state": "ok", "faults": 0})
    page.faults.append("camera rack: secret address")
    answer = ask(page.url, "/health")
    assert (answer.status, answer.json) == (503, {"state": "faults", "faults": 1})


def test_an_inspection_has_nothing_to_say_before_its_first_answer(page: Shown) -> None:
    said = ask(page.url, "/api/latest/where").json
    assert said["prediction"] is None
    assert said["nothing"] == "No segmentation mask available"
    for what in ("picture", "heat"):
        answer = ask(page.url, f"/api/latest/defect/{what}")
        assert answer.status == 404
        assert answer.json["detail"] == "No image classification result available"


def test_the_latest_answer_and_its_very_picture(page: Shown) -> None:
    frame = page.frame(seed=4)
    page.see(frame, classified(frame))
    said = ask(page.url, "/api/latest/defect").json
    assert said["prediction"]["schema"] == "lineside.prediction/1"
    assert said["prediction"]["frame"]["id"] == frame.id
    answer = ask(page.url, "/api/latest/defect/picture")
    assert answer.body == frame.encoded
    assert answer.headers["x-lineside-frame"] == frame.id
    gone = ask(page.url, "/api/latest/defect/heat")
    assert gone.status == 404
    assert "no longer in use" in gone.json["detail"]


def test_a_round_brings_every_camera_s_newest_picture_with_its_answers(page: Shown) -> None:
    first, second = page.frame(), page.frame("bin")
    page.see(first, classified(first), segmented(first))
    page.see(second, counted(second))
    parts = parts_of(ask(page.url, "/api/live?after=0").body)
    assert {header["camera"] for header, _ in parts} == {"surface", "bin"}
    header, picture = parts[0]
    assert header["frame"] == first.id
    assert set(header["predictions"]) == {"defect", "where"}
    assert header["predictions"]["where"]["mask"]["rle"]
    assert (header["width_px"], header["height_px"]) == (320, 240)
    assert decode_picture(picture).shape == (240, 320, 3)


def test_a_round_waits_for_the_next_picture(page: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "WAIT_S", LONG_S)
    frame = page.frame()
    page.see(frame, classified(frame))
    [(header, _)] = parts_of(ask(page.url, "/api/live?after=0").body)
    found: list[bytes] = []
    path = f"/api/live?after={header['number']}"
    waiting = threading.Thread(target=lambda: found.append(ask(page.url, path).body))
    waiting.start()
    wait_until(lambda: ask(page.url, "/api/status").json["viewers"] == 1)
    assert not found
    later = page.frame(seed=1)
    page.see(later, classified(later))
    waiting.join(LONG_S)
    [(header, _)] = parts_of(found[0])
    assert header["frame"] == later.id
    wait_until(lambda: ask(page.url, "/api/status").json["viewers"] == 0)


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 20, "٣"])
def test_a_number_that_is_none_is_refused(page: Shown, after: str) -> None:
    from urllib.parse import quote

    answer = ask(page.url, f"/api/live?after={quote(after)}")
    assert answer.status == 400
    assert "after=0" in answer.json["fix"]


def test_more_than_may_watch_are_told_so(tmp_path: Path) -> None:
    with shown(tmp_path, clock=SystemClock(), most_viewers=2) as page:
        streams = [Stream(page.url, "surface") for _ in range(2)]
        wait_until(lambda: ask(page.url, "/api/status").json["viewers"] == 2)
        refused = ask(page.url, "/api/live?after=0")
        assert refused.status == 503
        assert refused.json["detail"] == "2 watch already"
        assert ask(page.url, "/cameras/bin/live.mjpeg").status == 503
        assert ask(page.url, "/").status == 200
        for stream in streams:
            stream.close()
        frame = page.frame()
        page.see(frame)  # who is gone is noticed by the next picture at the latest
        wait_until(lambda: ask(page.url, "/api/status").json["viewers"] == 0)
        assert ask(page.url, "/api/live?after=0").status == 200


class Stream:
    """Somebody who watches a camera as a stream of JPEGs."""

    def __init__(self, url: str, camera: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            place.hostname or "", place.port or 0, timeout=LONG_S
        )
        self._connection.request("GET", f"/cameras/{camera}/live.mjpeg")
        self.answer = self._connection.getresponse()

    def next(self) -> bytes:
        """The next picture."""
        assert self.answer.readline().startswith(b"--lineside-frame")
        assert self.answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(self.answer.readline().split()[1])
        assert self.answer.readline() == b"\r\n"
        picture = self.answer.read(length)
        assert self.answer.read(2) == b"\r\n"
        return picture

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def test_a_camera_s_pictures_as_a_stream(page: Shown) -> None:
    stream = Stream(page.url, "surface")
    assert stream.answer.status == 200
    assert stream.answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
    for seed in (1, 2):
        frame = page.frame(seed=seed)
        page.see(frame, classified(frame))
        assert stream.next() == frame.encoded
    stream.close()
    unknown = ask(page.url, "/cameras/none/live.mjpeg")
    assert unknown.status == 404
    assert "surface, bin" in unknown.json["fix"]


def test_who_looks_makes_nobody_decide(page: Shown) -> None:
    frame = page.frame()
    page.see(frame, classified(frame))
    before = page.gallery.recent()
    for path in ("/", "/api/status", "/api/live?after=0", "/api/latest/defect"):
        assert ask(page.url, path).status == 200
    assert page.gallery.recent() == before
    assert len(page.gallery.newer(0)) == 1


def test_an_address_that_is_not_there(page: Shown) -> None:
    answer = ask(page.url, "/nothing")
    assert (answer.status, answer.json["fix"]) == (404, "Begin at /.")
    assert ask(page.url, "/static/../app.py").status == 404
    assert ask(page.url, "/static/%2e%2e/%2e%2e/app.py").status == 404
    assert ask(page.url, "/api/status", method="POST", body=b"").status == 405


def test_a_port_that_is_taken_is_said(page: Shown, tmp_path: Path) -> None:
    port = urlsplit(page.url).port
    with (
        pytest.raises(UnavailableError, match="cannot listen"),
        shown(tmp_path, clock=SystemClock(), listen=f"127.0.0.1:{port}"),
    ):
        pass
