"""A GigE Vision camera of our own on the loopback interface, with chunks behind its images.

A light barrier at its input ``Line1`` is ``edge``. A thread answers GVCP from a memory whose
registers the XML in it describes; images go by GVSP to where the registers say. What a test wants
to go wrong are attributes: chunks that are others or missing, images that get lost, a slow readout.
"""

import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv4Address
from socket import AF_INET, SOCK_DGRAM, socket
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from lineside.core import SystemClock

ADDRESS = "127.0.0.2"
CHUNK_SOURCE = f"aravis://{ADDRESS}"
_REGISTERS = {
    name: 0x8000 + 4 * place
    for place, name in enumerate(
        ["Width", "Height", "PixelFormat", "PayloadSize", "AcquisitionMode", "Acquisition",
         "TriggerSelector", "TriggerMode", "TriggerSource", "TriggerSoftware", "ChunkModeActive",
         "ChunkSelector"]
    )
}  # fmt: skip
_RGB8, _LINE1 = 0x02180014, 1
_ENTRIES = {
    "PixelFormat": {"RGB8": _RGB8}, "AcquisitionMode": {"Continuous": 0},
    "TriggerSelector": {"FrameStart": 0}, "TriggerMode": {"Off": 0, "On": 1},
    "TriggerSource": {"Software": 0, "Line1": _LINE1},
    "ChunkSelector": {"CounterValue": 0, "TimerValue": 1, "SerialData": 2, "LineStatus": 3},
}  # fmt: skip
_CHUNKS = {
    "CounterValue": ("Integer", 4), "TimerValue": ("Float", 8), "SerialData": ("StringReg", 16),
    "LineStatus": ("Boolean", 4), "Gain": ("Integer", 4),
}  # fmt: skip
"""Kind and bytes of each; the selector does not offer the last one."""
_IMAGE_ID, _FIRST_ID = 0x1, 0x2A000000
_ENABLE, _XML = 0x8100, 0x10000
_PORT, _PACKET_SIZE, _HOST = 0xD00, 0xD04, 0xD18


def _register(name: str, address: str, port: str, *, kind: str = "IntReg", length: int = 4) -> str:
    end = "" if kind == "StringReg" else "<Endianess>BigEndian</Endianess>"
    return (
        f'<{kind} Name="{name}">{address}<Length>{length}</Length><AccessMode>RW</AccessMode>'
        f"<pPort>{port}</pPort>{end}</{kind}>"
    )


def _nodes() -> Iterator[str]:
    yield '<Port Name="Device"/>'
    for name, address in _REGISTERS.items():
        yield _register(f"{name}Reg", f"<Address>{address}</Address>", "Device")
        entries = "".join(
            f'<EnumEntry Name="{entry}"><Value>{value}</Value></EnumEntry>'
            for entry, value in _ENTRIES.get(name, {}).items()
        )
        kind = "Enumeration" if entries else "Boolean" if name == "ChunkModeActive" else "Integer"
        yield f'<{kind} Name="{name}">{entries}<pValue>{name}Reg</pValue></{kind}>'
    for name, register, value in (
        ("AcquisitionStart", "Acquisition", 1),
        ("AcquisitionStop", "Acquisition", 0),
        ("TriggerSoftware", "TriggerSoftware", 1),
    ):
        yield (
            f'<Command Name="{name}"><pValue>{register}Reg</pValue>'
            f"<CommandValue>{value}</CommandValue></Command>"
        )
    enable = f'<Address>{_ENABLE}</Address><pIndex Offset="4">ChunkSelectorReg</pIndex>'
    yield _register("ChunkEnableReg", enable, "Device")
    yield '<Boolean Name="ChunkEnable"><pValue>ChunkEnableReg</pValue></Boolean>'
    for number, (name, (kind, length)) in enumerate(_CHUNKS.items(), start=_FIRST_ID):
        port, feature = f"{name}Port", f"Chunk{name}"
        yield f'<Port Name="{port}"><ChunkID>{number:X}</ChunkID></Port>'
        if kind == "StringReg":
            yield _register(feature, "<Address>0</Address>", port, kind=kind, length=length)
            continue
        form = "FloatReg" if kind == "Float" else "IntReg"
        yield _register(f"{feature}Reg", "<Address>0</Address>", port, kind=form, length=length)
        yield f'<{kind} Name="{feature}"><pValue>{feature}Reg</pValue></{kind}>'


XML = (
    '<?xml version="1.0" encoding="utf-8"?><RegisterDescription ModelName="Chunks"'
    ' VendorName="Lineside" StandardNameSpace="None" SchemaMajorVersion="1"'
    ' SchemaMinorVersion="1" SchemaSubMinorVersion="0" MajorVersion="1" MinorVersion="0"'
    ' SubMinorVersion="0" ToolTip="" ProductGuid="0" VersionGuid="0"'
    f' xmlns="http://www.genicam.org/GenApi/Version_1_1">{"".join(_nodes())}</RegisterDescription>'
).encode()


class ChunkCamera:
    """A camera that is ready until it is closed.

    Attributes:
        scene: RGB image of what stands before it; its first pixel is as bright as ``count``.
        count: of edges at Line1.
        taken: when each image was exposed.
        chunks: bytes of chunks in place of its own; None: the chunk is missing.
        is_losing: no packet of an image comes.
        readout_s: from an exposure to its first packet.
    """

    def __init__(self, *, payload_type: int = 0x4001, xml: bytes = XML) -> None:
        self.scene = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
        self.count, self.is_losing, self.readout_s = 0, False, 0.0
        self.taken, self.chunks = list[datetime](), dict[str, bytes | None]()
        self._payload_type, self._number = payload_type, 0
        self._memory = bytearray(_XML) + xml
        self._write(0x4, struct.pack(">I", 0x80000001))
        self._write(0x24, IPv4Address(ADDRESS).packed)
        self._write(0x200, f"Local:chunks.xml;{_XML:X};{len(xml):X}".encode())
        self._write(0x904, struct.pack(">I", 1))
        self._write(0x940, struct.pack(">I", 10**9))
        self._write(_PACKET_SIZE, struct.pack(">I", 65000))
        for name, value in (("Width", 160), ("Height", 120), ("PixelFormat", _RGB8)):
            self.set(name, value)
        self._stream = socket(AF_INET, SOCK_DGRAM)
        self._stream.bind((ADDRESS, 0))
        self._control = socket(AF_INET, SOCK_DGRAM)
        self._control.bind((ADDRESS, 3956))
        self._control.settimeout(0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="chunk-camera")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._control.close()
        self._stream.close()

    def set(self, name: str, value: int) -> None:
        self._write(_REGISTERS[name], struct.pack(">I", value))

    def is_set(self, name: str, value: int = 1) -> bool:
        return self._number_at(_REGISTERS[name]) == value

    def enable(self, chunk: str) -> None:
        """As if another program had switched the chunk on."""
        self._write(_ENABLE + 4 * _ENTRIES["ChunkSelector"][chunk], struct.pack(">I", 1))

    def image(self) -> NDArray[np.uint8]:
        """What it sees now."""
        seen = self.scene.copy()
        seen[0, 0] = self.count % 256
        return seen

    def edge(self) -> None:
        """The light barrier says that a part is there."""
        self.count += 1
        if self.is_set("TriggerMode") and self.is_set("TriggerSource", _LINE1):
            self._take()

    def _take(self) -> None:
        stamp = monotonic_ns()
        self.taken.append(SystemClock().now())
        self._number += 1
        if self.is_losing or not self.is_set("Acquisition"):
            return
        self._stop.wait(self.readout_s)
        raw, has_chunks = self.image().tobytes(), self.is_set("ChunkModeActive")
        if has_chunks:
            raw = b"".join((raw, struct.pack(">II", _IMAGE_ID, len(raw)), *self._tail()))
        size = self._number_at(_PACKET_SIZE) % 0x10000 - 36
        blocks = [raw[at : at + size] for at in range(0, len(raw), size)]
        leader = struct.pack(
            ">HHQIIIIIHH", 0, self._payload_type if has_chunks else 1, stamp, _RGB8, 160, 120,
            0, 0, 0, 0,
        )  # fmt: skip
        self._send(1, 0, leader)
        for place, block in enumerate(blocks, start=1):
            self._send(3, place, block)
        self._send(2, len(blocks) + 1, struct.pack(">II", 1, 120))

    def _tail(self) -> Iterator[bytes]:
        own: dict[str, bytes | None] = {
            "CounterValue": struct.pack(">I", self.count),
            "TimerValue": struct.pack(">d", self.count / 8),
            "SerialData": f"AB{self.count:04}\r\n".encode().ljust(16, b"\0"),
            "LineStatus": struct.pack(">I", self.count % 2),
        }
        for place, value in enumerate((own | self.chunks).values()):
            if self._number_at(_ENABLE + 4 * place) and value is not None:
                yield value + struct.pack(">II", _FIRST_ID + place, len(value))

    def _send(self, kind: int, place: int, data: bytes) -> None:
        host = str(IPv4Address(self._number_at(_HOST)))
        head = struct.pack(">HHI", 0, self._number, kind << 24 | place)
        self._stream.sendto(head + data, (host, self._number_at(_PORT) % 0x10000))

    def _serve(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                data, peer = self._control.recvfrom(2048)
                _, _, command, _, number = struct.unpack_from(">BBHHH", data)
                answer = self._answer(command, data[8:])
                head = struct.pack(">BBHHH", 0, 0, command + 1, len(answer), number)
                self._control.sendto(head + answer, peer)

    def _answer(self, command: int, body: bytes) -> bytes:
        match command:
            case 0x80:
                return b"".join(self._read(at, 4) for (at,) in struct.iter_unpack(">I", body))
            case 0x82:
                for at, value in struct.iter_unpack(">II", body):
                    self._write(at, struct.pack(">I", value))
            case 0x84:
                at, count = struct.unpack(">II", body)
                return body[:4] + self._read(at, count)
            case _:  # 0x86
                self._write(int.from_bytes(body[:4]), body[4:])
                if int.from_bytes(body[:4]) == _REGISTERS["TriggerSoftware"]:
                    self._take()
        return bytes(4)

    def _number_at(self, address: int) -> int:
        return int.from_bytes(self._memory[address : address + 4])

    def _read(self, address: int, count: int) -> bytes:
        self.set("PayloadSize", self.scene.nbytes + 8 + sum(map(len, self._tail())))
        return bytes(self._memory[address : address + count])

    def _write(self, address: int, data: bytes) -> None:
        self._memory[address : address + len(data)] = data
