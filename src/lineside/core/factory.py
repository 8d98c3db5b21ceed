"""Messages of the fischertechnik training factory, as its firmware sends and takes them.

Source: MqttInterface.md and TxtMqttFactoryClient.cpp of fischertechnik/txt_training_factory.
Rules:

1. ``ts`` is ISO 8601 UTC with milliseconds and a literal ``Z``; without it a message is refused.
2. The payload carries no topic; a bridge over HTTP adds ``topic``.
3. ``br`` of ``i/ldr`` is text (``"84.3"``) from the firmware and a number in its page: both read.
4. Fields the firmware may add are passed over here and stay in the stored event.
"""

import base64
import math
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from lineside.core.clock import parse_rfc3339, rfc3339
from lineside.core.codec import decode_json, nearest
from lineside.core.errors import InvalidError

T = TypeVar("T", bound=msgspec.Struct)

# The reference's document collections (database ``aws``) and the partition of all its documents.
PARTITION = "DTPartition"
CAMERA_COLLECTION = "factory_camera"
STOCK_COLLECTION = "sagemaker_stock_inference"
ORDER_COLLECTION = "digital_twin_orders"

SLOTS = ("A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3")
_JPEG_MARK = ";base64,"
_NO_TARGET = ("target", "")


class OrderState(StrEnum):
    """State of the factory's order, in the order it runs through them."""

    WAITING_FOR_ORDER = "WAITING_FOR_ORDER"
    ORDERED = "ORDERED"
    IN_PROCESS = "IN_PROCESS"
    SHIPPED = "SHIPPED"


class Colour(StrEnum):
    """Type of a workpiece as the factory writes it; ``NONE`` when nothing is ordered."""

    BLUE = "BLUE"
    RED = "RED"
    WHITE = "WHITE"
    NONE = "NONE"


class PieceState(StrEnum):
    """State of a workpiece on its way through the factory."""

    RAW = "RAW"
    PROCESSED = "PROCESSED"
    REJECTED = "REJECTED"


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    ts: str

    @property
    def at(self) -> datetime:
        """The sender's time, aware UTC."""
        return parse_rfc3339(self.ts, where="ts")


class CameraMessage(_Message, frozen=True, kw_only=True):
    """``i/cam``: a picture as a data URL."""

    data: str

    def picture(self) -> bytes:
        """The picture's bytes: what follows the last ``;base64,``.

        Raises:
            InvalidError: no such mark, or no base64 behind it.
        """
        head, mark, text = self.data.rpartition(_JPEG_MARK)
        if not mark or not head.startswith("data:image/"):
            raise InvalidError(
                f"{self.data[:40]!r} is no picture",
                where="data",
                fix="Send data:image/jpeg;base64, and the picture.",
            )
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise InvalidError(
                f"bad base64: {error}", where="data", fix="Encode with standard base64."
            ) from error


class ClimateMessage(_Message, frozen=True, kw_only=True):
    """``i/bme680``: °C, %, hPa, air quality 0-500 with accuracy 0-3, gas resistance in ohm."""

    t: float | None = None
    rt: float | None = None
    h: float | None = None
    rh: float | None = None
    p: float | None = None
    iaq: float | None = None
    aq: float | None = None
    gr: float | None = None


class BrightnessMessage(_Message, frozen=True, kw_only=True):
    """``i/ldr``: resistance 0-15000 ohm and brightness in percent, (15000 - ldr) / 150."""

    ldr: float | None = None
    br: str | float | None = None

    @property
    def brightness(self) -> float | None:
        """``br`` as a number, whichever way it was sent."""
        if self.br is None:
            return None
        try:
            brightness = float(self.br)
        except ValueError:
            brightness = math.nan
        if not math.isfinite(brightness):
            raise InvalidError(
                f"{self.br!r} is no brightness", where="br", fix='Send a number or "84.3".'
            )
        return brightness


class Workpiece(msgspec.Struct, frozen=True, kw_only=True):
    """A disc with its NFC id."""

    id: str
    type: Colour
    state: PieceState = PieceState.RAW


class StockItem(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of the rack; ``workpiece`` None is an empty slot."""

    location: str
    workpiece: Workpiece | None = None


class StockMessage(_Message, frozen=True, kw_only=True):
    """``f/i/stock``: nine entries, A1 … C3."""

    stock_items: tuple[StockItem, ...] = msgspec.field(name="stockItems")


class OrderMessage(_Message, frozen=True, kw_only=True):
    """``f/i/order``: the factory's order state; the last state comes twice."""

    state: OrderState
    type: Colour = Colour.NONE


class StationMessage(_Message, frozen=True, kw_only=True):
    """``f/i/state/<s>``: one station's state; ``active`` is 1 while it works."""

    station: str
    code: int
    description: str = ""
    active: int | bool = 0
    target: str = ""


class AlertMessage(_Message, frozen=True, kw_only=True):
    """``i/alert``: code 100 movement (``data`` is text), 200 frost, 300 humidity (a number)."""

    id: str
    code: int
    data: str | float


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a workpiece's life on its tag: code 100 delivered raw … 800 shipped."""

    ts: str
    code: int


class TagMessage(_Message, frozen=True, kw_only=True):
    """``f/i/nfc/ds``: the tag read at the delivery station."""

    workpiece: Workpiece | None = None
    history: tuple[HistoryItem, ...] = ()


class PanTiltMessage(_Message, frozen=True, kw_only=True):
    """``i/ptu/pos``: where the camera looks, each -1 to 1."""

    pan: float
    tilt: float


class BroadcastMessage(_Message, frozen=True, kw_only=True, rename="camel"):
    """``i/broadcast``: who the controller is."""

    hardware_id: str
    hardware_model: str
    software_name: str
    software_version: str
    message: str = ""


class OrderCommand(_Message, frozen=True, kw_only=True):
    """``f/o/order``: what we ask the factory for."""

    type: Colour


def read_message(kind: type[T], raw: bytes | dict[str, Any], *, where: str) -> T:
    """Read one message of the factory; its ``ts`` is checked too.

    Raises:
        InvalidError: not JSON, a field of another type, or a ``ts`` that is no time.
    """
    document = decode_json(raw, where=where) if isinstance(raw, bytes) else raw
    try:
        message = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise InvalidError(str(error), where=where, fix="Send the documented fields.") from error
    parse_rfc3339(message.ts, where=f"{where} ts")  # type: ignore[attr-defined]  # every kind has ts
    return message


def write_message(message: msgspec.Struct) -> bytes:
    """The message as JSON; a value that was not measured and an empty target are left out."""
    fields = msgspec.to_builtins(message)
    absent = [name for name in fields if fields[name] is None or (name, fields[name]) == _NO_TARGET]
    return msgspec.json.encode({name: fields[name] for name in fields if name not in absent})


def order_command(colour: str, *, at: datetime) -> bytes:
    """``f/o/order`` for a lower-case colour name.

    Raises:
        InvalidError: no such colour.
    """
    names = [one.value.lower() for one in Colour if one is not Colour.NONE]
    if colour not in names:
        raise InvalidError(
            f"{colour!r} is no colour to order", where="colour", fix=nearest(colour, names)
        )
    return write_message(OrderCommand(ts=rfc3339(at), type=Colour(colour.upper())))
