"""The step ``crossing``: one event for each thing whose centre passes a line, with its direction.

1. Boxes of one frame are joined to the tracks of the frames before.
2. A track stands on a side once its centre is farther from the line than a twentieth of
   ``reach_px``: a thing that trembles on the line crosses once. It crosses when it stands on the
   other side and its way between led through the line, between its two ends.
3. Right and left are seen looking from (x0, y0) to (x1, y1) at the picture, whose y runs down.


Tracks: a track expects its thing where its own speed carries it. Pairs of track and box within
``reach_px``
of that place are joined, the nearest pair first (ties by age of the track, then by the box's
place); what is left over begins a track. Speed is in pixels per second and is smoothed over
``_SPEED_S``, so the frame rate does not matter.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lineside.core import Rule
from lineside.core.plant_rules import CrossingStep, Scalar
from lineside.streams.rules.contract import Output, Record
from lineside.streams.rules.keyed_state import NEVER_US, ViewStep

MOST_TRACKS = 256
MOST_BOXES = 256
_SPEED_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Centre:
    """A box's centre in one frame, in pixels of the picture; ``score`` is 0-1."""

    x_px: float
    y_px: float
    label: str = ""
    score: float = 0.0


@dataclass(slots=True, kw_only=True)
class Track:
    """A thing that is followed.

    Attributes:
        id: time of its first frame and its place among the tracks that began there.
        side: of the line, 1 to the right, -1 to the left; 0 while it was not clearly on either.
        stood_x_px, stood_y_px, stood_us: where and when it was last seen on that side.
        crossings: told so far.
        votes: label → sum of scores.
    """

    id: str
    x_px: float
    y_px: float
    at_us: int
    first_us: int
    first_id: str
    last_id: str
    speed_x: float = 0.0
    speed_y: float = 0.0
    frames: int = 1
    side: int = 0
    stood_x_px: float = 0.0
    stood_y_px: float = 0.0
    stood_us: int = 0
    crossings: int = 0
    best_score: float = -1.0
    best_frame: str = ""
    best_id: str = ""
    votes: dict[str, float] = field(default_factory=dict)

    def expected(self, at_us: int) -> tuple[float, float]:
        """Where it should be."""
        seconds = (at_us - self.at_us) / 1e6
        return self.x_px + self.speed_x * seconds, self.y_px + self.speed_y * seconds

    def move(self, centre: Centre, *, at_us: int, event: str) -> None:
        """It was seen again."""
        seconds = max((at_us - self.at_us) / 1e6, 1e-6)
        share = 1.0 if self.frames == 1 else 1.0 - math.exp(-seconds / _SPEED_S)
        self.speed_x += share * ((centre.x_px - self.x_px) / seconds - self.speed_x)
        self.speed_y += share * ((centre.y_px - self.y_px) / seconds - self.speed_y)
        self.x_px, self.y_px = centre.x_px, centre.y_px
        self.at_us, self.last_id = at_us, event
        self.frames += 1

    def vote(self, centre: Centre, *, frame: str, event: str) -> None:
        """Count the label that a frame gave it."""
        if centre.label:
            self.votes[centre.label] = self.votes.get(centre.label, 0.0) + centre.score
        if centre.score > self.best_score:
            self.best_score, self.best_frame, self.best_id = centre.score, frame, event

    def label(self) -> tuple[str, float]:
        """Return the label with most votes, and its share; "" where there is none."""
        if not self.votes:
            return "", 0.0
        ranked = sorted(self.votes, key=lambda label: (-self.votes[label], label))
        whole = sum(self.votes.values())
        return ranked[0], self.votes[ranked[0]] / whole if whole else 0.0

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def joined(
    tracks: Sequence[Track], centres: Sequence[Centre], *, at_us: int, reach_px: float
) -> dict[int, int]:
    """Place of a box → place of the track that it belongs to."""
    pairs = sorted(
        (distance, old, new)
        for old, track in enumerate(tracks)
        for new, centre in enumerate(centres)
        if (distance := _apart(track.expected(at_us), centre)) <= reach_px
    )
    joined_tracks: set[int] = set()
    found: dict[int, int] = {}
    for _, old, new in pairs:
        if old not in joined_tracks and new not in found:
            joined_tracks.add(old)
            found[new] = old
    return found


def _apart(place: tuple[float, float], centre: Centre) -> float:
    return math.hypot(centre.x_px - place[0], centre.y_px - place[1])


def likeliest_boxes(centres: Iterable[Centre]) -> list[Centre]:
    """At most ``MOST_BOXES`` of a frame, in an order that does not depend on how they came."""
    ranked = sorted(set(centres), key=lambda one: (-one.score, one))
    return sorted(ranked[:MOST_BOXES])


_MEMORY = "lineside.crossing-memory/1"
_MARGIN = 1 / 20
Key = tuple[Scalar, ...]


class Crossings(ViewStep["CrossingView"]):
    """The step ``crossing`` of one rule."""

    def __init__(self, rule: Rule, declared: CrossingStep) -> None:
        super().__init__(
            rule, schema=_MEMORY, of="crossing", lost="what is on the line then is not told",
            load=lambda one: CrossingView(self._line).loaded(one),
        )  # fmt: skip
        self._line = declared

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        made = list(self.advance(record.at_us))
        view = self._cells.use(key)
        if view is None:
            view = CrossingView(self._line, key=key)
            left = self._cells.add(key, view)
            made += self._outputs(left.close(), key=left.key) if left is not None else ()
        made += self._outputs(view.take(record), key=key)
        self._cells.move(key, view, due_us=view.next_us())
        return made

    def advance(self, now_us: int) -> Iterable[Output]:
        """Frames before ``now_us`` are whole."""
        if now_us < self._cells.next_us:
            return ()
        made: list[Output] = []
        for name, view in self._cells.due(now_us):
            made += self._outputs(view.close(), key=view.key)
            if view.forget(now_us):
                continue
            view.due_us = view.next_us()
            self._cells.keep(name, view)
        return made

    def _outputs(self, found: Iterable["Crossed"], *, key: Key) -> Iterator[Output]:
        for one in found:
            yield Output(
                name=one.name, key=dict(zip(self._names, key, strict=True)), action="final",
                start_us=one.start_us, end_us=one.end_us, values=one.values, causes=one.causes,
            )  # fmt: skip


class Crossed:
    """One thing that crossed; a plain record of what its event says."""

    def __init__(self, track: Track, *, direction: str, at: tuple[float, float]) -> None:
        """``at``: where on the line, in pixels."""
        label, share = track.label()
        self.name = f"{track.id}.{track.crossings}"
        self.start_us, self.end_us = track.stood_us, track.at_us
        self.causes = tuple(dict.fromkeys((track.first_id, track.best_id, track.last_id)))
        self.values: dict[str, Scalar] = {
            "label": label,
            "probability": round(share, 6),
            "direction": direction,
            "track": track.id,
            "x_px": round(at[0], 2),
            "y_px": round(at[1], 2),
            "speed_px_s": round(math.hypot(track.speed_x, track.speed_y), 2),
            "frames": track.frames,
            "frame": track.best_frame,
            "best_score": round(max(0.0, track.best_score), 6),
        }


class CrossingView:
    """The tracks in one place; a cell of the step's state."""

    def __init__(self, line: CrossingStep, *, key: Key = ()) -> None:
        """Nothing seen yet."""
        self.key, self.due_us, self.born = key, NEVER_US, 0
        self._line = line
        self._tracks: list[Track] = []
        self._at_us = -1
        self._event = self._frame = ""
        self._centres: list[Centre] = []
        self._closed_us = -1

    def next_us(self) -> int:
        """When the newest frame is whole, then when the last track is lost."""
        if self._at_us > self._closed_us:
            return self._at_us + 1
        return self._closed_us + round(self._line.lost_s * 1e6) + 1

    def forget(self, now_us: int) -> bool:
        """Return whether nothing of it is left to remember."""
        lost = self._closed_us + round(self._line.lost_s * 1e6)
        return self._at_us <= self._closed_us and now_us > lost

    def take(self, record: Record) -> Iterator[Crossed]:
        """One record; boxes of a frame older than the newest cannot be taken any more."""
        if record.at_us < self._at_us or record.at_us <= self._closed_us:
            return
        if record.at_us != self._at_us:  # records of one place and time are one frame's
            yield from self.close()
            if record.at_us <= self._closed_us:
                return
            self._at_us, self._event = record.at_us, record.id
            self._frame = str(record.fields.get("frame", ""))
        centre = centre_of(record.fields)
        if centre is not None:
            self._centres.append(centre)

    def close(self) -> Iterator[Crossed]:
        """The frame is whole: move the tracks."""
        if self._at_us < 0 or self._at_us == self._closed_us:
            return
        at_us, self._closed_us = self._at_us, self._at_us
        centres, self._centres = likeliest_boxes(self._centres), []
        lost = at_us - round(self._line.lost_s * 1e6)
        self._tracks = [track for track in self._tracks if track.at_us >= lost]
        found = joined(self._tracks, centres, at_us=at_us, reach_px=self._line.reach_px)
        for place, centre in enumerate(centres):
            if place in found:
                yield from self._moved(self._tracks[found[place]], centre)
        self._begin([centre for place, centre in enumerate(centres) if place not in found])

    def _moved(self, track: Track, centre: Centre) -> Iterator[Crossed]:
        track.move(centre, at_us=self._at_us, event=self._event)
        track.vote(centre, frame=self._frame, event=self._event)
        yield from self._sides(track)

    def _begin(self, centres: list[Centre]) -> None:
        for place, centre in enumerate(centres[: MOST_TRACKS - len(self._tracks)]):
            track = Track(
                id=f"{self._at_us}-{place}", x_px=centre.x_px, y_px=centre.y_px,
                at_us=self._at_us, first_us=self._at_us, first_id=self._event,
                last_id=self._event,
            )  # fmt: skip
            track.vote(centre, frame=self._frame, event=self._event)
            for _ in self._sides(track):  # its first side is no crossing
                pass
            self._tracks.append(track)

    def _sides(self, track: Track) -> Iterator[Crossed]:
        """Where it stands now; a crossing where that is the other side."""
        line = self._line
        away = right_of(line, x_px=track.x_px, y_px=track.y_px)
        side = 0 if abs(away) <= line.reach_px * _MARGIN else (1 if away > 0 else -1)
        if side == 0:
            return
        if track.side == -side:
            at = meeting(line, track)
            direction = "to right" if side > 0 else "to left"
            if at is not None and line.direction in {"either", direction}:
                track.crossings += 1
                yield Crossed(track, direction=direction, at=at)
        track.side = side
        track.stood_x_px, track.stood_y_px, track.stood_us = track.x_px, track.y_px, track.at_us

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "key": list(self.key),
            "due_us": self.due_us,
            "born": self.born,
            "tracks": [track.dump() for track in self._tracks],
            "at_us": self._at_us,
            "event": self._event,
            "frame": self._frame,
            "centres": [asdict(centre) for centre in self._centres],
            "closed_us": self._closed_us,
        }

    def loaded(self, memory: Mapping[str, Any]) -> "CrossingView":
        """Go on from a dump."""
        self.key = tuple(memory["key"])
        self.due_us, self.born = int(memory["due_us"]), int(memory["born"])
        self._tracks = [Track(**track) for track in memory["tracks"]]
        self._at_us, self._closed_us = int(memory["at_us"]), int(memory["closed_us"])
        self._event, self._frame = str(memory["event"]), str(memory["frame"])
        self._centres = [Centre(**centre) for centre in memory["centres"]]
        return self


def centre_of(fields: Mapping[str, Scalar]) -> Centre | None:
    """A box's centre; None where the record is of no box."""
    x, y = fields.get("x_px"), fields.get("y_px")
    if not _is_figure(x) or not _is_figure(y):
        return None
    score = fields.get("probability", fields.get("score", 1.0))
    return Centre(
        x_px=float(x or 0.0),
        y_px=float(y or 0.0),
        label=str(fields.get("label", "")),
        score=float(score) if _is_figure(score) else 0.0,
    )


def _is_figure(value: Scalar | None) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(float(value or 0.0))


def right_of(line: CrossingStep, *, x_px: float, y_px: float) -> float:
    """Distance from the line in px, above 0 to the right of it."""
    along_x, along_y = line.x1_px - line.x0_px, line.y1_px - line.y0_px
    cross = along_x * (y_px - line.y0_px) - along_y * (x_px - line.x0_px)
    return cross / math.hypot(along_x, along_y)


def meeting(line: CrossingStep, track: Track) -> tuple[float, float] | None:
    """Where the way from where it stood met the line; None where it passed beside its ends."""
    before = right_of(line, x_px=track.stood_x_px, y_px=track.stood_y_px)
    now = right_of(line, x_px=track.x_px, y_px=track.y_px)
    share = before / (before - now)
    x = track.stood_x_px + share * (track.x_px - track.stood_x_px)
    y = track.stood_y_px + share * (track.y_px - track.stood_y_px)
    along_x, along_y = line.x1_px - line.x0_px, line.y1_px - line.y0_px
    place = (x - line.x0_px) * along_x + (y - line.y0_px) * along_y
    return (x, y) if 0.0 <= place <= along_x**2 + along_y**2 else None
