"""Parse once, at the door: documents become frozen records, and every fault is named at once.

Rules of ``decode``:

1. Unknown keys are refused, with the known ones listed (and the nearest named).
2. All faults of a document are collected, each with its path (``$.camera[2].width_px``).
3. A record's own ``__post_init__`` may raise ``InvalidError``; it becomes a fault at its path, or
   several where the error carries faults (rule 5). They are looked for even
   where a key of the record could not be read.
4. No coercion: text is not a number, a number is not text; an integer is taken where a float
   stands, because TOML and JSON writers drop ``.0``. Only ``Seconds`` take text with a unit.
5. A record checks itself in ``__post_init__`` with ``refuse`` and ``unless``. A fault's path is the
   key within the record, "" for the record as a whole; ``decode`` puts the record's path before it.

``decode_fast`` skips rule 1 and stops at the first fault; it is for hot paths whose sender is
lineside itself.
"""

import contextlib
import dataclasses
import difflib
import enum
import inspect
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from lineside.core.clock import DURATION, parse_duration, parse_rfc3339
from lineside.core.drivers import SecretUrl
from lineside.core.errors import Fault, InvalidError, JointFault

T = TypeVar("T")
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_LONGEST_SHOWN = 60
_TOML_ERROR = re.compile(r"(.*) \(at (.*)\)", re.DOTALL)


def decode(kind: type[T], raw: object, *, where: str) -> T:
    """Turn a document (bytes or text of JSON, or plain objects) into a record of ``kind``.

    Raises:
        InvalidError: with one ``Fault`` for everything that is wrong, in document order.
    """
    document = decode_json(raw, where=where) if isinstance(raw, bytes | str) else raw
    record, faults = read_part(kind, document, path="$")
    if record is None:
        raise faults_error(faults, where=where)
    return record


def read_part(kind: type[T], part: object, *, path: str) -> tuple[T | None, tuple[Fault, ...]]:
    """One part of a document at ``path``: the record, or None and what is wrong with it."""
    walker = _Walker()
    record = walker.read(kind, part, path=path)
    return (None if walker.faults else typing.cast(T, record)), tuple(walker.faults)


def faults_error(faults: Sequence[Fault], *, where: str) -> InvalidError:
    """One error for many faults: the message counts them and shows the first."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidError(
        f"{faults[0].path}: {faults[0].sentence}{more}",
        where=where,
        fix=faults[0].fix,
        faults=tuple(faults),
    )


@lru_cache(maxsize=256)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@lru_cache(maxsize=256)
def _fast_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=_secret)


def decode_fast(kind: type[T], raw: bytes, *, where: str) -> T:
    """Decode JSON bytes written by lineside itself: first fault only, unknown keys passed over."""
    try:
        return typing.cast(T, _fast_decoder(typing.cast(Any, kind)).decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(str(error), where=where, fix="Send the documented shape.") from error


def decode_json(raw: bytes | str, *, where: str) -> Any:
    """Parse JSON text into plain objects; the error names the place."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"not JSON: {error}", where=where, fix="Send one JSON value.") from error


def decode_toml(raw: bytes, *, where: str) -> dict[str, Any]:
    """Parse TOML text into plain objects; the error names line and column."""
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _not_toml(error, raw=raw, where=where) from error
    except RecursionError as error:
        raise InvalidError(
            "not TOML: brackets or names nested too deeply", where=where,
            fix="Write the tables flatter.",
        ) from error  # fmt: skip


def _not_toml(error: ValueError, *, raw: bytes, where: str) -> InvalidError:
    found = _TOML_ERROR.fullmatch(str(error))
    what, place = found.groups() if found else ("it is not UTF-8 text", "the file")
    what = what[:1].lower() + what[1:]
    mend = f"Mend {place}." if found else "Save it as UTF-8."
    if place == "end of document":
        place = f"the end of the file (line {len(raw.rstrip().splitlines()) or 1})"
        mend = "Complete what stands before it, or close it: quotes, brackets, braces."
    fault = Fault(path="$", value=place, expected=f"TOML: {what}", fix=mend)
    return InvalidError(f"not TOML: {what} at {place}", where=where, fix=mend, faults=(fault,))


def encode(record: object) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8; equal records give equal bytes."""
    return msgspec.json.encode(record, order="sorted", enc_hook=_without_secret)


def to_plain(record: object) -> Any:
    """A record as plain dicts, lists, text and numbers, as JSON would carry it."""
    return msgspec.json.decode(encode(record))


def json_schema(*kinds: type[object]) -> dict[str, Any]:
    """JSON Schema 2020-12 of a record type, or of any of some, unknown keys forbidden."""
    schemas, definitions = json_schemas(kinds, "#/$defs/{name}")
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return {**schema, "$defs": definitions} if definitions else schema


def json_schemas(
    kinds: Sequence[Any], reference: str
) -> tuple[tuple[dict[str, Any], ...], dict[str, dict[str, Any]]]:
    """JSON Schemas of several types, and the definitions that they share by name.

    Args:
        kinds: record types, and whatever is made of them.
        reference: how a definition is referred to, with ``{name}``.
    """
    schemas, definitions = msgspec.json.schema_components(
        kinds, schema_hook=_secret_schema, ref_template=reference
    )
    for definition in definitions.values():
        if definition.get("type") == "object" and "properties" in definition:
            definition["additionalProperties"] = False
        if "description" in definition:
            definition["description"] = without_links(inspect.cleandoc(definition["description"]))
        for part in definition.get("properties", {}).values():
            if part.get("type") == "number" and "pattern" in part:
                part["type"] = ["number", "string"]  # ``Seconds``; msgspec keeps its own type
    return schemas, definitions


def without_links(text: str) -> str:
    """A text that a page of the manual has, too, without the links of that page."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)


def _secret(kind: type[object], text: object) -> object:
    """Take a text as a value that JSON has no type for."""
    if kind is SecretUrl and isinstance(text, str):
        return SecretUrl(text)
    raise NotImplementedError(kind)


def _without_secret(value: object) -> object:
    """Return the text of a value that JSON has no type for."""
    if isinstance(value, SecretUrl):
        return str(value)
    raise TypeError(f"JSON has no {type(value).__name__}")


def _secret_schema(kind: type[object]) -> dict[str, Any]:
    if kind is SecretUrl:
        return {"type": "string"}
    raise NotImplementedError(kind)


def shown(value: object) -> str:
    """A value as a fault shows it: cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def nearest(name: str, known: Sequence[str]) -> str:
    """The fix for an unknown name: the one probably meant, then all known ones, as they stand."""
    return f"{_meant(name, known)}Known: {', '.join(known) or 'none'}."


def _meant(name: str, known: Sequence[str]) -> str:
    folded = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f"Did you mean {folded[close[0]]!r}? " if close else ""


def _choices(kind: Any) -> list[str]:
    return [str(value) for value in _values_of(kind)]


def _values_of(kind: Any) -> list[Any]:
    """The values of an enumeration or a ``Literal``; none of any other type."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [member.value for member in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else []


_FAILED = object()
_SECONDS = 'seconds, or text with a unit such as "10 min"'
_NAMES: dict[object, str] = {
    str: "text", SecretUrl: "text", int: "a whole number", float: "a number", bool: "true or false",
    datetime: "a time such as 2023-05-15T12:41:07.318Z", type(None): "nothing",
}  # fmt: skip


def _name_of(kind: Any) -> str:
    kind = getattr(kind, "__supertype__", kind)
    origin = get_origin(kind)
    if origin is Annotated:
        return _SECONDS if DURATION in kind.__metadata__ else _name_of(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_name_of(part) for part in get_args(kind) if part is not type(None))
    if origin in (list, tuple, Sequence):
        return "a list"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(kind):
        return "a table"
    if choices := _values_of(kind):
        return "one of " + ", ".join(map(repr, choices))
    return _NAMES.get(kind, str(kind))


def salvage(kind: type[T], document: object) -> T | None:
    """Return the valid parts of a faulty document, to find further faults, never for use.

    A failed optional key takes its default, a failed entry of a list is None, one of a table is
    left out.
    """
    record = _Salvager().read(kind, document, path="$")
    return None if record is _FAILED else typing.cast(T, record)


class _Walker:
    """Reads one document against types, keeping every fault it meets."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, value: object, *, path: str, expected: str, fix: str) -> object:
        self.faults.append(Fault(path=path, value=shown(value), expected=expected, fix=fix))
        return _FAILED

    def mismatch(self, kind: Any, value: object, *, path: str) -> object:
        name = _name_of(kind)
        meant = _meant(str(value), _choices(kind)) if isinstance(value, str) else ""
        return self.fault(value, path=path, expected=name, fix=f"{meant}Write {name}.")

    def read(self, kind: Any, value: Any, *, path: str) -> Any:
        kind = getattr(kind, "__supertype__", kind)
        origin = get_origin(kind)
        if kind in (Any, object):
            return value
        if origin is Annotated:
            if DURATION in kind.__metadata__ and isinstance(value, str):
                return self.read_duration(kind, value, path=path)
            return self.read(get_args(kind)[0], value, path=path)
        if origin is Literal:
            same = any(value == known and type(value) is type(known) for known in get_args(kind))
            return value if same else self.mismatch(kind, value, path=path)
        reader = self.read_record if dataclasses.is_dataclass(kind) else self.read_leaf
        reader = {
            Union: self.read_union,
            types.UnionType: self.read_union,
            list: self.read_items,
            tuple: self.read_items,
            Sequence: self.read_items,
            dict: self.read_table,
            Mapping: self.read_table,
        }.get(typing.cast(Any, origin), reader)
        return reader(kind, value, path=path)

    def read_leaf(self, kind: Any, value: Any, *, path: str) -> Any:
        if kind is float:
            return self.read_number(value, path=path)
        if kind is datetime:
            return self.read_time(value, path=path)
        if kind is SecretUrl and isinstance(value, str):
            return SecretUrl(value)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            known = {member.value: member for member in kind}
            plain = isinstance(value, str | int) and not isinstance(value, bool)
            if plain and value in known:
                return known[value]
        elif isinstance(value, bool) is (kind is bool) and isinstance(value, kind):
            return value
        return self.mismatch(kind, value, path=path)

    def read_number(self, value: Any, *, path: str) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                if math.isfinite(number := float(value)):
                    return number
        return self.mismatch(float, value, path=path)

    def read_duration(self, kind: Any, value: str, *, path: str) -> Any:
        try:
            return parse_duration(value)
        except InvalidError:
            return self.mismatch(kind, value, path=path)

    def read_time(self, value: Any, *, path: str) -> Any:
        text = value.isoformat() if isinstance(value, datetime) else value
        try:
            return parse_rfc3339(text)
        except InvalidError:
            return self.mismatch(datetime, value, path=path)

    def read_union(self, kind: Any, value: Any, *, path: str) -> Any:
        if value is None and type(None) in get_args(kind):
            return None
        parts = [part for part in get_args(kind) if part is not type(None)]
        if len(parts) == 1:
            return self.read(parts[0], value, path=path)
        for part in parts:
            trial = _Walker()
            read = trial.read(part, value, path=path)
            if not trial.faults:
                return read
        return self.mismatch(kind, value, path=path)

    def read_items(self, kind: Any, value: Any, *, path: str) -> Any:
        parts = get_args(kind)
        if not isinstance(value, list | tuple):
            return self.mismatch(kind, value, path=path)
        fixed = get_origin(kind) is tuple and not (len(parts) == 2 and parts[1] is Ellipsis)
        if fixed and len(value) != len(parts):
            count = f"{len(parts)} values"
            return self.fault(value, path=path, expected=count, fix=f"Write {count}.")
        kinds = parts if fixed else (parts[0],) * len(value)
        read = [
            self.read(part, item, path=f"{path}[{place}]")
            for place, (part, item) in enumerate(zip(kinds, value, strict=True))
        ]
        return read if get_origin(kind) is list else tuple(read)

    def read_table(self, kind: Any, value: Any, *, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self.mismatch(kind, value, path=path)
        part = get_args(kind)[1]
        return {
            str(key): self.read(part, item, path=f"{path}.{key}") for key, item in value.items()
        }

    def read_record(self, kind: Any, value: Any, *, path: str) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            return self.mismatch(kind, value, path=path)
        before = len(self.faults)
        fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
        for key in value:
            if key not in fields:
                fix = nearest(str(key), sorted(fields))
                self.fault(key, path=f"{path}.{key}", expected="a known key", fix=fix)
        read = self.read_fields(kind, value, path=path)
        if len(self.faults) > before:
            self.judge_rest(kind, read, path=path)
            return self.give_up(kind, read)
        return self.build(kind, value, read=read, path=path)

    def judge_rest(self, kind: Any, read: dict[str, Any], *, path: str) -> None:
        """Faults of the keys that could be read, in a record that has unreadable ones."""
        sound = {name: value for name, value in read.items() if _is_whole(value)}
        try:
            kind(**sound)
        except InvalidError as error:
            unread = read.keys() - sound.keys()
            told = [
                fault
                for fault in error.faults
                if fault.path in sound and not unread.intersection(_needs(fault))
            ]
            self.faults += _located(told, read=sound, path=path, whole=sound)
        except TypeError:  # a needed key is absent, which is a fault already
            return

    def give_up(self, _kind: Any, _read: dict[str, Any]) -> Any:
        return _FAILED

    def read_fields(self, kind: Any, value: Any, *, path: str) -> dict[str, Any]:
        hints = _hints(kind)
        read: dict[str, Any] = {}
        for field in dataclasses.fields(kind):
            name, here = field.name, f"{path}.{field.name}"
            needed = field.default is field.default_factory is dataclasses.MISSING
            if name in value and field.init:
                read[name] = self.read(hints[name], value[name], path=here)
            elif needed and field.init:
                expected = _name_of(hints[name])
                self.faults.append(
                    Fault(path=here, value="nothing", expected=expected, fix=f"Add {name!r}.")
                )
        return read

    def build(self, kind: Any, value: Any, *, read: dict[str, Any], path: str) -> Any:
        try:
            return kind(**read)
        except InvalidError as error:
            alone = Fault(path=error.where, value="", expected=error.message, fix=error.fix)
            self.faults += _located(error.faults or (alone,), read=read, path=path, whole=value)
            return _FAILED


def _needs(fault: Fault) -> tuple[str, ...]:
    return fault.needs if isinstance(fault, JointFault) else ()


def _is_whole(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_whole(item) for item in value)
    if isinstance(value, dict):
        return all(_is_whole(item) for item in value.values())
    return value is not _FAILED


def _located(
    faults: Sequence[Fault], *, read: Mapping[str, Any], path: str, whole: object
) -> Iterator[Fault]:
    """Faults that a record's own check found, with their place in the document."""
    for fault in faults:
        key = fault.path
        seen = fault.value or shown(read.get(key)) if key in read else "nothing"
        place, value = (f"{path}.{key}", seen) if key else (path, shown(whole))
        yield Fault(path=place, value=value, expected=fault.expected, fix=fault.fix)


class _Salvager(_Walker):
    """Goes on where the walker gives up."""

    def read_items(self, kind: Any, value: Any, *, path: str) -> Any:
        read = super().read_items(kind, value, path=path)
        if read is _FAILED:
            return read
        return type(read)(None if item is _FAILED else item for item in read)

    def read_table(self, kind: Any, value: Any, *, path: str) -> Any:
        read = super().read_table(kind, value, path=path)
        if read is _FAILED:
            return read
        return {key: item for key, item in read.items() if item is not _FAILED}

    def give_up(self, kind: Any, read: dict[str, Any]) -> Any:
        sound = {name: value for name, value in read.items() if value is not _FAILED}
        try:
            return kind(**sound)
        except (InvalidError, TypeError):
            return _FAILED


def refuse(record: object, *checks: Iterable[Fault]) -> None:
    """Raise one error for all faults of a record; return where there is none."""
    faults = tuple(fault for check in checks for fault in check)
    if not faults:
        return
    noun = type(record).__name__.lower()
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    raise InvalidError(
        f"{faults[0].sentence}{more}",
        where=f"{noun}.{faults[0].path}" if faults[0].path else noun,
        fix=faults[0].fix,
        faults=faults,
    )


def unless(
    sound: object,
    *,
    expected: str,
    fix: str,
    key: str = "",
    value: object = "",
    needs: tuple[str, ...] = (),
) -> Iterator[Fault]:
    """One fault unless ``sound``; ``value`` is the value of ``key``.

    ``needs`` are other keys that ``sound`` rests on: where one cannot be read, it is not told.
    """
    if not sound:
        text = shown(value) if key else "it"
        yield JointFault(path=key, value=text, expected=expected, fix=fix, needs=needs)


def above_zero(record: object, *keys: str) -> Iterator[Fault]:
    """Figures that must be greater than 0."""
    for key in keys:
        yield from _figure(record, key, low=math.ulp(0.0), expected="above 0")


def zero_or_more(record: object, *keys: str) -> Iterator[Fault]:
    """Figures that may be 0."""
    for key in keys:
        yield from _figure(record, key, expected="0 or more")


def within(record: object, *keys: str, high: float = 1) -> Iterator[Fault]:
    """Figures from 0 to ``high``."""
    for key in keys:
        yield from _figure(record, key, high=high, expected=f"between 0 and {high:g}")


def _figure(
    record: object, key: str, *, expected: str, low: float = 0, high: float = math.inf
) -> Iterator[Fault]:
    """One fault where a figure lies outside; None stands for "not given"."""
    figure = getattr(record, key)
    sound = figure is None or low <= figure <= high
    usual = next(field.default for field in fields(cast("Any", record)) if field.name == key)
    told = isinstance(usual, int | float) and usual > 0
    fix = f"Write {key} = {usual}, say." if told else f"Write a number {expected}."
    return unless(sound, key=key, value=figure, expected=expected, fix=fix)


_Item = TypeVar("_Item")

# Ids become levels of topics, parts of addresses and names of files.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def entries(items: Iterable[_Item]) -> Iterator[tuple[int, _Item]]:
    """The entries with their places; those that could not be built are passed over."""
    return ((place, item) for place, item in enumerate(items) if item is not None)


def known(name: str, known: Iterable[str], *, path: str, noun: str) -> Iterator[Fault]:
    """A fault where a name is none of the known ones."""
    if name not in known:
        yield Fault(
            path=path,
            value=repr(name),
            expected=f"a declared {noun}",
            fix=nearest(name, list(known)),
        )


def twice(names: Iterable[str], path: str) -> Iterator[Fault]:
    """A fault for each name that was there before."""
    known_names: set[str] = set()
    for name in names:
        if name in known_names:
            yield Fault(path=path, value=repr(name), expected="used once", fix="Rename one.")
        known_names.add(name)


def good_id(name: str, path: str) -> Iterator[Fault]:
    """A fault where a name cannot be part of a topic, an address or a file's name."""
    if not _ID.fullmatch(name):
        yield Fault(
            path=path,
            value=repr(name),
            expected="an id",
            fix="Use letters, digits, '.', '_' and '-', a letter or digit first.",
        )


def good_name(name: str, path: str) -> Iterator[Fault]:
    """A fault where a name cannot be joined to another by a slash."""
    if not name.strip() or "/" in name or not name.isprintable():
        yield Fault(
            path=path,
            value=repr(name),
            expected="a name",
            fix="Use readable text without '/', which joins region and class.",
        )
