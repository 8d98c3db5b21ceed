"""Part ids from chunks: a GigE Vision camera of our own on a real socket."""

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import numpy as np
import pytest

from lineside.core import Camera as CameraRecord
from lineside.core import InvalidError, SystemClock
from lineside.core.drivers import SecretUrl
from lineside.links import Camera, open_camera
from lineside.links.camera_aravis import find_chunk, part_id
from lineside.links.shots import say_nothing
from lineside.testing.links import wait_until
from tests.links.chunk_camera import CHUNK_SOURCE, XML, ChunkCamera
from tests.links.gige_camera import gige_port

NO_PART = "part id cannot be read"


@pytest.fixture
def camera(
    request: pytest.FixtureRequest, absent: Callable[[str, str], None]
) -> Iterator[ChunkCamera]:
    kind = getattr(request, "param", 0x4001)
    with gige_port(absent), closing(ChunkCamera(payload_type=kind)) as camera:
        yield camera


def opened(
    chunk: str = "ChunkCounterValue", *, refused: Callable[[str, str], None] = say_nothing
) -> Camera:
    record = CameraRecord(
        id="rack", line="belt", source=SecretUrl(CHUNK_SOURCE), trigger="Line1", part_id=chunk
    )
    return open_camera(record, clock=SystemClock(), refused=refused)


@pytest.mark.parametrize(
    ("camera", "chunk", "parts"),
    [
        (0x4001, "ChunkCounterValue", ["1", "2", "3"]),
        (0x0004, "ChunkCounterValue", ["1", "2", "3"]),
        (0x4001, "ChunkTimerValue", ["0.125", "0.25", "0.375"]),
        (0x4001, "ChunkSerialData", ["AB0001", "AB0002", "AB0003"]),
        (0x4001, "ChunkLineStatus", ["1", "0", "1"]),
        (0x4001, "", ["", "", ""]),
    ],
    indirect=["camera"],
)
def test_the_value_of_a_chunk_is_the_part_id_of_its_image(
    camera: ChunkCamera, chunk: str, parts: list[str]
) -> None:
    camera.set("ChunkModeActive", 1)
    with closing(opened(chunk)) as live:
        shots = live.shots()
        for part in parts:
            camera.edge()
            shot = next(shots)
            assert shot.part == part
            assert shot.open().part == part
            assert np.array_equal(shot.image, camera.image())  # type: ignore[arg-type]  # it has one
    assert camera.is_set("ChunkModeActive")


def test_the_image_behind_a_lost_one_has_its_own_id(camera: ChunkCamera) -> None:
    refused = list[str]()
    with closing(opened(refused=lambda why, _: refused.append(why))) as live:
        shots = live.shots()
        for is_losing, part in ((False, "1"), (True, ""), (False, "3")):
            camera.is_losing = is_losing
            camera.edge()
            assert not part or next(shots).part == part
    assert refused == ["image lost"]


@pytest.mark.parametrize(
    ("chunk", "value"),
    [
        ("CounterValue", None),
        ("CounterValue", b""),
        ("CounterValue", b"\0\0"),
        ("SerialData", b""),
        ("SerialData", b"AB"),
        ("SerialData", bytes(16)),
        ("SerialData", b"\xff\xfe".ljust(16, b"\0")),
        ("TimerValue", struct.pack(">d", math.nan)),
    ],
)
def test_an_image_never_has_the_id_of_another_part(
    camera: ChunkCamera, chunk: str, value: bytes | None
) -> None:
    refused = list[tuple[str, str]]()
    with closing(opened(f"Chunk{chunk}", refused=lambda *why: refused.append(why))) as live:
        shots = live.shots()
        camera.edge()
        first = next(shots).part
        camera.chunks = {chunk: value}
        camera.edge()
        wait_until(lambda: refused)
        camera.chunks = {}
        camera.edge()
        assert next(shots).part not in {first, ""}
    ((reason, sentence),) = refused
    assert reason == NO_PART
    assert CHUNK_SOURCE in sentence


@pytest.mark.usefixtures("camera")
@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ("ChunkCounter", "no chunk feature ChunkCounter.*Did you mean 'ChunkCounterValue'"),
        ("ChunkSelector", "no chunk feature ChunkSelector"),
        ("ChunkGain", "does not take part_id: .*'Gain' not an entry"),
    ],
)
def test_a_chunk_that_the_camera_lacks_is_said(chunk: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        opened(chunk)


def test_times_are_those_of_the_exposures_late_by_the_shortest_readout(camera: ChunkCamera) -> None:
    with closing(opened()) as live:
        shots, late = live.shots(), list[timedelta]()
        for readout_s in (0.02, 0.08) * 5:
            camera.readout_s = readout_s
            camera.edge()
            late.append(next(shots).captured_at - camera.taken[-1])
    assert timedelta(milliseconds=19) < min(late)
    assert max(late[4:]) - min(late[4:]) < timedelta(milliseconds=30)


def test_a_description_that_is_no_xml_or_has_no_numbers_is_refused() -> None:
    for xml in (b"<a", XML.replace(b"<Length>8</Length>", b"<Length>eight</Length>")):
        with pytest.raises(InvalidError, match="description"):
            find_chunk(xml, "ChunkTimerValue", where="c")


def test_a_text_whose_length_is_another_chunk_needs_both() -> None:
    xml = XML.replace(b"<Length>16</Length>", b"<pLength>ChunkCounterValue</pLength>")
    found = find_chunk(xml, "ChunkSerialData", where="c")
    assert found == ("string", {0x2A000000: 4, 0x2A000002: 1})


def test_ids_have_no_more_characters_than_those_of_messages() -> None:
    assert part_id(b"x" * 200, where="c") == "x" * 200
    assert part_id(1e15 + 1, where="c") == "1000000000000001"
    for value in (b"x" * 201, b"a\x07b", None, math.inf):
        with pytest.raises(InvalidError, match="no part id"):
            part_id(value, where="c")
