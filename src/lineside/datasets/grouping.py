"""Groups of samples that must stay together, by a rule a person can write.

| Rule | The group is |
|---|---|
| `""` or `column` | what the source itself says (its ``group`` column) |
| `suffix: - ` | what stands in the file's stem after the last ``" - "`` |
| `regex:PATTERN` | the first bracket of the first match in the name (the whole match without one) |
| `folder` | the folder the file stands in |
| `blocks:10` | blocks of ten files in natural order of their names (``a2`` before ``a10``) |
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from lineside.core import InvalidError
from lineside.datasets.samples import Sample

_NONE = "(none)"
_LONGEST_PATTERN = 200


def grouped(samples: Sequence[Sample], *, rule: str) -> tuple[Sample, ...]:
    """The samples with the groups that the rule gives them, in the same order.

    Raises:
        InvalidError: the rule is none of the known ones.
    """
    kind, _, detail = rule.partition(":")
    if kind in ("", "column"):
        return tuple(samples)
    if kind == "blocks":
        return _by_blocks(samples, size=_whole(detail, rule=rule))
    if kind == "suffix" and detail:
        names = [_suffix(sample.name, detail) for sample in samples]
    elif kind == "folder":
        names = [PurePosixPath(sample.name).parent.name or _NONE for sample in samples]
    elif kind == "regex" and detail:
        pattern = _compiled(detail)
        names = [_matched(pattern, sample.name) for sample in samples]
    else:
        raise InvalidError(
            f"{rule!r} is not a rule for groups",
            fix="Known: column, folder, suffix:TEXT, regex:PATTERN, blocks:NUMBER.",
        )
    return tuple(replace(sample, group=name) for sample, name in zip(samples, names, strict=True))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that counts digits as numbers: ``a2`` before ``a10``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(p), p) if p[0] in "0123456789" else (1, 0, p) for p in parts)


def _by_blocks(samples: Sequence[Sample], *, size: int) -> tuple[Sample, ...]:
    order = sorted(range(len(samples)), key=lambda place: natural_key(samples[place].name))
    block = {place: rank // size for rank, place in enumerate(order)}
    width = len(str(max(block.values(), default=0)))
    return tuple(
        replace(sample, group=f"block {block[place]:0{width}d}")
        for place, sample in enumerate(samples)
    )


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
        raise InvalidError(f"{pattern!r} is not a pattern: {error}", fix="Mend it.") from error


def _whole(text: str, *, rule: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise InvalidError(f"{rule!r} has no block size", fix='Write it as "blocks:10".')
    return int(text)
