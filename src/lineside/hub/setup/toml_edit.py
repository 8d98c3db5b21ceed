"""Edits of a plant file's text that leave every other line as it is.

1. An edit concerns one entry: the ``[[camera]]`` whose ``id`` is ``rack``, say. Lines outside the
   entry keep their bytes.
2. Inside the entry a key that keeps its value keeps its line, and a changed one its comment.
3. The new text is read again: where it does not hold exactly what the edit asks for, it is
   refused, and the whole text is for a person to edit.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lineside.core import ConflictError, InvalidError, NotFoundError, decode_toml, need

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]#=]+?)\s*\]\]?\s*(#.*)?", re.DOTALL)
_TOKEN = re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*|[\[\]{}]', re.DOTALL)
_ENDS = {'"""': re.compile(r'(?:\\.|[^\\])*?"""', re.DOTALL), "'''": re.compile(r".*?'''")}
_KEYS = {"route": "topic", "shift": "name", "webhook": "name"}
_TABLES = frozenset({"retention", "twin"})
"""Sections that are one table, also where the file has none yet."""
_REPEATED = frozenset({"shift"})
"""Sections of which several entries may have one name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantEdit:
    """One change of one entry of the plant file.

    Attributes:
        section: the list that it stands in, such as ``camera``; a table such as ``twin``; "" for
            the keys of the file itself.
        id: its ``id``, of a route its ``topic``, of a shift or webhook its ``name``; "" adds a new
            one to a list.
        nth: which of several entries of that id, from 1, as shifts may have one name; 0: the only
            one.
        values: key → value as JSON; dots lead into a table below, null takes the key away, and a
            table whose last key goes with it.
        text: the whole entry as TOML, in place of ``values``.
        remove: take the entry away.
    """

    section: str
    id: str = ""
    nth: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    remove: bool = False

    def __post_init__(self) -> None:
        if sum((bool(self.values), bool(self.text), self.remove)) != 1:
            raise InvalidError(
                "an edit either sets values, or a text, or removes", where="edits",
                fix="Give one of values, text and remove.",
            )  # fmt: skip
        if any(_has_null(value) for value in self.values.values() if value is not None):
            raise InvalidError(
                "null inside a value", where="values",
                fix="Leave the key out: null takes away only a key that is named by itself.",
            )  # fmt: skip
        if not re.fullmatch(r"[A-Za-z0-9_-]*", self.section):
            raise InvalidError(
                f"no section: {self.section!r}", where="section", fix="Name one, such as camera."
            )


@dataclass(frozen=True, slots=True)
class _Span:
    """Lines of an entry: from its header up to, without, the line ``end``."""

    start: int
    end: int


def edit_text(text: str, edit: PlantEdit) -> str:
    """Return the file's text after an edit.

    Raises:
        InvalidError: no TOML, a file whose form this cannot edit in place, or several entries of
            that name and no ``nth``.
        NotFoundError: no such entry.
        ConflictError: an entry of that id is there already, and each has one of its own.
    """
    wanted = _edited(decode_toml(text.encode(), where="plant file"), edit)
    lines = _LINE.findall(text)
    spans = _spans(lines, edit.section)
    if edit.section and not edit.id and not _is_table(text, edit.section):
        made = _added(lines, spans, edit)
    else:
        made = _replaced(lines, spans[_place(text, edit)], edit) if spans else ""
    if not made or _parsed(made) != wanted:
        raise InvalidError(
            f"the entry {edit.section} {edit.id!r} is written in a form that cannot be edited in"
            " place", where="plant file", fix="Edit the file's text.",
        )  # fmt: skip
    return made


def entry_text(text: str, section: str, entry: str) -> str:
    """Return the lines of one entry as they stand, with its comments.

    It is "" of a list that the file has on one line: its entries have no lines of their own.

    Raises:
        NotFoundError: there is none of that id.
    """
    edit = PlantEdit(section=section, id=entry, remove=True)
    lines, place = _LINE.findall(text), _place(text, edit)
    spans = _spans(lines, section)
    return "".join(lines[spans[place].start : spans[place].end]) if spans else ""


# ---- what the result must hold


def _edited(document: dict[str, Any], edit: PlantEdit) -> dict[str, Any]:
    """The edit made on plain values; what the text must say afterwards."""
    if not edit.section:
        return _with_values(document, edit.values)
    present = document.get(edit.section)
    if isinstance(present, dict) and edit.remove:
        return _without(document, edit.section)
    if isinstance(present, dict) or (present is None and edit.section in _TABLES):
        return {**document, edit.section: _entry(edit, present or {})}
    listed = list(present or [])
    if not edit.id:
        entry = _entry(edit, {})
        name = entry.get(_key(edit.section))
        names = () if edit.section in _REPEATED else [one.get(_key(edit.section)) for one in listed]
        if name is not None and name in names:
            raise ConflictError(
                f"there is a {edit.section} {name!r} already", where=edit.section,
                fix="Take another name, or edit that one.",
            )  # fmt: skip
        return {**document, edit.section: [*listed, entry]}
    place = _index(listed, edit)
    changed = [] if edit.remove else [_entry(edit, listed[place])]
    rest = [*listed[:place], *changed, *listed[place + 1 :]]
    return {**document, edit.section: rest} if rest else _without(document, edit.section)


def _entry(edit: PlantEdit, present: dict[str, Any]) -> dict[str, Any]:
    if not edit.text:
        return _with_values(present, edit.values)
    found = decode_toml(_entry_lines(edit).encode(), where="text").get(edit.section)
    tables = found if isinstance(found, list) else [found]
    if len(tables) != 1 or not isinstance(tables[0], dict):
        raise InvalidError(
            f"{len(tables)} entries", where="text", fix=f"Write one [[{edit.section}]]."
        )
    return tables[0]


def _with_values(present: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(present)
    for key, value in values.items():
        first, _, further = key.partition(".")
        inner = made.get(first)
        if further and (value is not None or isinstance(inner, dict)):
            held = _with_values(dict(inner) if isinstance(inner, dict) else {}, {further: value})
            made[first] = held
            if not held:
                del made[first]
        elif further:
            continue
        elif value is None:
            made.pop(first, None)
        else:
            made[first] = value
    return made


def _without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


def _key(section: str) -> str:
    return _KEYS.get(section, "id")


def _index(listed: Sequence[Any], edit: PlantEdit) -> int:
    names = [one.get(_key(edit.section)) for one in listed if isinstance(one, dict)]
    if edit.id not in names:
        known = ", ".join(str(one) for one in names) or "none"
        raise NotFoundError(
            f"no {edit.section} {edit.id!r}", where="plant file", fix=f"Known: {known}."
        )
    places = [place for place, name in enumerate(names) if name == edit.id]
    if edit.nth > len(places) or (len(places) > 1 and not edit.nth):
        raise InvalidError(
            f"there are {len(places)} {edit.section} entries {edit.id!r}", where="plant file",
            fix=f"Say which one: nth, from 1 to {len(places)}.",
        )  # fmt: skip
    return places[max(edit.nth, 1) - 1]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _is_table(text: str, section: str) -> bool:
    return isinstance(tomllib.loads(text).get(section), dict)


def _place(text: str, edit: PlantEdit) -> int:
    found = tomllib.loads(text).get(edit.section) if edit.section else {}
    return 0 if isinstance(found, dict) else _index(found or [], edit)


# ---- lines


def _spans(lines: Sequence[str], section: str) -> list[_Span]:
    """Where each entry of a section stands, in order; ""'s are the lines before any header."""
    headers = list(_headers(lines))
    if not section:
        return [_Span(0, headers[0][0] if headers else len(lines))]
    found: list[_Span] = []
    for place, (number, name) in enumerate(headers):
        if name != section:
            continue
        after = (at for at, other in headers[place + 1 :] if not other.startswith(f"{section}."))
        end = next(after, len(lines))
        while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
            end -= 1
        found.append(_Span(number, end))
    return found


def _headers(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Line and name of each ``[table]`` and ``[[table]]``; text and lists are passed over."""
    found, quote, depth = [], "", 0
    for number, line in enumerate(lines):
        header = None if quote or depth else _HEADER.fullmatch(line)
        if header is not None:
            found.append((number, re.sub(r"[\s\"']", "", header.group(2))))
            continue
        quote, depth = _open_after(line, quote, depth)
    return found


def _open_after(line: str, quote: str, depth: int) -> tuple[str, int]:
    """The text quotes and the depth of brackets that are open where a line ends."""
    at = 0
    while at < len(line):
        if quote:
            end = _ENDS[quote].match(line, at)
            if end is None:
                return quote, depth
            at, quote = end.end(), ""
            continue
        token = _TOKEN.search(line, at)
        if token is None:
            break
        at, word = token.end(), token.group()
        quote = word if word in _ENDS else ""
        depth += (word in {"[", "{"}) - (word in {"]", "}"})
    return quote, depth


def _added(lines: Sequence[str], spans: Sequence[_Span], edit: PlantEdit) -> str:
    """The text with a new entry behind the last of its section, or at the end."""
    entry = _entry_lines(edit)
    at = spans[-1].end if spans else len(lines)
    before, after = "".join(lines[:at]), "".join(lines[at:])
    before += "" if not before or before.endswith("\n") else "\n"
    return f"{before}\n{entry}{after}" if before.strip() else f"{before}{entry}{after}"


def _replaced(lines: Sequence[str], span: _Span, edit: PlantEdit) -> str:
    """The text with an entry changed, or taken away together with one blank line."""
    before, after = list(lines[: span.start]), list(lines[span.end :])
    if edit.remove:
        if before and not before[-1].strip() and (not after or not after[0].strip()):
            before.pop()
        return "".join([*before, *after])
    old = "".join(lines[span.start : span.end])
    new = _entry_lines(edit) if edit.text else _with_keys(old, edit)
    return "".join([*before, new if after else new.rstrip("\n") + "\n", *after])


def _entry_lines(edit: PlantEdit) -> str:
    """A new entry, or the given one with its header."""
    header = f"[{edit.section}]\n" if edit.section in _TABLES else f"[[{edit.section}]]\n"
    if not edit.text:
        return _with_keys(header, edit)
    text = edit.text.strip("\n").replace("\r\n", "\n") + "\n"
    headers = _headers(_LINE.findall(text))
    return text if any(name == edit.section for _, name in headers) else header + text


# ---- keys of one entry


def _tomlkit() -> Any:  # noqa: ANN401  the driver
    return need("tomlkit", extra="hub")


def _with_keys(entry: str, edit: PlantEdit) -> str:
    """The lines of an entry with keys set and taken away."""
    made, values = entry if entry.endswith("\n") else entry + "\n", dict(edit.values)
    for key, value in edit.values.items():
        changed = _with_tables(made, f"{edit.section}.{key}", value) if _are_tables(value) else ""
        if changed:
            made = changed
            del values[key]
    document: TOMLDocument = _tomlkit().parse(made)
    table = _inner(document, edit.section) if edit.section else document
    for key, value in values.items():
        _put(table, key.split("."), value)
    return str(_tomlkit().dumps(document))


def _with_tables(entry: str, name: str, value: Sequence[dict[str, Any]]) -> str:
    """The lines of an entry with a list of tables set; "" where it has no ``[[name]]`` yet.

    One that keeps its id keeps its lines, and the comments around it, wherever it goes.
    """
    lines = _LINE.findall(entry)
    spans, blocks, rest, end = _spans(lines, name), list[str](), list[str](), 0
    for span in spans:
        start = span.start
        while lines[start - 1].lstrip().startswith("#"):
            start -= 1
        while not lines[start - 1].strip():
            start -= 1
        between = lines[end:start]
        if blocks and all(not one.strip() or one.lstrip().startswith("#") for one in between):
            blocks[-1] += "".join(between)
        else:
            rest.append("".join(between))
        blocks.append("".join(lines[start : span.end]))
        end = span.end
    old, made = [_tomlkit().parse(one) for one in blocks], list[str]()
    for new in value:
        found = next((one for one in old if _inner(one, name).get("id") == new.get("id")), None)
        block = _tomlkit().parse(f"\n[[{name}]]\n") if found is None else found
        old = [one for one in old if one is not found]
        table = _inner(block, name)
        for key in [*(one for one in table if one not in new), *new]:
            _put(table, [key], new.get(key))
        made.append(_tomlkit().dumps(block))
    return "".join([rest[0], *made, *rest[1:], *lines[end:]]) if spans else ""


def _inner(document: Any, name: str) -> Any:  # noqa: ANN401  TOML
    """The table of that dotted name; of a list of tables the first."""
    found = document
    for part in name.split("."):
        found = found[part]
        found = found[0] if isinstance(found, list) else found
    return found


def _put(table: Any, path: Sequence[str], value: Any) -> None:  # noqa: ANN401  TOML
    key, further = path[0], path[1:]
    if further:
        if not isinstance(table.get(key), Mapping):
            if value is None:
                return
            table[key] = _tomlkit().table()
        _put(table[key], further, value)
        if not table[key]:
            table.pop(key)
    elif value is None:
        table.pop(key, None)
    elif key in table and _is_same(table[key], value):
        return
    elif _are_tables(value):
        _put_tables(table, key, value=value)
    else:
        table[key] = _item(value)


def _put_tables(table: Any, key: str, *, value: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401  TOML
    """Set a list of tables that the entry does not have as tables yet."""
    table.pop(key, None)
    tables = _tomlkit().aot()
    for one in value:
        tables.append(_table(one))
    table.append(key, tables)


def _table(values: Mapping[str, Any]) -> Any:  # noqa: ANN401  TOML
    made = _tomlkit().table()
    for name, value in values.items():
        made[name] = _item(value)
    return made


def _item(value: Any) -> Any:  # noqa: ANN401  TOML
    """A value as TOML; a table on one line."""
    if not isinstance(value, dict):
        return _tomlkit().item(value)
    made = _tomlkit().inline_table()
    for name, inner in value.items():
        made[name] = _item(inner)
    return made


def _has_null(value: object) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value
    below = inner if isinstance(inner, Iterable) and not isinstance(inner, str) else ()
    return value is None or any(_has_null(one) for one in below)


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _is_same(item: object, new: object) -> bool:
    unwrap = getattr(item, "unwrap", None)
    old = unwrap() if callable(unwrap) else item
    return old == new and isinstance(old, bool) == isinstance(new, bool)
