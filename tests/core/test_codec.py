import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import partial
from typing import Any, Literal, NewType, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import (
    InvalidError,
    decode,
    decode_fast,
    decode_json,
    decode_toml,
    encode,
    to_plain,
)
from lineside.core.codec import faults_error, json_schema, nearest, salvage

Name = NewType("Name", str)


class Shape(StrEnum):
    RACK = "rack"
    OVEN = "oven"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    x_px: float
    note: str = ""

    def __post_init__(self) -> None:
        if self.x_px < 0:
            raise InvalidError("0 or more", where="x_px", fix="Write x_px = 0.")
        if self.note == "bad":
            raise InvalidError("an inner with a good note", fix="Write another note.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    id: Name
    count: int = 0
    share: float = 0.0
    on: bool = False
    at: datetime | None = None
    shape: Shape = Shape.RACK
    level: Level = Level.LOW
    mode: Literal["a", "b", 1] = "a"
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (0, "")
    names: list[str] = field(default_factory=list)
    table: dict[str, int] = field(default_factory=dict)
    either: str | float = ""
    row: Sequence[int] = ()
    lookup: Mapping[str, Inner] = field(default_factory=dict)
    loose: Any = None


AT = datetime(2023, 5, 15, 12, 41, 7, 318_000, tzinfo=UTC)
inners = st.builds(Inner, x_px=st.floats(0, 1e9), note=st.text(max_size=5).filter("bad".__ne__))
outers = st.builds(
    Outer,
    id=st.text(max_size=5).map(Name),
    count=st.integers(-(2**53), 2**53),
    share=st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    at=st.none() | st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)),  # noqa: DTZ001  zone beside
    shape=st.sampled_from(Shape),
    level=st.sampled_from(Level),
    mode=st.sampled_from(["a", "b", 1]),
    inner=st.none() | inners,
    many=st.lists(inners, max_size=3).map(tuple),
    pair=st.tuples(st.integers(-9, 9), st.text(max_size=3)),
    names=st.lists(st.text(max_size=3), max_size=3),
    table=st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=3),
    either=st.text(max_size=3) | st.floats(allow_nan=False, allow_infinity=False),
    row=st.lists(st.integers(-9, 9), max_size=3).map(tuple),
    lookup=st.dictionaries(st.text(max_size=3), inners, max_size=2),
)


def faults(raw: object, kind: type = Outer) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidError) as caught:
        decode(kind, raw, where="here")
    assert caught.value.where == "here"
    return [(fault.path, fault.value, fault.expected) for fault in caught.value.faults]


def refusal(read: Callable[[], object]) -> InvalidError | None:
    """The refusal, or None where it was read."""
    try:
        read()
    except InvalidError as error:
        return error
    return None


@given(outers)
def test_what_is_encoded_decodes_to_the_same_record(outer: Outer) -> None:
    assert decode(Outer, encode(outer), where="") == outer
    assert decode(Outer, encode(outer).decode(), where="") == outer
    assert decode(Outer, to_plain(outer), where="") == outer


@given(outers)
def test_the_fast_reader_agrees_with_the_strict_one(outer: Outer) -> None:
    fast = decode_fast(Outer, encode(outer), where="")
    assert replace(fast, row=tuple(fast.row)) == outer


@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=6))
def test_equal_tables_give_equal_bytes(table: dict[str, int]) -> None:
    backwards = dict(reversed(table.items()))
    assert encode(table) == encode(backwards)
    assert json.loads(encode(table)) == table


@given(outers, st.data())
def test_mutated_bytes_are_refused_with_a_sentence_or_still_a_record(
    outer: Outer, data: st.DataObject
) -> None:
    raw = bytearray(encode(outer))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for mutated in (bytes(raw), cut):
        error = refusal(partial(decode, Outer, mutated, where="wire"))
        assert error is None or (error.where == "wire" and error.fix)


def test_every_fault_is_named_with_path_value_and_what_was_expected() -> None:
    raw = {
        "count": "3", "share": True, "on": 1, "at": "noon", "shape": "rak", "level": 7,
        "mode": "c", "inner": {"x_px": -1}, "many": [{"x_px": 1}, {}, 4], "pair": [1],
        "names": "x", "table": {"k": "v"}, "either": [], "row": {}, "lookup": 3, "cuont": 1,
    }  # fmt: skip
    found = faults(raw)
    assert found == [
        ("$.cuont", "'cuont'", "a known key"),
        ("$.id", "nothing", "text"),
        ("$.count", "'3'", "a whole number"),
        ("$.share", "True", "a number"),
        ("$.on", "1", "true or false"),
        ("$.at", "'noon'", "a time such as 2023-05-15T12:41:07.318Z"),
        ("$.shape", "'rak'", "one of 'rack', 'oven'"),
        ("$.level", "7", "one of 1, 2"),
        ("$.mode", "'c'", "one of 'a', 'b', 1"),
        ("$.inner.x_px", "-1.0", "0 or more"),
        ("$.many[1].x_px", "nothing", "a number"),
        ("$.many[2]", "4", "a table"),
        ("$.pair", "[1]", "2 values"),
        ("$.names", "'x'", "a list"),
        ("$.table.k", "'v'", "a whole number"),
        ("$.either", "[]", "text or a number"),
        ("$.row", "{}", "a list"),
        ("$.lookup", "3", "a table"),
    ]


def test_the_name_probably_meant_is_in_the_fix() -> None:
    with pytest.raises(InvalidError) as caught:
        decode(Outer, {"id": "x", "cuont": 1, "shape": "Oven"}, where="")
    first, second = caught.value.faults
    assert first.fix.startswith("Did you mean 'count'? Known: at, count, either,")
    assert second.fix == "Did you mean 'oven'? Write one of 'rack', 'oven'."


def test_the_message_counts_the_faults_and_shows_the_first() -> None:
    with pytest.raises(InvalidError) as caught:
        decode(Outer, {"id": 1, "count": "x", "on": 3}, where="f.toml")
    assert str(caught.value).startswith("$.id: 1 is not text (and 2 more) (f.toml) fix: ")
    only = faults_error(caught.value.faults[:1], where="")
    assert only.message == "$.id: 1 is not text"


def test_a_key_that_is_missing_is_called_so() -> None:
    with pytest.raises(InvalidError) as caught:
        decode(Outer, {}, where="hub.toml")
    assert str(caught.value) == "$.id: missing, expected text (hub.toml) fix: Add 'id'."
    assert str(caught.value.faults[0]) == "$.id: missing, expected text. Add 'id'."


def test_a_records_own_rule_shows_the_record_when_it_names_no_key() -> None:
    found = faults({"x_px": 1, "note": "bad"}, Inner)
    assert found == [("$", "{'x_px': 1, 'note': 'bad'}", "an inner with a good note")]


def test_a_long_value_is_shown_in_short() -> None:
    ((_, value, _),) = faults({"id": list(range(100))})
    assert len(value) == 60
    assert value.endswith("…")


@pytest.mark.parametrize(
    ("key", "value"),
    [("share", float("nan")), ("share", float("inf")), ("share", 10**400), ("count", 1.0),
     ("count", True), ("at", datetime(2023, 5, 15)), ("at", 3), ("on", None), ("id", None),  # noqa: DTZ001  no zone is the point
     ("shape", True), ("shape", {}), ("level", True), ("mode", True), ("mode", 1.0),
     ("mode", []), ("pair", [1, "a", 2]), ("many", {}), ("table", [])],
)  # fmt: skip
def test_nothing_is_taken_for_what_it_is_not(key: str, value: object) -> None:
    assert [path for path, _, _ in faults({"id": "x", key: value})] == [f"$.{key}"]


def test_a_whole_number_is_a_number() -> None:
    outer = decode(Outer, {"id": "x", "share": 3, "either": 4}, where="")
    assert isinstance(outer.share, float)
    assert outer.either == 4.0


def test_toml_times_are_taken_with_their_zone() -> None:
    document = decode_toml(b'id = "x"\nat = 2023-05-15T14:41:07.318+02:00\n', where="")
    assert decode(Outer, document, where="").at == AT


def test_records_and_members_pass_as_they_are() -> None:
    inner = Inner(x_px=3)
    outer = decode(Outer, {"id": "x", "inner": inner, "shape": Shape.OVEN, "loose": [{}]}, where="")
    assert outer.inner is inner
    assert outer.shape is Shape.OVEN
    assert outer.loose == [{}]


def test_a_union_of_records_takes_the_one_that_fits() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Other:
        y_px: float

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Holder:
        one: Inner | Other

    # The annotations are local, so they cannot be looked up by name.
    Holder.__annotations__["one"] = Inner | Other
    assert decode(Holder, {"one": {"y_px": 1}}, where="").one == Other(y_px=1.0)
    assert faults({"one": {"z": 1}}, Holder)[0][2] == "a table or a table"


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", "nul", b"[1,", b'{"a":1}x'])
def test_what_is_not_json_is_refused_with_its_place(raw: bytes | str) -> None:
    for read in (lambda: decode(Outer, raw, where="a"), lambda: decode_json(raw, where="a")):
        with pytest.raises(InvalidError, match="not JSON"):
            read()


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    with pytest.raises(InvalidError, match="not JSON"):
        decode_json(b"[" * 200_000, where="")


@pytest.mark.parametrize("raw", [b"a =", b"\xff", b"a = 1\na = 2\n"])
def test_what_is_not_toml_is_refused_with_its_place(raw: bytes) -> None:
    with pytest.raises(InvalidError, match="not TOML") as caught:
        decode_toml(raw, where="plant.toml")
    assert caught.value.where == "plant.toml"
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"x = 1\na = \n", "line 2, column 5 is not TOML: invalid value. Mend line 2, column 5."),
        (
            b"x = 1\na = [1,\n2\n\n",
            (
                "the end of the file (line 3) is not TOML: unclosed array. Complete what stands "
                "before it, or close it: quotes, brackets, braces."
            ),
        ),
        (b"a = '\xff'", "the file is not TOML: it is not UTF-8 text. Save it as UTF-8."),
    ],
)
def test_what_is_not_toml_is_said_in_one_sentence(raw: bytes, sentence: str) -> None:
    with pytest.raises(InvalidError) as caught:
        decode_toml(raw, where="")
    assert [str(fault) for fault in caught.value.faults] == [sentence]


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"{}", b'{"id":3}'])
def test_the_fast_reader_refuses_with_a_sentence_too(raw: bytes) -> None:
    with pytest.raises(InvalidError) as caught:
        decode_fast(Outer, raw, where="wire")
    assert caught.value.where == "wire"


def test_the_fast_reader_passes_unknown_keys_over() -> None:
    assert decode_fast(Outer, b'{"id":"x","new":1}', where="") == Outer(id=Name("x"))


def test_a_schema_forbids_unknown_keys_and_reads_without_margins() -> None:
    schema = json_schema(Outer)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["Inner"]["additionalProperties"] is False
    assert schema["$defs"]["Outer"]["required"] == ["id"]
    for definition in schema["$defs"].values():
        assert "\n  " not in definition.get("description", "")


def test_a_schema_of_a_plain_type_has_no_definitions() -> None:
    assert json_schema(int)["type"] == "integer"


def test_salvage_keeps_what_is_sound_and_leaves_holes() -> None:
    raw = {"id": "x", "count": "?", "many": [{"x_px": 1}, {}, {"x_px": 2, "note": 5}], "row": 3}
    saved = salvage(Outer, raw)
    assert saved is not None
    assert (saved.id, saved.count, saved.row) == ("x", 0, ())
    assert list(saved.many) == [Inner(x_px=1.0), None, Inner(x_px=2.0)]


@pytest.mark.parametrize("raw", [3, {}, {"id": 7}, {"id": []}])
def test_salvage_of_what_cannot_be_built_is_none(raw: object) -> None:
    assert salvage(Outer, raw) is None


def test_salvage_stops_at_a_records_own_rule() -> None:
    assert salvage(Inner, {"x_px": -1, "note": 3}) is None


@given(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=4))
def test_the_fix_for_an_unknown_name_lists_the_known_ones(name: str, known: list[str]) -> None:
    fix = nearest(name, known)
    assert fix.endswith(f"Known: {', '.join(known) or 'none'}.")


def test_kinds_without_a_word_of_their_own_show_their_type() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd:
        raw: bytes

    ((_, _, expected),) = faults({"raw": 3}, Odd)
    assert "bytes" in expected
    assert get_args(Literal["a", "b"]) == ("a", "b")
