"""Part ids from chunks: a GigE Vision camera of our own on a real socket."""

import math
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import numpy as np
import pytest

from lineside.core import Camera as CameraRecord
from lineside.core import InvalidError, SystemClock
from lineside.core.drivers import SecretUrl
from lineside.links import Camera, open_camera
from lineside.links.camera_aravis import AravisSource, find_chunk, part_id
from lineside.links.shots import say_nothing
from lineside.testing.links import wait_until
from tests.links.chunk_camera import CHUNK_SOURCE, XML, ChunkCamera
from tests.links.gige_camera import gige_port

NO_PART = "part id cannot be read"
REGISTER = b'<IntReg Name="ChunkCounterValueReg"><Address>0</Address>'
NUMBER = b'<Integer Name="%s"><Value>%d</Value></Integer>'
BOOLEAN = b'<Boolean Name="ChunkLineStatus"><pValue>ChunkLineStatusReg</pValue></Boolean>'
STATES = b"".join(
    b'<EnumEntry Name="%s"><Value>%d</Value></EnumEntry>' % one for one in ((b"Off", 0), (b"On", 1))
)
COUNTS = [struct.pack(">II", 7, 100), struct.pack(">I", 7), bytes(6), struct.pack(">II", 7, 103)]
KNOWN = [
    f"Chunk{one}" for one in ("CounterValue", "Gain", "LineStatus", "SerialData", "TimerValue")
]
PARTS = ["100", "", "", "103"]


def texts(*pairs: tuple[int, bytes]) -> list[dict[str, bytes]]:
    return [{"CounterValue": struct.pack(">I", size), "SerialData": text} for size, text in pairs]


@pytest.fixture
def camera(
    request: pytest.FixtureRequest, absent: Callable[[str, str], None]
) -> Iterator[ChunkCamera]:
    kind = getattr(request, "param", 0x4001)
    with gige_port(absent), closing(ChunkCamera(payload_type=kind)) as camera:
        yield camera


def record(chunk: str) -> CameraRecord:
    return CameraRecord(
        id="rack", line="belt", source=SecretUrl(CHUNK_SOURCE), trigger="Line1", part_id=chunk
    )


def opened(
    chunk: str = "ChunkCounterValue", *, refused: Callable[[str, str], None] = say_nothing
) -> Camera:
    return open_camera(record(chunk), clock=SystemClock(), refused=refused)


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
        ("ChunkSelector", f"no chunk feature ChunkSelector.*Known: {', '.join(KNOWN)}"),
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


@pytest.mark.parametrize(
    ("former", "form", "chunk", "values", "parts"),
    [
        (
            REGISTER,
            NUMBER % (b"Place", 1) + REGISTER + b'<pIndex Offset="4">Place</pIndex>',
            "CounterValue",
            COUNTS,
            PARTS,
        ),
        (
            REGISTER,
            NUMBER % (b"Step", 4) + NUMBER % (b"Place", 1) + REGISTER
            + b'<pIndex pOffset="Step">Place</pIndex>',
            "CounterValue",
            COUNTS,
            PARTS,
        ),
        (
            REGISTER,
            REGISTER + b'<IntSwissKnife Name="Place"><Formula>2 + 2</Formula></IntSwissKnife>',
            "CounterValue",
            COUNTS,
            PARTS,
        ),
        (
            REGISTER,
            NUMBER % (b"Place", 4) + REGISTER.replace(b"<Address>0</Address>", b"")
            + b"<pAddress>Place</pAddress>",
            "CounterValue",
            COUNTS,
            PARTS,
        ),
        (
            b"<Length>16</Length>",
            b"<pLength>ChunkCounterValue</pLength>",
            "SerialData",
            texts((8, b"PART0001"), (8, b"PART"), (8, b""), (0x7FFFFFFF, b"PART"), (4, b"XYZW")),
            ["PART0001", "", "", "", "XYZW"],
        ),
        (
            BOOLEAN,
            BOOLEAN.replace(b"Boolean", b"Enumeration").replace(b"<pV", STATES + b"<pV"),
            "LineStatus",
            [struct.pack(">I", 1), b"", struct.pack(">I", 0)],
            ["On", "", "Off"],
        ),
        (
            b'<EnumEntry Name="CounterValue">',
            b'<EnumEntry Name="ChunkCounterValue">',
            "CounterValue",
            [struct.pack(">I", 1)],
            ["1"],
        ),
        (b"</RegisterDescription>", b"</RegisterDescription>\0\0", "CounterValue", [{}], ["1"]),
    ],
    ids=["index", "offset", "formula", "address", "length", "enumeration", "whole name", "NUL"],
)  # fmt: skip
def test_each_form_of_a_description_is_read_from_this_image(
    absent: Callable[[str, str], None],
    former: bytes,
    form: bytes,
    chunk: str,
    values: list[bytes | dict[str, bytes]],
    parts: list[str],
) -> None:
    refused, xml = list[tuple[str, str]](), XML.replace(former, form)
    assert xml != XML
    steps = [one if isinstance(one, dict) else {chunk: one} for one in values]
    with gige_port(absent), closing(ChunkCamera(xml=xml)) as camera:
        camera.chunks |= steps[0]
        camera.enable("CounterValue")
        with closing(opened(f"Chunk{chunk}", refused=lambda *why: refused.append(why))) as live:
            shots, found = live.shots(), list[str]()
            for step, part in zip(steps, parts, strict=True):
                camera.chunks = {**step}
                many = len(refused)
                camera.edge()
                if part:
                    found.append(next(shots).part)
                    continue
                wait_until(lambda many=many: len(refused) > many)  # type: ignore[misc]
                while refused[-1][0] != NO_PART:  # its packets came too late: it is taken again
                    many = len(refused)
                    camera.edge()
                    wait_until(lambda many=many: len(refused) > many)  # type: ignore[misc]
                found.append("")
    assert found == parts


def test_a_camera_that_is_connected_again_gives_ids_again(camera: ChunkCamera) -> None:
    source = AravisSource(record("ChunkSerialData"), clock=SystemClock(), refused=say_nothing)
    for part in ("AB0001", "AB0002"):
        grab = source.connect()
        camera.edge()
        picture = grab()
        assert picture is not None
        assert picture.part == part
        source.close()


def test_descriptions_that_are_read_at_once_do_not_end_the_program() -> None:
    code = """
import threading
from lineside.links.camera_aravis import parse
from tests.links.chunk_camera import XML
end = b"</RegisterDescription>"
node = b'<Integer Name="N"><ToolTip>a tool tip of a camera</ToolTip><Value>1</Value></Integer>'
xml = XML.replace(end, node * 5000 + end)
both = threading.Barrier(2)
def read():
    both.wait()
    assert parse(xml)
for one in [threading.Thread(target=read) for _ in range(2)]:
    one.start()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"G_DEBUG": "fatal-criticals"},
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("former", "form", "words"),
    [
        (b"<?xml", b"<xml", "cannot be read"),
        (b"<Length>8</Length>", b"<Length>eight</Length>", "cannot be read: .*'eight'"),
    ],
)
def test_a_description_in_another_form_is_refused(former: bytes, form: bytes, words: str) -> None:
    assert former in XML
    with pytest.raises(InvalidError, match=f"description of ChunkTimerValue {words}"):
        find_chunk(XML.replace(former, form), "ChunkTimerValue", where="c")


@pytest.mark.parametrize("form", ["StructEntry", "pValueIndexed", "pValueDefault"])
def test_a_form_that_is_not_supported_is_named(form: str) -> None:
    node = f"<{form}>ChunkTimerValueReg</{form}>".encode()
    xml = XML.replace(b"<pValue>ChunkTimerValueReg</pValue>", node)
    with pytest.raises(InvalidError, match=f"{form} is a form that is not supported"):
        find_chunk(xml, "ChunkTimerValue", where="c")


def test_a_text_whose_length_is_another_chunk_needs_both() -> None:
    xml = XML.replace(b"<Length>16</Length>", b"<pLength>ChunkCounterValue</pLength>")
    found = find_chunk(xml, "ChunkSerialData", where="c")
    assert found[0] == "string"
    assert list(found[1].items()) == [
        ("ChunkCounterValueReg", 0x2A000000),
        ("ChunkSerialData", 0x2A000002),
    ]


def test_ids_have_no_more_characters_than_those_of_messages() -> None:
    assert part_id(b"x" * 200, where="c") == "x" * 200
    assert part_id(1e15 + 1, where="c") == "1000000000000001"
    assert part_id(-0.0, where="c") == "0"
    assert part_id(b"nan", where="c") == "nan"
    for value in (b"x" * 201, b"a\x07b", None, math.inf):
        with pytest.raises(InvalidError, match="no part id"):
            part_id(value, where="c")
