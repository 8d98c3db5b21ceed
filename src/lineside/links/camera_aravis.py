"""``aravis://<id>``: a GigE Vision or USB3 Vision camera through the library Aravis.

1. The library comes from the system (Debian: libaravis-0.8-0) and is called by ctypes.
2. Mono, Bayer and RGB of 8 bits are taken; a camera set to another format is set to one of these.
3. The camera's own time stamps become UTC. Its clock begins anywhere, so the shortest way of the
   last minute (256 images at most), from stamp to arrival, counts as none: ``captured_at`` is late
   by that shortest way (readout and transfer), and wrong beyond it by no more than the two clocks
   part in that minute.
4. The library waits for each answer of a camera, up to 2.5 s and more. A thread of its own asks for
   them, so that neither triggers nor the loss of a camera wait with it.
5. Images are numbered by the camera: one that never came is refused when the next one comes.
6. With ``part_id`` each image carries the value of a chunk as its part id. Of a chunk that is
   shorter than its register the library gives the rest of an image before; such an image is
   refused, as is one without the chunk: an image never has the id of another part. Address and
   length of a register can depend on the image; the library computes them before it reads.
7. The library parses one camera's description at a time: two at once end the program.
8. The library reads GigE Vision's stream from a UDP socket whose buffer holds four images. Where
   the kernel's limit is below one, it may read from a packet socket, if the program has that right.
"""

import ctypes
import logging
import math
import os
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint64, c_void_p
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, fromstring

import numpy as np

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, UnavailableError, need
from lineside.core.codec import nearest
from lineside.core.errors import MissingExtraError
from lineside.core.worker import Worker
from lineside.links.contract import LONGEST_PART, Bus, Refused
from lineside.links.shots import (
    IMAGE_LOST,
    NO_PART,
    TRIGGER_FAILED,
    UNREADABLE,
    Grab,
    LiveCamera,
    Picture,
    Pixels,
)

logger = logging.getLogger(__name__)

_LIBRARY = "libaravis-0.8.so.0"
_MOST_BYTES = 120_000_000
_BUFFERS = 4
_PLAIN_SOCKET = 1
"""Option of a stream: no packet socket, which fails unseen where memory is short."""
_FIXED = 0
"""Of the property ``socket-buffer``: the library leaves the size as it is."""
_POLL_S = 0.2
_CHECK_S = 1.0
_LOOKS = 8
"""Waits for an image, of ``_POLL_S`` each, after which a camera that did not answer is lost."""
_NUMBERS = 65_535
"""GigE Vision counts images from 1 to this; of USB3 Vision only the distance matters."""
_MOST_MISSING = 1000
_TRIGGER, _CHECK = "arv_camera_software_trigger", "arv_camera_get_payload"
_HAS_ENTRY = "arv_camera_is_enumeration_entry_available"
_STAMPS = 256
_WINDOW = timedelta(minutes=1)
_ADDRESS = re.compile(r"[0-9.]+")
_JUMP = timedelta(seconds=1)
_CHUNK_DATA = 4
"""Payload type of GigE Vision 1 with chunks: its images come without their size."""
_REFERENCES = ("pValue", "pVariable", "pAddress", "pLength", "pIndex")
"""By these, nodes of a camera's description name others whose values they read."""
_FOREIGN = ("StructEntry", "pValueIndexed", "pValueDefault")
"""Forms of such a description that are not followed."""
_PARSING = threading.Lock()
"""The library has one state for all descriptions that it parses: two at once crash it."""
_KINDS = {
    "Boolean": "boolean", "Enumeration": "string", "String": "string", "StringReg": "string",
    "Float": "float", "FloatReg": "float", "Converter": "float", "SwissKnife": "float",
    "Integer": "integer", "IntReg": "integer", "MaskedIntReg": "integer",
    "IntConverter": "integer", "IntSwissKnife": "integer",
}  # fmt: skip
_FORMATS = ("RGB8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "Mono8")


class _Error(ctypes.Structure):
    """A GError."""

    _fields_ = (("domain", ctypes.c_uint32), ("code", c_int), ("message", c_char_p))


_TYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (c_uint, ()),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_device_address": (c_char_p, (c_uint,)),
    "arv_get_device_protocol": (c_char_p, (c_uint,)),
    "arv_get_device_model": (c_char_p, (c_uint,)),
    "arv_camera_create_stream": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "arv_camera_get_device": (c_void_p, (c_void_p,)),
    "arv_camera_is_gv_device": (c_int, (c_void_p,)),
    "arv_gv_device_is_controller": (c_int, (c_void_p,)),
    "arv_camera_gv_set_stream_options": (None, (c_void_p, c_int)),
    "arv_gv_stream_get_port": (ctypes.c_uint16, (c_void_p,)),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p)),
    "arv_stream_timeout_pop_buffer": (c_void_p, (c_void_p, c_uint64)),
    "arv_buffer_new_allocate": (c_void_p, (c_size_t,)),
    "arv_buffer_get_status": (c_int, (c_void_p,)),
    "arv_buffer_get_frame_id": (c_uint64, (c_void_p,)),
    "arv_buffer_get_timestamp": (c_uint64, (c_void_p,)),
    "arv_buffer_get_payload_type": (c_int, (c_void_p,)),
    "arv_buffer_get_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_has_chunks": (c_int, (c_void_p,)),
    "arv_buffer_get_chunk_data": (c_void_p, (c_void_p, c_uint64, POINTER(c_size_t))),
    "arv_gc_new": (c_void_p, (c_void_p, c_char_p, c_size_t)),
    "arv_gc_get_node": (c_void_p, (c_void_p, c_char_p)),
    "arv_gc_set_buffer": (None, (c_void_p, c_void_p)),
    "arv_device_get_genicam_xml": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_image_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_image_pixel_format": (ctypes.c_uint32, (c_void_p,)),
    "arv_buffer_get_image_width": (c_int, (c_void_p,)),
    "arv_buffer_get_image_height": (c_int, (c_void_p,)),
    "arv_buffer_get_image_padding": (None, (c_void_p, POINTER(c_int), POINTER(c_int))),
    "g_object_unref": (None, (c_void_p,)),
    "g_error_free": (None, (c_void_p,)),
    "g_object_set": (None, (c_void_p, c_char_p, c_int, c_void_p)),
    # Those below end with a GError.
    "arv_camera_new": (c_void_p, (c_char_p, c_void_p)),
    "arv_camera_get_payload": (c_uint, (c_void_p, c_void_p)),
    "arv_camera_get_integer": (ctypes.c_int64, (c_void_p, c_char_p, c_void_p)),
    "arv_camera_set_chunk_mode": (None, (c_void_p, c_int, c_void_p)),
    "arv_camera_set_chunk_state": (None, (c_void_p, c_char_p, c_int, c_void_p)),
    "arv_gc_register_get_address": (c_uint64, (c_void_p, c_void_p)),
    "arv_gc_register_get_length": (c_uint64, (c_void_p, c_void_p)),
    "arv_gc_boolean_get_value": (c_int, (c_void_p, c_void_p)),
    "arv_gc_float_get_value": (c_double, (c_void_p, c_void_p)),
    "arv_gc_integer_get_value": (ctypes.c_int64, (c_void_p, c_void_p)),
    "arv_gc_string_get_value": (c_char_p, (c_void_p, c_void_p)),
    "arv_camera_get_pixel_format_as_string": (c_char_p, (c_void_p, c_void_p)),
    "arv_camera_set_pixel_format_from_string": (None, (c_void_p, c_char_p, c_void_p)),
    "arv_camera_is_enumeration_entry_available":
        (c_int, (c_void_p, c_char_p, c_char_p, c_void_p)),
    "arv_camera_is_exposure_time_available": (c_int, (c_void_p, c_void_p)),
    "arv_camera_is_gain_available": (c_int, (c_void_p, c_void_p)),
    "arv_camera_is_frame_rate_available": (c_int, (c_void_p, c_void_p)),
    "arv_camera_is_exposure_auto_available": (c_int, (c_void_p, c_void_p)),
    "arv_camera_is_gain_auto_available": (c_int, (c_void_p, c_void_p)),
    "arv_camera_set_exposure_time_auto": (None, (c_void_p, c_int, c_void_p)),
    "arv_camera_set_gain_auto": (None, (c_void_p, c_int, c_void_p)),
    "arv_camera_set_exposure_time": (None, (c_void_p, c_double, c_void_p)),
    "arv_camera_set_gain": (None, (c_void_p, c_double, c_void_p)),
    "arv_camera_set_frame_rate": (None, (c_void_p, c_double, c_void_p)),
    "arv_camera_clear_triggers": (None, (c_void_p, c_void_p)),
    "arv_camera_set_trigger": (None, (c_void_p, c_char_p, c_void_p)),
    "arv_camera_software_trigger": (None, (c_void_p, c_void_p)),
    "arv_camera_set_acquisition_mode": (None, (c_void_p, c_int, c_void_p)),
    "arv_camera_start_acquisition": (None, (c_void_p, c_void_p)),
    "arv_camera_stop_acquisition": (None, (c_void_p, c_void_p)),
}  # fmt: skip


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise MissingExtraError(
            f"{_LIBRARY} is not installed", fix="apt install libaravis-0.8-0"
        ) from error
    for name, (result, arguments) in _TYPES.items():
        function = getattr(library, name, None)
        if function is None:
            raise MissingExtraError(
                f"{_LIBRARY} is older than Aravis 0.8.25: it lacks {name}",
                fix="Install that of a newer system: Debian 12, Ubuntu 24.04.",
            )
        function.restype, function.argtypes = result, arguments
    return library


def _call(name: str, *arguments: object) -> Any:  # noqa: ANN401  as the library has it
    """Call a function that ends with a GError; ``OSError`` with its code and message."""
    library, error = _library(), c_void_p()
    result = getattr(library, name)(*arguments, byref(error))
    if error.value is not None:
        found = ctypes.cast(error, POINTER(_Error)).contents
        code, message = found.code, (found.message or b"").decode("utf-8", "replace")
        library.g_error_free(error)
        raise OSError(code, message)
    return result


def find_cameras() -> list[tuple[str, str, str, str]]:
    """Id, address, protocol and model of each GenICam camera that answers within about a second.

    Raises:
        MissingExtraError: the library is not installed.
    """
    library = _library()
    library.arv_update_device_list()
    names = (
        library.arv_get_device_id,
        library.arv_get_device_address,
        library.arv_get_device_protocol,
        library.arv_get_device_model,
    )
    return [
        tuple((name(place) or b"").decode("utf-8", "replace") for name in names)  # type: ignore[misc]  # four of them
        for place in range(library.arv_get_n_devices())
    ]


class StampClock:
    """Maps the time stamps of a camera to UTC; see the module."""

    def __init__(self) -> None:
        self._ways: deque[tuple[datetime, timedelta]] = deque(maxlen=_STAMPS)
        self._last: datetime | None = None

    def utc(self, stamp_ns: int, *, arrived: datetime) -> datetime:
        """The UTC of a stamp; never before that of the stamp before it.

        Args:
            stamp_ns: nanoseconds of the camera's clock; 0: it gives none.
            arrived: when its image was there.
        """
        if not stamp_ns:
            return arrived
        stamp = _EPOCH + timedelta(microseconds=stamp_ns // 1000)
        way = arrived - stamp
        while self._ways and arrived - self._ways[0][0] > _WINDOW:
            self._ways.popleft()
        if self._ways and abs(way - self._shortest()) > _JUMP:  # a clock was set
            self._ways.clear()
            self._last = None
        self._ways.append((arrived, way))
        found = stamp + self._shortest()
        self._last = found if self._last is None else max(found, self._last)
        return self._last

    def _shortest(self) -> timedelta:
        return min(way for _, way in self._ways)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AravisSource:
    """One camera; read by one thread, ``trigger`` may be called from others."""

    def __init__(self, camera: CameraRecord, *, clock: Clock, refused: Refused) -> None:
        """Connect to nothing yet."""
        self._camera = camera
        self._clock = clock
        self._refused = refused
        self._id = unquote(camera.source.reveal().removeprefix("aravis://"))
        self._device: int | None = None
        self._stream: int | None = None
        self._parser: int | None = None
        self._kind, self._registers = "", dict[str, int]()
        self._shape = 0, 0, 0
        self._is_acquiring = False
        self._asked = deque[str]()
        self._asker = Worker(f"ask-{camera.id}", self._ask_all, every_s=math.inf, clock=clock)
        self._looks = 0
        self._absence: UnavailableError | None = None
        self._number = self._incomplete = 0
        self._stamps = StampClock()
        self._heard_s = self._checked_s = 0.0

    def connect(self) -> Grab:
        """Set the camera up and begin to acquire.

        Raises:
            InvalidError: it cannot do what its record asks for.
            MissingExtraError: the library is not installed.
            UnavailableError: no such camera answers, or another program has it.
        """
        self._asked.clear()
        self._looks, self._absence = 0, None
        self._number = self._incomplete = 0
        if not _ADDRESS.fullmatch(self._id):  # by this the interface is found that reaches it
            _library().arv_update_device_list()
        try:
            with _PARSING:
                self._device = _call("arv_camera_new", self._id.encode())
            self._set_up()
            self._begin()
        except OSError as error:
            self.close()
            raise self._away(error) from error
        except InvalidError:
            self.close()
            raise
        self._stamps = StampClock()
        self._heard_s = self._checked_s = self._clock.monotonic()
        self._asker.start()
        return self._grab

    def close(self) -> None:
        """Leave the camera."""
        library = _library()
        was_acquiring, self._is_acquiring = self._is_acquiring, False
        self._asker.stop()  # what is asked ends before the camera is freed
        if was_acquiring:
            with suppress(OSError):  # it is away
                _call("arv_camera_stop_acquisition", self._device)
        for one in (self._stream, self._parser, self._device):
            if one is not None:
                library.g_object_unref(one)
        self._stream = self._parser = self._device = None

    def trigger(self) -> None:
        """Have a picture taken now, without waiting for the camera."""
        self._ask(_TRIGGER)

    def _ask(self, name: str) -> None:
        if self._is_acquiring:
            self._asked.append(name)
            self._asker.wake()

    def _ask_all(self) -> None:
        """Ask the camera for what waits; an entry goes once it is answered."""
        while self._asked and not self._asker.stopping.is_set():
            try:
                _call(self._asked[0], self._device)
                if self._asked[0] == _CHECK and not self._controls():
                    self._absence = UnavailableError(
                        "the camera takes no orders from this device any more",
                        where=self._camera.source,
                        fix="Look whether another program has it, or this machine was at rest.",
                    )
            except OSError as error:
                if self._asked[0] == _TRIGGER:
                    self._refused(TRIGGER_FAILED, str(self._away(error)))
                else:
                    self._absence = self._away(error)
            self._asked.popleft()

    def _controls(self) -> bool:
        library = _library()
        return not self._is_network() or bool(
            library.arv_gv_device_is_controller(library.arv_camera_get_device(self._device))
        )

    def _is_network(self) -> bool:
        return bool(_library().arv_camera_is_gv_device(self._device))

    def _set_up(self) -> None:
        device, camera = self._device, self._camera
        _call("arv_camera_set_acquisition_mode", device, 0)
        if _call("arv_camera_get_pixel_format_as_string", device).decode() not in _FORMATS:
            self._set("pixel format", "arv_camera_set_pixel_format_from_string", self._format())
        for key, value, name in (
            ("exposure_us", camera.exposure_us, "exposure_time"),
            ("gain", camera.gain, "gain"),
        ):
            if value is not None:
                if _call(f"arv_camera_is_{name.removesuffix('_time')}_auto_available", device):
                    _call(f"arv_camera_set_{name}_auto", device, 0)
                self._need(key, f"arv_camera_is_{name}_available")
                self._set(key, f"arv_camera_set_{name}", value)
        if camera.part_id:
            self._find_chunk()
            self._set("part_id", "arv_camera_set_chunk_mode", 1)
            whole = camera.part_id.encode()
            chunk = whole.removeprefix(b"Chunk")
            with suppress(OSError):  # it has no selector, as the next call says
                if _call(_HAS_ENTRY, device, b"ChunkSelector", whole):
                    chunk = whole
            self._set("part_id", "arv_camera_set_chunk_state", chunk, 1)
        if camera.trigger:
            source = "Software" if camera.trigger == "software" else camera.trigger
            self._set("trigger", "arv_camera_set_trigger", source.encode())
            return
        _call("arv_camera_clear_triggers", device)
        if camera.every_s is not None:
            self._need("every_s", "arv_camera_is_frame_rate_available")
            self._set("every_s", "arv_camera_set_frame_rate", 1 / camera.every_s)

    def _need(self, key: str, name: str) -> None:
        if not _call(name, self._device):
            raise InvalidError(
                f"the camera has no {key}", where=self._camera.source, fix=f"Remove {key}."
            )

    def _find_chunk(self) -> None:
        library, size = _library(), c_size_t()
        data = library.arv_device_get_genicam_xml(
            library.arv_camera_get_device(self._device), byref(size)
        )
        xml = ctypes.string_at(data, size.value).rstrip(b"\0")
        where = self._camera.source
        self._kind, self._registers = find_chunk(xml, self._camera.part_id, where=where)
        self._parser = parse(xml)
        if self._parser is None:
            raise InvalidError("the camera's description cannot be read", where=where)

    def _set(self, key: str, name: str, *values: object) -> None:
        try:
            _call(name, self._device, *values)
        except OSError as error:
            raise InvalidError(
                f"the camera does not take {key}: {error.strerror}", where=self._camera.source,
                fix=f"Look up what it takes by `arv-tool-0.8 features`, or remove {key}.",
            ) from error  # fmt: skip

    def _format(self) -> bytes:
        for name in _FORMATS:
            if _call(_HAS_ENTRY, self._device, b"PixelFormat", name.encode()):
                return name.encode()
        raise InvalidError(
            "the camera has no pixel format of 8 bits", where=self._camera.source,
            fix=f"Wanted is one of {', '.join(_FORMATS)}.",
        )  # fmt: skip

    def _begin(self) -> None:
        library = _library()
        size = _call("arv_camera_get_payload", self._device)
        if not 0 < size <= _MOST_BYTES:
            raise InvalidError(
                f"the camera sends {size} bytes for one image, at most {_MOST_BYTES} are taken",
                where=self._camera.source, fix="Set a smaller region or a format of 8 bits.",
            )  # fmt: skip
        width, height, form = (
            _call("arv_camera_get_integer", self._device, name)
            for name in (b"Width", b"Height", b"PixelFormat")
        )
        self._shape = width, height, form
        self._open_stream(size)
        for _ in range(_BUFFERS):
            library.arv_stream_push_buffer(self._stream, library.arv_buffer_new_allocate(size))
        _call("arv_camera_start_acquisition", self._device)
        self._is_acquiring = True

    def _open_stream(self, size: int) -> None:
        library, wanted = _library(), _BUFFERS * size
        is_network = self._is_network()
        if is_network:
            with socket.socket(type=socket.SOCK_DGRAM) as one:
                kept = widen_buffer(one.fileno(), wanted)
            is_enough = kept >= 2 * size  # it doubles the limit, for its notes on each packet
            library.arv_camera_gv_set_stream_options(
                self._device, _PLAIN_SOCKET if is_enough else 0
            )
            if not is_enough:
                logger.warning(
                    "the kernel keeps %d bytes of a stream, an image has %d: raise"
                    " net.core.rmem_max to %d camera=%s", kept // 2, size, wanted, self._camera.id,
                )  # fmt: skip
        self._stream = _call("arv_camera_create_stream", self._device, None, None)
        if is_network:
            library.g_object_set(self._stream, b"socket-buffer", _FIXED, None)
            for number in udp_sockets(library.arv_gv_stream_get_port(self._stream)):
                widen_buffer(number, wanted)

    def _grab(self) -> Picture:
        library = _library()
        buffer = library.arv_stream_timeout_pop_buffer(self._stream, int(_POLL_S * 1e6))
        now_s = self._clock.monotonic()
        if buffer is None:
            self._check(now_s)
            return Picture()
        arrived = self._clock.now()
        self._heard_s = self._checked_s = now_s
        self._looks = 0
        reason = UNREADABLE
        try:
            image = self._image(buffer)
            self._count(library.arv_buffer_get_frame_id(buffer))
            at = self._stamps.utc(library.arv_buffer_get_timestamp(buffer), arrived=arrived)
            reason = NO_PART
            part = self._part(buffer)
        except InvalidError as error:
            self._incomplete += reason == UNREADABLE
            self._refused(reason, str(error))
            return Picture()
        finally:
            library.arv_stream_push_buffer(self._stream, buffer)
        return Picture(image=image, captured_at=at, part=part)

    def _part(self, buffer: int) -> str:
        """The part id of an image.

        Raises:
            InvalidError: it has none that could be told from another.
        """
        library, name = _library(), self._camera.part_id
        if not name:
            return ""
        library.arv_gc_set_buffer(self._parser, buffer)
        try:
            for register, chunk in self._registers.items():
                self._check_length(buffer, register, chunk)
            node = library.arv_gc_get_node(self._parser, name.encode())
            value = _call(f"arv_gc_{self._kind}_get_value", node)
        except OSError as error:
            raise InvalidError(f"{name}: {error.strerror}", where=self._camera.source) from error
        return part_id(value, where=self._camera.source)

    def _check_length(self, buffer: int, register: str, chunk: int) -> None:
        library, size = _library(), c_size_t()
        node = library.arv_gc_get_node(self._parser, register.encode())
        end = _call("arv_gc_register_get_address", node)
        end += max(1, _call("arv_gc_register_get_length", node))
        if library.arv_buffer_has_chunks(buffer):
            library.arv_buffer_get_chunk_data(buffer, chunk, byref(size))
        if size.value < end:
            raise InvalidError(
                f"{register}: {size.value} bytes of the chunk came, {end} are needed",
                where=self._camera.source,
            )

    def _count(self, number: int) -> None:
        """Refuse the images between the one before and this one of which nothing came."""
        missing = (number - self._number - 1) % _NUMBERS - self._incomplete
        if self._number and missing <= _MOST_MISSING:
            for _ in range(missing):
                self._refused(IMAGE_LOST, f"one before number {number} never came")
        self._number, self._incomplete = number, 0

    def _check(self, now_s: float) -> None:
        """Ask a camera that is silent whether it is there.

        Raises:
            UnavailableError: it is not, or should have given an image long ago.
        """
        self._looks = self._looks + 1 if self._asked else 0
        if self._looks >= _LOOKS:
            self._absence = self._away(OSError(0, f"nothing came within {_LOOKS * _POLL_S:g} s"))
        if self._absence is not None:
            self._is_acquiring = False
            raise self._absence
        if self._asked:
            return
        if now_s - self._checked_s >= _CHECK_S:
            self._checked_s = now_s
            self._ask(_CHECK)
        silent_s = max(self._camera.silent_after_s, 2 * (self._camera.every_s or 0.0))
        if not self._camera.trigger and now_s - self._heard_s > silent_s:
            raise UnavailableError(
                f"it answers, but sent no image for {silent_s:g} s", where=self._camera.source,
                fix="Look whether packets of its stream are blocked (firewall, MTU, exposure).",
            )  # fmt: skip

    def _image(self, buffer: int) -> Pixels:
        library, size, padding = _library(), c_size_t(), c_int()
        status = library.arv_buffer_get_status(buffer)
        if status:
            raise InvalidError(f"image incomplete (status {status})", where=self._camera.source)
        width, height, form = self._shape
        if library.arv_buffer_get_payload_type(buffer) == _CHUNK_DATA:
            data = library.arv_buffer_get_data(buffer, byref(size))
        else:
            data = library.arv_buffer_get_image_data(buffer, byref(size))
            width = library.arv_buffer_get_image_width(buffer)
            height = library.arv_buffer_get_image_height(buffer)
            form = library.arv_buffer_get_image_pixel_format(buffer)
            library.arv_buffer_get_image_padding(buffer, byref(padding), None)
        raw = ctypes.string_at(data, size.value) if data else b""
        return read_pixels(
            raw, width=width, height=height, form=form, where=self._camera.source,
            padding=padding.value,
        )  # fmt: skip

    def _away(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"the camera does not answer: {error.strerror}", where=self._camera.source,
            fix="Look for its id by `lineside camera list`, and whether another program has it.",
        )  # fmt: skip


def widen_buffer(number: int, size: int) -> int:
    """Have the kernel keep more of what comes at a socket.

    The library sets its socket's buffer when the first packet came: what followed too fast for the
    kernel's default (some 90 packets of 1,500 bytes) was lost, most often with the first image.

    Args:
        number: of the socket's file.
        size: in bytes; ``net.core.rmem_max`` limits it.

    Returns:
        Bytes that it keeps now, with what it notes about them.
    """
    with socket.socket(fileno=os.dup(number)) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def udp_sockets(port: int) -> Iterator[int]:
    """Numbers of the files of this process that are UDP sockets bound to a port."""
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if not str(path.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as one:
                if one.type == socket.SOCK_DGRAM and one.getsockname()[1:] == (port,):
                    yield int(path.name)


def parse(xml: bytes) -> int | None:
    """The library's nodes of a camera's description; None: it cannot read it."""
    with _PARSING:
        found: int | None = _library().arv_gc_new(None, xml, len(xml))
    return found


def find_chunk(xml: bytes, feature: str, *, where: str) -> tuple[str, dict[str, int]]:
    """Kind of a chunk feature, and the id of the chunk of each register that it reads.

    A register comes behind those that its address or length is computed from.

    Args:
        xml: the camera's description of its features (GenICam).
        feature: name of the feature.
        where: named in errors.

    Raises:
        InvalidError: the camera has no such feature, or it reads no chunk.
    """
    try:
        tree = fromstring(xml)  # noqa: S314  the library has read it before
        named = (one for one in tree.iter() if "Name" in one.attrib)
        nodes = {one.attrib["Name"]: one for one in named if _tag(one) != "EnumEntry"}
        found = _registers(nodes, feature)
    except (ParseError, ValueError) as error:
        raise InvalidError(
            f"the camera's description of {feature} cannot be read: {error}", where=where,
            fix="Name another chunk feature.",
        ) from error  # fmt: skip
    kind = _KINDS.get(_tag(nodes[feature])) if found else None
    if kind is None:
        raise InvalidError(
            f"the camera has no chunk feature {feature}", where=where,
            fix=nearest(feature, _readable(nodes)),
        )  # fmt: skip
    return kind, found


def _registers(nodes: dict[str, Element], feature: str) -> dict[str, int]:
    found, seen = dict[str, int](), set[str]()

    def visit(name: str) -> None:
        if name not in nodes or name in seen:
            return
        seen.add(name)
        chunk = None
        for one in nodes[name].iter():
            tag, text = _tag(one), (one.text or "").strip()
            if tag in _FOREIGN:
                raise ValueError(f"{tag} is a form that is not supported")
            for other in (text if tag in _REFERENCES else "", one.get("pOffset", "")):
                visit(other)
            if tag in {"Address", "Length"}:
                int(text, 0)
            for part in nodes.get(text, ()) if tag == "pPort" else ():
                if _tag(part) == "ChunkID":
                    chunk = int(part.text or "", 16)
        if chunk is not None:
            found[name] = chunk

    visit(feature)
    return found


def _readable(nodes: dict[str, Element]) -> list[str]:
    """Names of the chunk features that can be read, without the registers behind them."""
    known, behind = set[str](), set[str]()
    for name, node in nodes.items():
        with suppress(ValueError):
            registers = _registers(nodes, name) if name.startswith("Chunk") else {}
            if registers and _tag(node) in _KINDS:
                known.add(name)
                behind |= registers.keys() - {name}
    return sorted(known - behind)


def _tag(node: Element) -> str:
    return node.tag.rpartition("}")[2]


def part_id(value: float | bytes | None, *, where: str) -> str:
    """The value of a chunk as a part id.

    Raises:
        InvalidError: it is empty, longer than part ids are, no UTF-8 or no finite number.
    """
    if isinstance(value, bytes):
        text = value.decode("utf-8", "surrogateescape").strip()
    else:
        number = math.nan if value is None else value + 0  # of -0.0 too
        text = repr(number).removesuffix(".0") if math.isfinite(number) else ""
    if not text or not text.isprintable() or len(text) > LONGEST_PART:
        raise InvalidError(f"{value!r} is no part id", where=where)
    return text


def read_pixels(
    raw: bytes, *, width: int, height: int, form: int, where: str, padding: int = 0
) -> Pixels:
    """An image as GenICam's pixel format naming convention lays it out.

    Args:
        raw: of the image.
        width: in pixels.
        height: in pixels.
        form: 32-bit code of the pixel format.
        where: named in errors.
        padding: bytes behind each row.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        InvalidError: another format than Mono8, Bayer..8, RGB8 and BGR8, or too few bytes.
    """
    cv2 = need("cv2", extra="edge")
    codes = {
        0x01080001: cv2.COLOR_GRAY2RGB,
        0x01080008: cv2.COLOR_BayerGRBG2RGB,
        0x01080009: cv2.COLOR_BayerRGGB2RGB,
        0x0108000A: cv2.COLOR_BayerGBRG2RGB,
        0x0108000B: cv2.COLOR_BayerBGGR2RGB,
        0x02180014: None,
        0x02180015: cv2.COLOR_BGR2RGB,
    }
    if form not in codes:
        raise InvalidError(
            f"a pixel format that is not read: {form:#010x}", where=where,
            fix=f"Set one of {', '.join(_FORMATS)}.",
        )  # fmt: skip
    is_color = form >> 16 == 0x0218
    row = width * 3 if is_color else width
    count = height * (row + padding)
    if min(width, height) < 1 or padding < 0 or count > len(raw):
        raise InvalidError(f"{len(raw)} bytes for an image of {width} x {height}", where=where)
    rows = np.frombuffer(raw, np.uint8, count).reshape(height, row + padding)[:, :row]
    image = rows.reshape((height, width, 3) if is_color else (height, width))
    code = codes[form]
    found: Pixels = image.copy() if code is None else cv2.cvtColor(image, code)
    return found


def open_aravis_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
) -> LiveCamera:
    """Open the camera; errors as of ``AravisSource.connect``."""
    source = AravisSource(camera, clock=clock, refused=refused)
    live = LiveCamera(
        camera,
        clock=clock,
        refused=refused,
        connect=source.connect,
        release=source.close,
        trigger=source.trigger,
    )
    live.start(source.connect())
    return live
