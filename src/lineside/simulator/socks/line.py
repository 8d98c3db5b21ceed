"""The sorting table as a line on a bus: moments of the walk, as many a second as are asked for."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from lineside.core import Clock
from lineside.links import Bus
from lineside.simulator.playback import LineSettings, Shot, SimulationResult, Stop, show_shots
from lineside.simulator.socks.scene import (
    DESIGNS,
    LABELS,
    Design,
    Passing,
    Pose,
    Sock,
    SockImage,
    View,
    encode_view,
    passings,
    render_view,
    resting,
)

TOPIC = "socks/cam"
_SOCKS_A_TABLE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SocksSettings(LineSettings):
    """One run of the simulated sorting table; ``seed`` is of socks, table and hands."""

    fps: float = 5.0


def simulate_socks(
    settings: SocksSettings, *, bus: Bus, clock: Clock, stop: Stop
) -> SimulationResult:
    """Show the table on ``socks/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. A message names no sock: what is under the camera, nobody
    tells. Of each picture sent the truth file holds ``ts``, ``digest``, ``label`` (the design,
    ``Blank``, or "" where too little of a sock is seen to say), ``sock``, ``design``, ``pair`` and
    ``share``; its last line counts what was sent.
    """
    return show_shots(
        _shots(settings),
        settings=settings,
        topic=TOPIC,
        bus=bus,
        clock=clock,
        stop=stop,
    )


def moments(seed: int, *, fps: float) -> Iterator[View]:
    """Yield the view of each image, without end."""
    walk = passings(seed)
    passing = next(walk)
    number = 0
    while True:
        time_s = number / fps
        while time_s >= passing.leaves_s:
            passing = next(walk)
        yield _moment(passing, time_s=time_s, seed=seed, number=number)
        number += 1


def _moment(passing: Passing, *, time_s: float, seed: int, number: int) -> View:
    pose = passing.at(time_s)
    return View(
        sock=passing.sock if pose is not None else None,
        pose=pose,
        laid=passing.sock.seed,
        table=seed + passing.sock.number // _SOCKS_A_TABLE,
        moment=seed * 1_000_003 + number,
    )


def _shots(settings: SocksSettings) -> Iterator[Shot]:
    for number, view in enumerate(moments(settings.seed, fps=settings.fps), start=1):
        found = render_view(view)
        sock = view.sock
        yield Shot(
            number=number,
            part="",
            picture=encode_view(found.picture),
            true={
                "label": found.label,
                "sock": sock.id if sock else "",
                "design": sock.design if sock else "",
                "pair": sock.pair if sock else 0,
                "share": round(found.share, 3),
            },
        )


TRUTH_FILE = "truth.csv"
PICTURES = Path("pictures")

_OF_EACH = 3
_TABLES = 10_000
_HAND_ALONE = 0.4


def write_socks(
    folder: Path, *, pictures: int, seed: int, told: Callable[[int], None] = lambda _: None
) -> Path:
    """Render labelled pictures, of each label equally many, into a folder.

    Args:
        folder: made when absent; files of the same names are replaced.
        pictures: how many.
        seed: of socks, tables and hands; the same seed writes the same bytes.
        told: called with the number of each picture written.

    Returns:
        The path of ``truth.csv``.
    """
    for label in LABELS:
        (folder / PICTURES / label).mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("file", "label", "group"))
    for number, (found, group) in enumerate(islice(labelled(seed), pictures), start=1):
        file = PICTURES / found.label / f"{number:05d}.jpg"
        (folder / file).write_bytes(encode_view(found.picture))
        rows.writerow((str(file), found.label, group))
        told(number)
    (folder / TRUTH_FILE).write_text(text.getvalue())
    return folder / TRUTH_FILE


def labelled(seed: int) -> Iterator[tuple[SockImage, str]]:
    """Pictures with their groups, without end: a round of all labels, then the next."""
    number = 0
    while True:
        for design in (*DESIGNS, None):
            number += 1
            for each in range(_OF_EACH):
                rng = np.random.default_rng([seed, number, each])
                if design is None:
                    yield render_view(_empty(number, seed=seed, rng=rng)), f"table-{number:05d}"
                else:
                    yield _sock(design, number=number, seed=seed, rng=rng), f"sock-{number:05d}"


def _sock(design: Design, *, number: int, seed: int, rng: np.random.Generator) -> SockImage:
    """A moment of its passing at which enough of it is seen; another table each time."""
    cloth = int(np.random.default_rng([seed, number]).integers(2**31))
    sock = Sock(number=number, design=design, seed=cloth, pair=number)
    while True:
        found = render_view(
            View(
                sock=sock,
                pose=_pose(rng),
                laid=int(rng.integers(2**31)),
                table=int(rng.integers(_TABLES)),
                moment=int(rng.integers(2**31)),
            )
        )
        if found.label == design:
            return found


def _pose(rng: np.random.Generator) -> Pose:
    """Where a sock is at some moment between coming and going."""
    passing = next(passings(int(rng.integers(2**31))))
    time_s = float(rng.uniform(passing.enters_s, passing.leaves_s))
    pose = passing.at(time_s)
    assert pose is not None  # noqa: S101  the moment lies within the passing
    return pose


def _empty(number: int, *, seed: int, rng: np.random.Generator) -> View:
    """A table without a sock; with a hand over it at times."""
    alone = replace(resting(rng), hand=float(rng.uniform(-0.1, 0.6)))
    return View(
        sock=None,
        pose=alone if rng.random() < _HAND_ALONE else None,
        laid=0,
        table=int(np.random.default_rng([seed, number]).integers(_TABLES)),
        moment=int(rng.integers(2**31)),
    )
