"""Boxes followed from picture to picture.

A track expects its thing where its own speed carries it. Pairs of track and box within ``reach_px``
of that place are joined, the nearest pair first (ties by age of the track, then by the box's
place); what is left over begins a track. Speed is in pixels per second and is smoothed over
``_SPEED_S``, so the frame rate does not matter.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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
        """What it was called in a frame."""
        if centre.label:
            self.votes[centre.label] = self.votes.get(centre.label, 0.0) + centre.score
        if centre.score > self.best_score:
            self.best_score, self.best_frame, self.best_id = centre.score, frame, event

    def label(self) -> tuple[str, float]:
        """What it was called most, and the share of the votes; "" where it was called nothing."""
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
    taken: set[int] = set()
    found: dict[int, int] = {}
    for _, old, new in pairs:
        if old not in taken and new not in found:
            taken.add(old)
            found[new] = old
    return found


def _apart(place: tuple[float, float], centre: Centre) -> float:
    return math.hypot(centre.x_px - place[0], centre.y_px - place[1])


def likeliest_boxes(centres: Iterable[Centre]) -> list[Centre]:
    """At most ``MOST_BOXES`` of a frame, in an order that does not depend on how they came."""
    ranked = sorted(set(centres), key=lambda one: (-one.score, one))
    return sorted(ranked[:MOST_BOXES])
