"""Functions that read a picture from a store and have it answered.

1. A caller names store, prefix, endpoint and picture; all four are needed, and the first three must
   be those of the function's settings. Nothing else can be read through it.
2. The picture's bytes come back as they are. The prediction is what the endpoint answers.
3. A failure has its own status and a sentence; it never looks like an answer. A reply carries no
   context of the machine that made it, and lets no foreign page read it.
4. Names are relative to the function's prefix; none leads out of it.
5. On offer is what the settings' ``ids`` name, else every picture below the prefix, at most 20,000.
   Numbers name files of five digits or more (``00523.jpg``), and unpadded ones where those are not
   there (``523.jpg``).
6. A record is ``<records>/<stem>.json`` with ``EXPECTED_QUANTITY``; a missing one is no fault.
"""

import base64
import csv
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    RefusedError,
    decode,
    decode_json,
)
from lineside.hub.config import FunctionConfig, HubConfig, own_places
from lineside.hub.inference.endpoints import (
    EndpointPrediction,
    Values,
    endpoint_values,
    find_endpoint,
    predict_endpoint,
)
from lineside.hub.models.packages import Packages
from lineside.hub.problems import redact

_PICTURES = (".jpg", ".jpeg", ".png")
_MOST_OFFERED = 20_000
_MOST_PICTURE_BYTES = 16_000_000
_MOST_RECORD_BYTES = 4_000_000
_MOST_LIST_BYTES = 16_000_000
_MOST_QUANTITY = 1_000_000
_LISTED_FOR_S = 30.0
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRecord:
    """Inventory record of a picture's bin; ``reason`` where it has no usable quantity."""

    quantity: int | None = None
    reason: str = ""


class Objects(Protocol):
    """Files of a store by relative name."""

    def files(self, folder: str = "") -> Iterator[str]:
        """Names directly in a folder, in any order."""
        ...

    def read(self, name: str, *, most: int) -> bytes:
        """``NotFoundError`` where there is none, ``InvalidError`` above ``most`` bytes."""
        ...


class PictureStore:
    """Pictures and records that one function may read; safe from several threads."""

    def __init__(self, function: FunctionConfig, *, clock: Clock) -> None:
        """Open nothing yet, but refuse what could never be opened."""
        self._function = function
        self._clock = clock
        self._objects = open_objects_of(function.store)
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._listed_s: float | None = None

    def names(self) -> tuple[str, ...]:
        """Every picture on offer, in order; listed again after half a minute.

        Raises:
            NotFoundError, UnavailableError, InvalidError: store or list cannot be read.
        """
        with self._lock:
            now_s = self._clock.monotonic()
            if self._listed_s is None or now_s - self._listed_s > _LISTED_FOR_S:
                self._names = self._list()
                self._listed_s = now_s
            return self._names

    def offered(self, wanted: str) -> str:
        """The name on offer that this name or number means.

        Raises:
            RefusedError: it is not on offer.
        """
        written = wanted.strip()
        names = self.names()
        for name in (written, picture_name(written), f"{written}.jpg"):
            if name in names:
                return name
        raise RefusedError(
            f"{wanted[:60]!r} is not among the pictures on offer",
            where="picture",
            fix="Choose one of the list.",
        )

    def read(self, name: str) -> bytes:
        """A picture's bytes.

        Raises:
            NotFoundError: there is none of this name.
            RefusedError: the name leads out of the function's prefix.
            InvalidError: it is too large.
        """
        written = PurePosixPath(_inside(name))
        for stem in _stems(written.stem):
            try:
                return self._read(
                    self._function.prefix, str(written.with_stem(stem)), most=_MOST_PICTURE_BYTES
                )
            except NotFoundError:
                continue
        raise NotFoundError(
            f"there is no picture {name[:60]!r}",
            where=self._function.bucket_name,
            fix="Choose one of the list.",
        )

    def inventory_record(self, name: str) -> InventoryRecord:
        """Return the inventory record of the bin that a picture shows."""
        if not self._function.records:
            return InventoryRecord(reason="no inventory records are configured")
        for one in _stems(PurePosixPath(name).stem):
            try:
                raw = self._read(self._function.records, f"{one}.json", most=_MOST_RECORD_BYTES)
            except NotFoundError:
                continue
            except LinesideError as error:
                return InventoryRecord(
                    reason=f"the inventory record cannot be read: {error.message}"
                )
            return _read_record(raw)
        return InventoryRecord(reason="there is no inventory record of this picture")

    def _read(self, prefix: str, name: str, *, most: int) -> bytes:
        folder = prefix.strip("/")
        return self._objects.read(f"{folder}/{name}" if folder else name, most=most)

    def _list(self) -> tuple[str, ...]:
        if self._function.ids:
            return _named_in(Path(self._function.ids))
        folder = self._function.prefix.strip("/")
        names = (PurePosixPath(path).name for path in self._objects.files(folder))
        pictures = (name for name in names if name.lower().endswith(_PICTURES))
        return tuple(sorted(islice(pictures, _MOST_OFFERED)))


def picture_name(wanted: str) -> str:
    """``00523.jpg`` of 523; a name stays as it is."""
    return f"{int(wanted):05d}.jpg" if wanted.isascii() and wanted.isdigit() else wanted


def _stems(stem: str) -> tuple[str, ...]:
    """The stem, and the number it is without its zeros."""
    short = stem.lstrip("0") or "0"
    return (stem,) if not stem.isdigit() or short == stem else (stem, short)


def open_objects_of(store: str) -> Objects:
    """The files below a URL; asks nothing of it yet.

    Raises:
        InvalidError: no URL of a folder or bucket.
        MissingExtraError: the bucket's driver is not installed.
    """
    parts = urlsplit(store)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return FolderObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from lineside.store import open_objects

        return open_objects(store)
    raise InvalidError(
        "not a store of pictures",
        where=store.partition("?")[0],
        fix="Write file:///folder or s3://bucket/prefix.",
    )


class FolderObjects:
    """A folder of this machine; a name never leads out, by dots or by links."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def files(self, folder: str = "") -> Iterator[str]:
        """Names directly in a folder."""
        place = self._path(folder)
        if not place.is_dir():
            raise NotFoundError(
                "there is no such folder of pictures", where=str(place), fix="Mend `store`."
            )
        for path in place.iterdir():
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self._root).as_posix()

    def read(self, name: str, *, most: int) -> bytes:
        """A file's bytes."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise NotFoundError("there is no such file", where=name) from error
        if len(data) > most:
            raise InvalidError(f"more than {most} bytes", where=name, fix="Choose another.")
        return data

    def _path(self, name: str) -> Path:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise RefusedError("the name leads out of the store", where="name", fix="Use another.")
        return path


def _inside(name: str) -> str:
    """The name as it is written, where it cannot lead out of the prefix."""
    parts = name.split("/")
    odd = len(name) > _LONGEST_NAME or not name.isprintable() or "\\" in name
    if odd or any(part in ("", ".", "..") for part in parts):
        raise RefusedError(
            f"{name[:60]!r} is no name of a picture here", where="image_name", fix="Send its name."
        )
    return name


def _read_record(raw: bytes) -> InventoryRecord:
    try:
        document = decode_json(raw, where="record")
    except LinesideError as error:
        return InventoryRecord(reason=f"the inventory record cannot be read: {error.message}")
    quantity = document.get("EXPECTED_QUANTITY") if isinstance(document, dict) else None
    if isinstance(quantity, bool) or not isinstance(quantity, int):
        return InventoryRecord(reason="the inventory record has no EXPECTED_QUANTITY")
    if not 0 <= quantity <= _MOST_QUANTITY:
        return InventoryRecord(reason=f"the inventory record expects {quantity} objects")
    return InventoryRecord(quantity=quantity)


def _named_in(path: Path) -> tuple[str, ...]:
    """Names of a list: a line each, or the column ``id`` of a table."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_LIST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            "the list of pictures on offer cannot be read", where=str(path), fix="Mend `ids`."
        ) from error
    rows = [row for row in csv.reader(text.splitlines()) if row]
    place = rows[0].index("id") if rows and "id" in rows[0] else None
    cells = [row[place] for row in rows[1:] if len(row) > place] if place is not None else [
        row[0] for row in rows
    ]  # fmt: skip
    names = dict.fromkeys(picture_name(cell.strip()) for cell in cells if cell.strip())
    return tuple(islice(names, _MOST_OFFERED))


_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRequest:
    """Request of a caller."""

    s3_bucket: str
    s3_prefix: str
    endpoint_name: str
    image_name: str

    def __post_init__(self) -> None:
        if not self.image_name:
            raise InvalidError("no picture named", where="image_name", fix="Name one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionResult:
    """A picture with what its endpoint answered."""

    picture: bytes
    prediction: Values
    package: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionReply:
    """The document of the function contract; ``failed`` where its status is not 200."""

    document: dict[str, Any]
    failed: bool


class Functions:
    """The functions of the hub's settings; safe from several threads."""

    def __init__(
        self,
        settings: tuple[FunctionConfig, ...],
        *,
        plant: Plant,
        packages: Packages,
        clock: Clock,
    ) -> None:
        for one in settings:
            find_endpoint(plant, one.endpoint)
        self._settings = {one.name: one for one in settings}
        self._stores = {one.name: PictureStore(one, clock=clock) for one in settings}
        self._plant = plant
        self._packages = packages

    def all(self) -> tuple[FunctionConfig, ...]:
        """In the order of the settings."""
        return tuple(self._settings.values())

    def one(self, name: str) -> FunctionConfig:
        """``NotFoundError`` lists the known ones."""
        if name not in self._settings:
            known = ", ".join(self._settings) or "none; add [[function]] to the hub's settings"
            raise NotFoundError(f"no function {name!r}", where="function", fix=f"Known: {known}.")
        return self._settings[name]

    def pictures_of(self, name: str) -> PictureStore:
        """Return the pictures that the function may read."""
        return self._stores[self.one(name).name]

    def predict(self, name: str, picture: bytes) -> EndpointPrediction:
        """Return the prediction of the function's endpoint for a picture."""
        endpoint = self.one(name).endpoint
        return predict_endpoint(self._packages, self._plant, endpoint=endpoint, picture=picture)

    def explain(self, package: Digest, picture: bytes) -> dict[str, NDArray[np.float32]]:
        """Return activation maps: name → (height, width) 0-1 on the picture's pixels."""
        frame, predictor = self._packages.judge(package, picture)
        return predictor.explain(frame)

    def call(self, name: str, request: FunctionRequest) -> FunctionResult:
        """Read the picture, have it answered.

        Raises:
            RefusedError: a store, prefix or endpoint that is not the function's.
            NotFoundError: no such function or picture, or no package is in use.
            InvalidError: the picture is none, or cannot be judged.
        """
        function = self.one(name)
        self._check(function, request)
        picture = self._stores[name].read(request.image_name)
        found = self.predict(name, picture)
        return FunctionResult(
            picture=picture, prediction=endpoint_values(self._plant, found), package=found.package
        )

    def _check(self, function: FunctionConfig, request: FunctionRequest) -> None:
        inspection = find_endpoint(self._plant, function.endpoint)
        allowed = {
            "s3_bucket": (function.bucket_name,),
            "s3_prefix": (function.prefix, function.prefix.strip("/")),
            "endpoint_name": (function.endpoint, inspection.endpoint, inspection.id),
        }
        for key, names in allowed.items():
            known = [name for name in names if name] or [""]
            if getattr(request, key) not in known:
                raise RefusedError(
                    f"this function does not read {getattr(request, key)!r}",
                    where=key,
                    fix=f"Name {names[0]!r}.",
                )


def reply_to(
    functions: Functions, name: str, *, document: object, config: HubConfig
) -> FunctionReply:
    """Call a function with a caller's document; its failures are replies with their own status.

    These name nothing of the hub of ``config``.
    """
    try:
        request = decode(FunctionRequest, document, where="payload")
        result = functions.call(name, request)
    except LinesideError as error:
        return _reply(
            error.http_status, failure_body(redact(error, path=name, own=own_places(config)))
        )
    return _reply(200, result_body(result))


def result_body(result: FunctionResult) -> dict[str, Any]:
    """Picture and prediction as the contract writes them."""
    picture = base64.b64encode(result.picture).decode()
    return {"image": picture, "prediction": result.prediction}


def failure_body(error: LinesideError) -> dict[str, Any]:
    """A failure in words."""
    faults = [f"{fault.path}: {fault.sentence}" for fault in error.faults]
    return {"error": error.message, "where": error.where, "fix": error.fix, "faults": faults}


def _reply(status: int, body: Mapping[str, Any]) -> FunctionReply:
    document = {"statusCode": status, "headers": {"Content-Type": _JSON}, "body": dict(body)}
    return FunctionReply(document=document, failed=status != 200)
