"""The filter of frames as addresses and bodies carry it: one for the API, pages and files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from math import isnan
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query

from lineside.core import FrameId, InvalidError, Plant, parse_rfc3339
from lineside.store import FrameFilter, FrameOrder
from lineside.vision.verdict import PartVerdict

_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[0-9]+)?")
_LABEL = (
    "with an answer that names the label, present or unsure; or the state (``camera moved``, "
    "``blurred``, …) of an image that was not judged, ``anomaly``, or a count"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameQuery:
    """A filter of frames as addresses carry it: the API's, the page's and an export's are one.

    Attributes:
        frame: ids of frames; with them only these.
        line, camera: any of the cameras named, or of those of a line.
        since, until: RFC 3339; ``until`` is outside.
        verdict: any of ``ok``, ``review``, ``incomplete`` and ``reject``.
        min_score, max_score: numbers, both inside.
        unsure: ``1`` for unsure answers only.
        dataset: a name, or ``name/version``.
        sort: ``newest``, ``score`` or ``doubt``.
    """

    frame: tuple[str, ...] = ()
    line: str = ""
    camera: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    verdict: tuple[str, ...] = ()
    label: str = ""
    min_score: str = ""
    max_score: str = ""
    unsure: str = ""
    part: str = ""
    package: str = ""
    dataset: str = ""
    sort: str = ""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names and values of what is set, as an address has them."""
        found: list[tuple[str, str]] = []
        for one in fields(self):
            value = getattr(self, one.name)
            values = (value,) if isinstance(value, str) else value
            found += [(one.name, text) for text in values if text]
        return tuple(found)

    @property
    def is_narrowed(self) -> bool:
        """Return whether anything but the order is set."""
        return bool(replace(self, sort="").pairs)

    def href(self, path: str, **more: str) -> str:
        """An address with this filter and more parameters."""
        text = urlencode([*self.pairs, *((name, value) for name, value in more.items() if value)])
        return f"{path}?{text}" if text else path

    def filter(self, plant: Plant) -> FrameFilter:
        """Return what to ask the frame index.

        Raises:
            InvalidError: a value is not one of its kind, or the plant has no such line or camera.
        """
        return FrameFilter(
            frames=tuple(FrameId(one) for one in self.frame),
            cameras=_cameras(self, plant),
            since=_time(self.since, where="since"),
            until=_time(self.until, where="until"),
            verdicts=tuple(
                PartVerdict(_one_of(one, list(PartVerdict), where="verdict"))
                for one in self.verdict
            ),
            label=self.label,
            least_score=_score(self.min_score, where="min_score"),
            most_score=_score(self.max_score, where="max_score"),
            unsure=self.unsure not in {"", "0", "false"},
            part=self.part,
            package=self.package,
            dataset=_dataset(self.dataset),
            order=FrameOrder(_one_of(self.sort or "newest", list(FrameOrder), where="sort")),
        )


def _cameras(query: FrameQuery, plant: Plant) -> tuple[str, ...]:
    if not query.line:
        return query.camera
    of_line = tuple(one.id for one in plant.camera if one.line == query.line)
    if not of_line:
        known = ", ".join(one.id for one in plant.line) or "none"
        raise InvalidError(
            f"no line {query.line!r} with cameras", where="line", fix=f"Lines: {known}."
        )
    if not query.camera:
        return of_line
    both = tuple(one for one in of_line if one in query.camera)
    if not both:
        named = ", ".join(query.camera)
        raise InvalidError(
            f"line {query.line!r} has no camera {named}", where="camera",
            fix=f"Cameras: {', '.join(of_line)}.",
        )  # fmt: skip
    return both


def _one_of(word: str, known: Sequence[str], *, where: str) -> str:
    if word not in known:
        raise InvalidError(f"{word!r} is not known", where=where, fix=f"Known: {', '.join(known)}.")
    return word


def _time(text: str, *, where: str) -> datetime | None:
    """A time; the + of its offset may have come as a blank."""
    return parse_rfc3339(text.replace(" ", "+"), where=where) if text else None


def _score(text: str, *, where: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if isnan(number):
        raise InvalidError(f"{text!r} is no number", where=where, fix="Write a score such as 0.5.")
    return number


def _dataset(text: str) -> str:
    if text and not _DATASET.fullmatch(text):
        raise InvalidError(
            f"{text!r} names no dataset", where="dataset", fix="Write a name, or name/version."
        )
    return text


def frame_query(
    *,
    frame: Annotated[tuple[str, ...], Query(description="these alone, by id, at most 1,000")] = (),
    line: Annotated[str, Query(description="of the cameras of this line")] = "",
    camera: Annotated[tuple[str, ...], Query(description="of any of these cameras")] = (),
    since: Annotated[str, Query(description="captured from then on (RFC 3339 with zone)")] = "",
    until: Annotated[str, Query(description="captured before (RFC 3339 with zone)")] = "",
    verdict: Annotated[
        tuple[str, ...], Query(description="with any of ok, review, incomplete and reject")
    ] = (),
    label: Annotated[str, Query(description=_LABEL)] = "",
    min_score: Annotated[str, Query(description="with this score or a higher one")] = "",
    max_score: Annotated[str, Query(description="with this score or a lower one")] = "",
    unsure: Annotated[str, Query(description="1: with an unsure answer")] = "",
    part: Annotated[str, Query(description="that show this part")] = "",
    package: Annotated[str, Query(description="answered by this package (digest)")] = "",
    dataset: Annotated[
        str, Query(description="in a dataset (``plates``), or a version of it (``plates/3``)")
    ] = "",
    sort: Annotated[str, Query(description="order: newest (first), score or doubt")] = "",
) -> FrameQuery:  # fmt: skip
    """The filter that lists, pages and files of frames take."""
    return FrameQuery(
        frame=tuple(filter(None, frame)), line=line, camera=tuple(filter(None, camera)),
        since=since, until=until,
        verdict=tuple(filter(None, verdict)), label=label, min_score=min_score, max_score=max_score,
        unsure=unsure, part=part, package=package, dataset=dataset, sort=sort,
    )  # fmt: skip


FrameAsked = Annotated[FrameQuery, Depends(frame_query)]
