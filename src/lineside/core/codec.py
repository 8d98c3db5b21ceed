"""Parse once, at the door: documents become frozen records, and every fault is named at once.

Rules of ``decode``:

1. Unknown keys are refused, with the known ones listed (and the nearest named).
2. All faults of a document are collected, each with its path (``$.camera[2].width_px``).
3. A record's own ``__post_init__`` may raise ``InvalidError``; it becomes a fault at its path.
4. No coercion: text is not a number, a number is not text; an integer is taken where a float
   stands, because TOML and JSON writers drop ``.0``.

``decode_fast`` skips rule 1 and stops at the first fault; it is for hot paths whose sender is
lineside itself.
"""

import dataclasses
import difflib
import enum
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from lineside.core.clock import parse_rfc3339
from lineside.core.errors import Fault, InvalidError

T = TypeVar("T")
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_LONGEST_SHOWN = 60


def decode(kind: type[T], raw: object, *, where: str) -> T:
    """Turn a document (bytes or text of JSON, or plain objects) into a record of ``kind``.

    Raises:
        InvalidError: with one ``Fault`` for everything that is wrong, in document order.
    """
    document = decode_json(raw, where=where) if isinstance(raw, bytes | str) else raw
    walker = _Walker()
    record = walker.read(kind, document, "$")
    if walker.faults:
        raise faults_error(walker.faults, where=where)
    return typing.cast(T, record)


def faults_error(faults: Sequence[Fault], *, where: str) -> InvalidError:
    """One error for many faults: the message counts them and shows the first."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidError(
        f"{faults[0].path}: {faults[0].value} is not {faults[0].expected}{more}",
        where=where,
        fix=faults[0].fix,
        faults=tuple(faults),
    )


@lru_cache(maxsize=256)
def _fast_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_fast(kind: type[T], raw: bytes, *, where: str) -> T:
    """Decode JSON bytes written by lineside itself: first fault only, unknown keys passed over."""
    try:
        return typing.cast(T, _fast_decoder(typing.cast(Any, kind)).decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError(str(error), where=where, fix="Send the documented shape.") from error


def decode_json(raw: bytes | str, *, where: str) -> Any:
    """Parse JSON text into plain objects; the error names the place."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError(f"not JSON: {error}", where=where, fix="Send one JSON value.") from error


def decode_toml(raw: bytes, *, where: str) -> dict[str, Any]:
    """Parse TOML text into plain objects; the error names line and column."""
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"not TOML: {error}", where=where, fix="Mend the line named.") from error


def encode(record: object) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8; equal records give equal bytes."""
    return msgspec.json.encode(record, order="sorted")


def to_plain(record: object) -> Any:
    """A record as plain dicts, lists, text and numbers, as JSON would carry it."""
    return msgspec.to_builtins(record, order="deterministic")


def json_schema(kind: type[object]) -> dict[str, Any]:
    """JSON Schema 2020-12 of a record type, unknown keys forbidden, for editors."""
    schema = msgspec.json.schema(kind)
    for definition in schema.get("$defs", {}).values():
        if definition.get("type") == "object" and "properties" in definition:
            definition["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return f"{meant}Known: {', '.join(sorted(known))}."


_FAILED = object()
_NAMES: dict[object, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    datetime: "a time such as 2023-05-15T12:41:07.318Z", type(None): "nothing",
}  # fmt: skip


def _name_of(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_name_of(part) for part in get_args(kind) if part is not type(None))
    if origin in (list, tuple, Sequence):
        return "a list"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(kind):
        return "a table"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "one of " + ", ".join(repr(member.value) for member in kind)
    if origin is Literal:
        return "one of " + ", ".join(repr(value) for value in get_args(kind))
    return _NAMES.get(kind, str(kind))


class _Walker:
    """Reads one document against types, keeping every fault it meets."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, path: str, value: object, kind: str, fix: str) -> object:
        self.faults.append(Fault(path=path, value=_shown(value), expected=kind, fix=fix))
        return _FAILED

    def mismatch(self, path: str, value: object, kind: Any) -> object:
        return self.fault(path, value, _name_of(kind), f"Write {_name_of(kind)}.")

    def read(self, kind: Any, value: Any, path: str) -> Any:  # noqa: PLR0911  one return a shape
        kind = getattr(kind, "__supertype__", kind)
        origin = get_origin(kind)
        if kind in (Any, object):
            return value
        if origin in (Union, types.UnionType):
            return self.read_union(kind, value, path)
        if origin is Literal:
            return value if value in get_args(kind) else self.mismatch(path, value, kind)
        if origin in (list, tuple, Sequence):
            return self.read_items(kind, value, path)
        if origin in (dict, Mapping):
            return self.read_table(kind, value, path)
        if dataclasses.is_dataclass(kind):
            return self.read_record(kind, value, path)
        return self.read_leaf(kind, value, path)

    def read_leaf(self, kind: Any, value: Any, path: str) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is datetime and isinstance(value, str):
            try:
                return parse_rfc3339(value)
            except InvalidError:
                return self.mismatch(path, value, kind)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            known = {member.value: member for member in kind}
            hashable = isinstance(value, str | int)
            return known[value] if hashable and value in known else self.mismatch(path, value, kind)
        if isinstance(value, bool) is (kind is bool) and isinstance(value, kind):
            return value
        return self.mismatch(path, value, kind)

    def read_union(self, kind: Any, value: Any, path: str) -> Any:
        if value is None and type(None) in get_args(kind):
            return None
        parts = [part for part in get_args(kind) if part is not type(None)]
        if len(parts) == 1:
            return self.read(parts[0], value, path)
        for part in parts:
            trial = _Walker()
            read = trial.read(part, value, path)
            if not trial.faults:
                return read
        return self.mismatch(path, value, kind)

    def read_items(self, kind: Any, value: Any, path: str) -> Any:
        parts = get_args(kind)
        if not isinstance(value, list | tuple):
            return self.mismatch(path, value, kind)
        fixed = get_origin(kind) is tuple and not (len(parts) == 2 and parts[1] is Ellipsis)
        if fixed and len(value) != len(parts):
            return self.fault(path, value, f"{len(parts)} values", f"Write {len(parts)} values.")
        kinds = parts if fixed else (parts[0],) * len(value)
        read = [
            self.read(part, item, f"{path}[{place}]")
            for place, (part, item) in enumerate(zip(kinds, value, strict=True))
        ]
        return tuple(read) if get_origin(kind) in (tuple, Sequence) else read

    def read_table(self, kind: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self.mismatch(path, value, kind)
        part = get_args(kind)[1]
        return {str(key): self.read(part, item, f"{path}.{key}") for key, item in value.items()}

    def read_record(self, kind: Any, value: Any, path: str) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            return self.mismatch(path, value, kind)
        hints = get_type_hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
        before = len(self.faults)
        for key in value:
            if key not in fields:
                self.fault(f"{path}.{key}", key, "a known key", _nearest(str(key), list(fields)))
        read: dict[str, Any] = {}
        for name, field in fields.items():
            if name in value:
                read[name] = self.read(hints[name], value[name], f"{path}.{name}")
            elif field.default is dataclasses.MISSING and (
                field.default_factory is dataclasses.MISSING
            ):
                self.fault(f"{path}.{name}", None, _name_of(hints[name]), f"Add {name!r}.")
        return _FAILED if len(self.faults) > before else self.build(kind, read, path)

    def build(self, kind: Any, read: dict[str, Any], path: str) -> Any:
        try:
            return kind(**read)
        except InvalidError as error:
            place = f"{path}.{error.where}" if error.where else path
            shown = read.get(error.where, error.message)
            return self.fault(place, shown, error.message, error.fix)
