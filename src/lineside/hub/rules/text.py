"""A rule as the TOML of a plant file: written for a reader to change, and read back.

What is wrong with a text is told with the line it stands on, where that can be found.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

from lineside.core import Fault, InvalidError, Plant, Rule, decode, decode_toml
from lineside.core.clock import duration_toml
from lineside.core.codec import faults_error
from lineside.core.plant_check import check_references

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OF_RULE = re.compile(r"\$\.rule\[(\d+)\]\.?")
_FILLED_IN = ("habits",)  # by whoever reads the plant file, never written in it


def rule_toml(rule: Rule) -> str:
    """A ``[[rule]]`` table with what differs from the defaults, in the order of the reference."""
    return "\n".join(["[[rule]]", *_lines(rule)]) + "\n"


def read_rule(text: str, *, plant: Plant) -> Rule:
    """The rule of a text, its references checked against the rest of the plant file.

    Args:
        text: the table itself, or one ``[[rule]]``.
        plant: what the rule would stand in, in place of the one of that id if there is one.

    Raises:
        InvalidError: every fault, each with its line.
    """
    document = decode_toml(text.encode(), where="text")
    tables = document.get("rule", document)
    if isinstance(tables, list):
        if len(tables) != 1:
            raise InvalidError(f"{len(tables)} rules", where="text", fix="Try one rule at a time.")
        tables = tables[0]
    try:
        rule = _learned(decode(Rule, tables, where="text"), plant)
    except InvalidError as error:
        raise _with_lines(error.faults, text) from error
    faults = _references(rule, plant)
    if faults:
        raise _with_lines(faults, text)
    return rule


def _learned(rule: Rule, plant: Plant) -> Rule:
    """Fill in learned values from the files that the plant file names."""
    step = rule.sighting
    if step is None or not step.learned:
        return rule
    known = {
        one.sighting.learned: one.sighting.habits
        for one in plant.rule
        if one.sighting is not None and one.sighting.learned
    }
    if step.learned not in known:
        fault = Fault(
            path="$.sighting.learned", value=repr(step.learned),
            expected="a file that the plant file names",
            fix=f"Known: {', '.join(known) or 'none'}; or write dwell_s and gap_s.",
        )  # fmt: skip
        raise faults_error((fault,), where="text")
    return replace(rule, sighting=replace(step, habits=known[step.learned]))


def _references(rule: Rule, plant: Plant) -> tuple[Fault, ...]:
    """Return the faults that this rule adds to the plant file."""
    rules = list(plant.rule)
    place = next((n for n, one in enumerate(rules) if one.id == rule.id), len(rules))
    rules[place : place + 1] = [rule]
    before = {(one.path, one.value) for one in check_references(plant)}
    found = check_references(replace(plant, rule=tuple(rules)))
    return tuple(
        _named(one, place=place, rules=rules)
        for one in found
        if (one.path, one.value) not in before
    )


def _named(fault: Fault, *, place: int, rules: list[Rule]) -> Fault:
    """The path as seen from the rule itself; another rule's is named."""
    found = _OF_RULE.match(fault.path)
    if found is None:
        return fault
    inner, of = fault.path[found.end() :], int(found.group(1))
    path = f"$.{inner}" if of == place else f"rule {rules[of].id}: {inner}"
    return replace(fault, path=path)


def _with_lines(faults: Iterable[Fault], text: str) -> InvalidError:
    told = [replace(fault, path=_place(fault.path, text)) for fault in faults]
    return faults_error(tuple(told), where="text")


def _place(path: str, text: str) -> str:
    """``$.window.size_s`` becomes ``line 4, window.size_s`` where the key is found."""
    if not path.startswith("$."):
        return path
    inner = path.removeprefix("$.")
    names = [name for name in re.split(r"[.\[\]]+", inner) if name and not name.isdigit()]
    lines = [_line_of(name, text) for name in names]
    line = next((one for one in reversed(lines) if one), 0)
    return f"line {line}, {inner}" if line else inner


def _line_of(name: str, text: str) -> int:
    """Where a key is first set, or the header of its table; 0 for nowhere."""
    key = re.compile(rf'(^|[\s.{{,\["]){re.escape(name)}"?\s*[=\].]')
    for number, line in enumerate(text.splitlines(), start=1):
        if key.search(line.partition("#")[0]):
            return number
    return 0


# ---- writing


def _lines(rule: Rule) -> Iterator[str]:
    for name, value in _set_fields(rule):
        if isinstance(value, tuple) and len(value) > 1 and is_dataclass(value[0]):
            inner = "".join(f"\n  {_written(one)}," for one in value)
            yield f"{name} = [{inner}\n]"
        else:
            yield f"{name} = {_entry(name, value)}"


def _set_fields(record: object) -> Iterator[tuple[str, Any]]:
    """Fields that are not at their default; of a step's own figures all that say something."""
    shows_all = not isinstance(record, Rule) and not getattr(record, "learned", "")
    for field in fields(record):  # type: ignore[arg-type]  # records only
        value = getattr(record, field.name)
        figure = shows_all and isinstance(value, float) and value > 0
        if field.name not in _FILLED_IN and (figure or value != _default(field)):
            yield field.name, value


def _default(field: "Field[Any]") -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _entry(name: str, value: object) -> str:
    """A field of a record; those of seconds have units."""
    seconds = name.endswith("_s") and isinstance(value, float)
    return duration_toml(value) if seconds else _written(value)  # type: ignore[arg-type]  # a float


def _written(value: object) -> str:
    if is_dataclass(value):
        return _table((name, _entry(name, inner)) for name, inner in _set_fields(value))
    if isinstance(value, Mapping):
        return _table((name, _written(inner)) for name, inner in value.items())
    if isinstance(value, tuple | list):
        return f"[{', '.join(_written(one) for one in value)}]"
    return _scalar(value)


def _scalar(value: object) -> str:
    """A whole number stands without a point: TOML and the checks take it for either kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(items: Iterable[tuple[str, str]]) -> str:
    inner = ", ".join(f"{_key(name)} = {text}" for name, text in items)
    return f"{{ {inner} }}" if inner else "{}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
