"""Labelled pictures of socks in a folder, a class folder for each design and one for ``Blank``.

``pictures/Argyle/00017.jpg``, as the lists of record files take them; the same stands in
``truth.csv``: ``file,label,group``, a row a picture. ``group`` is the physical sock (of an empty
table, the table), of which there are several pictures: they belong on one side of a split.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from lineside.simulator.socks.basket import Pose, Sock, passings, resting
from lineside.simulator.socks.designs import DESIGNS, LABELS, Design
from lineside.simulator.socks.scene import Seen, View, encoded, seen

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
        (folder / file).write_bytes(encoded(found.picture))
        rows.writerow((str(file), found.label, group))
        told(number)
    (folder / TRUTH_FILE).write_text(text.getvalue())
    return folder / TRUTH_FILE


def labelled(seed: int) -> Iterator[tuple[Seen, str]]:
    """Pictures with their groups, without end: a round of all labels, then the next."""
    number = 0
    while True:
        for design in (*DESIGNS, None):
            number += 1
            for each in range(_OF_EACH):
                rng = np.random.default_rng([seed, number, each])
                if design is None:
                    yield seen(_empty(number, seed=seed, rng=rng)), f"table-{number:05d}"
                else:
                    yield _sock(design, number=number, seed=seed, rng=rng), f"sock-{number:05d}"


def _sock(design: Design, *, number: int, seed: int, rng: np.random.Generator) -> Seen:
    """A moment of its passing at which enough of it is seen; another table each time."""
    cloth = int(np.random.default_rng([seed, number]).integers(2**31))
    sock = Sock(number=number, design=design, seed=cloth, pair=number)
    while True:
        found = seen(
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
