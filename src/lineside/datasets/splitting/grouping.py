"""Groups of samples that must stay together, by a rule a person can write.

| Rule | The group is |
|---|---|
| `""` or `column` | what the source itself says (its ``group`` column) |
| `suffix: - ` | what stands in the file's stem after the last ``" - "`` |
| `regex:PATTERN` | the first bracket of the first match in the name (the whole match without one) |
| `folder` | the folder the file stands in |
| `blocks:10` | blocks of ten files in natural order of their names (``a2`` before ``a10``) |
| `ids:100` | the last number of the file's stem, in blocks of a hundred from 0 |
| `time:30` | half hours of capture time (UTC); ``time:480@06:00`` shifts of eight hours from 6 |
| `column:NAME` | what the source says in a further column |

What a rule finds nothing in shares the group ``(none)``: of such pictures nothing says that they
are apart.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from lineside.core import InvalidError
from lineside.datasets.samples import Sample

_NONE = "(none)"
_LONGEST_PATTERN = 200
_LONGEST_NUMBER = 18
_NUMBERS = re.compile(r"[0-9]+")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def grouped(samples: Sequence[Sample], *, rule: str) -> tuple[Sample, ...]:
    """The samples with the groups that the rule gives them, in the same order.

    Raises:
        InvalidError: the rule is none of the known ones.
    """
    kind, _, detail = rule.partition(":")
    if rule in ("", "column"):
        return tuple(samples)
    if kind == "blocks":
        return _by_blocks(samples, size=_whole(detail, rule=rule))
    group_of = _reader(kind, detail, rule=rule)
    return tuple(sample.placed(group=group_of(sample)) for sample in samples)


def _reader(kind: str, detail: str, *, rule: str) -> Callable[[Sample], str]:
    """Return the function that gives a sample its group; it does not depend on other samples."""
    readers: dict[str, Callable[[str], Callable[[Sample], str]]] = {
        "suffix": lambda mark: lambda sample: _suffix(sample.name, mark),
        "regex": _by_pattern,
        "ids": lambda size: _by_number(_whole(size, rule=rule)),
        "time": lambda blocks: _by_time(blocks, rule=rule),
        "column": lambda name: lambda sample: sample.facts.get(name) or _NONE,
    }
    if rule == "folder":
        return lambda sample: PurePosixPath(sample.name).parent.name or _NONE
    if kind in readers and detail:
        return readers[kind](detail)
    raise InvalidError(
        f"{rule!r} is not a rule for groups",
        fix="Known: column, column:NAME, folder, suffix:TEXT, regex:PATTERN, blocks:NUMBER, "
        "ids:NUMBER, time:MINUTES.",
    )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that counts digits as numbers: ``a2`` before ``a10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)


def _by_blocks(samples: Sequence[Sample], *, size: int) -> tuple[Sample, ...]:
    order = sorted(range(len(samples)), key=lambda place: natural_key(samples[place].name))
    block = {place: rank // size for rank, place in enumerate(order)}
    width = len(str(max(block.values(), default=0)))
    return tuple(
        sample.placed(group=f"block {block[place]:0{width}d}")
        for place, sample in enumerate(samples)
    )


def _by_pattern(text: str) -> Callable[[Sample], str]:
    pattern = _compiled(text)
    return lambda sample: _matched(pattern, sample.name)


def _by_number(size: int) -> Callable[[Sample], str]:
    def block(sample: Sample) -> str:
        number = number_in(sample.name)
        return _NONE if number is None else f"ids {number // size * size}"

    return block


def number_in(name: str) -> int | None:
    """The last number of a file's stem, as in ``00523.jpg``; None where there is none."""
    last = name.rsplit("/", 1)[-1]
    dot = last.rfind(".")
    found = _NUMBERS.findall(last[:dot] if dot > 0 else last)
    return int(found[-1]) if found and len(found[-1]) <= _LONGEST_NUMBER else None


def _by_time(text: str, *, rule: str) -> Callable[[Sample], str]:
    minutes, _, start = text.partition("@")
    long = _whole(minutes, rule=rule) * 60
    first = _clock_time(start, rule=rule) if start else 0

    def block(sample: Sample) -> str:
        if sample.captured_at is None:
            return _NONE
        since = int((sample.captured_at - _EPOCH).total_seconds()) - first
        return f"from {(_EPOCH + timedelta(seconds=since // long * long + first)):%Y-%m-%d %H:%M}"

    return block


def _clock_time(text: str, *, rule: str) -> int:
    """Seconds after midnight of ``HH:MM``."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise InvalidError(f"{rule!r} has no start", fix='Write it as "time:480@06:00".')
    return (int(match[1]) * 60 + int(match[2])) * 60


def _suffix(name: str, mark: str) -> str:
    _, found, tail = PurePosixPath(name).stem.rpartition(mark)
    return tail.strip() if found and tail.strip() else _NONE


def _matched(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.search(name)
    if match is None:
        return _NONE
    return (match.group(1) if pattern.groups else match.group(0)) or _NONE


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidError("a pattern above 200 characters", fix="Shorten it.")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidError(
            f"{pattern!r} is not a pattern: {error}",
            where="group",
            fix="Write a regular expression with one bracket, as in regex:^(part[0-9]+)_.",
        ) from error


def _whole(text: str, *, rule: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise InvalidError(f"{rule!r} has no block size", fix="Write a whole number from 1.")
    return int(text)
