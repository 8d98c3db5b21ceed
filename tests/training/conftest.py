"""A tiny rack drawn in the test: three slots, discs of two colours, a moving camera, two lights."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Box, Inspection, Region, SystemClock, View
from lineside.models import Package, Predictor
from lineside.training import Progress, TrainJob, TrainResult, run_job
from lineside.vision import encode_png

WIDTH, HEIGHT = 160, 120
SLOTS = {"top": (40, 30), "middle": (80, 60), "bottom": (120, 90)}
COLOURS = {"blue": (40, 60, 200), "red": (200, 50, 40)}

Image = NDArray[np.uint8]
Draw = Callable[..., Image]
Write = Callable[..., Path]
Train = Callable[..., TrainResult]


def scene(pieces: dict[str, str], *, seed: int, light: float = 1.0, move_px: float = 1.0) -> Image:
    """(120, 160, 3) uint8 RGB: a fixed room with much to register by, discs, noise, a move."""
    room = np.random.default_rng(0)
    image = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    for _ in range(60):
        left, top = int(room.integers(0, WIDTH)), int(room.integers(0, HEIGHT))
        corner = (left + int(room.integers(4, 22)), top + int(room.integers(4, 18)))
        shade = tuple(int(v) for v in room.integers(20, 230, 3))
        cv2.rectangle(image, (left, top), corner, shade, -1)
    for x, y in SLOTS.values():
        cv2.rectangle(image, (x - 13, y - 9), (x + 13, y + 9), (30, 30, 30), -1)
    for slot, colour in pieces.items():
        cv2.ellipse(image, SLOTS[slot], (9, 6), 0, 0, 360, COLOURS[colour], -1, cv2.LINE_AA)
    rng = np.random.default_rng(seed)
    shift = np.array(
        [[1, 0, rng.uniform(-move_px, move_px)], [0, 1, rng.uniform(-move_px, move_px)]]
    )
    moved = cv2.warpAffine(image, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    seen = moved * light + rng.normal(0, 2, image.shape)
    return np.asarray(np.clip(seen, 0, 255), np.uint8)


def box(slot: str) -> Box:
    x, y = SLOTS[slot]
    return Box(x0_px=x - 13, y0_px=y - 9, x1_px=x + 13, y1_px=y + 9)


VIEW = View(width_px=WIDTH, height_px=HEIGHT)


@pytest.fixture(scope="session")
def presence() -> Inspection:
    """Three presence regions: whatever lies in slot top is the label ``left``, and so on."""
    labels = {"top": "left", "middle": "centre", "bottom": "right"}
    regions = tuple(Region(id=slot, label=name, box_px=box(slot)) for slot, name in labels.items())
    return Inspection(id="presence", camera="rack", view=VIEW, region=regions)


@pytest.fixture(scope="session")
def colours() -> Inspection:
    """Three regions that share one class list."""
    regions = tuple(
        Region(id=slot, classes=("empty", "blue", "red"), box_px=box(slot)) for slot in SLOTS
    )
    return Inspection(id="colours", camera="rack", view=VIEW, region=regions)


@pytest.fixture(scope="session")
def draw() -> Draw:
    return scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One picture to write: its pieces by slot, its light, its part."""

    pieces: dict[str, str]
    light: float = 1.0
    part: str = ""


def lesson(*, count: int, seed: int, part: str = "") -> list[Shown]:
    """Random racks under two lights, by turns."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        drawn = rng.choice(["", "blue", "red"], len(SLOTS))
        pieces = {slot: str(colour) for slot, colour in zip(SLOTS, drawn, strict=True) if colour}
        found.append(Shown(pieces=pieces, light=0.8 if number % 2 else 1.1, part=part))
    return found


@pytest.fixture(scope="session")
def write() -> Write:
    """Write a lesson as a CSV source; presence labels or classes."""
    names = {"top": "left", "middle": "centre", "bottom": "right"}

    def written(folder: Path, shown: list[Shown], *, classes: bool, seed: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["file,label,group,split"]
        for number, one in enumerate(shown):
            image = scene(one.pieces, seed=seed * 1000 + number, light=one.light)
            name = f"{one.part or 'p'}{number:02d}.png"
            (folder / name).write_bytes(encode_png(image))
            if classes:
                held = [f"{slot}/{one.pieces.get(slot, 'empty')}" for slot in SLOTS]
            else:
                held = [names[slot] for slot in one.pieces]
            group = "dim" if one.light < 1 else "bright"
            rows.append(f"{name},{';'.join(held)},{group if not one.part else ''},{one.part}")
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
        return folder

    return written


@pytest.fixture(scope="session")
def lessons() -> Callable[..., list[Shown]]:
    return lesson


def trained(job: TrainJob, folder: Path, *, cancel_at: float = 200.0) -> TrainResult:
    """Run a job to its end, or cancel it at a percentage."""
    cancelled = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.percent >= cancel_at:
            cancelled.set()

    return run_job(job, folder=folder, progress=tell, cancelled=cancelled, clock=SystemClock())


@pytest.fixture(scope="session")
def train() -> Train:
    return trained


@pytest.fixture(scope="session")
def presence_job(
    tmp_path_factory: pytest.TempPathFactory, presence: Inspection, write: Write
) -> TrainJob:
    """Twelve pictures to learn presence from, six of them held out."""
    folder = tmp_path_factory.mktemp("presence")
    shown = [*lesson(count=14, seed=1, part="train"), *lesson(count=6, seed=2, part="valid")]
    data = write(folder / "data", shown, classes=False)
    return TrainJob(
        inspection=presence, data=str(data), crop_px=48, variants=2, reference="train00.png"
    )


@pytest.fixture(scope="session")
def presence_result(
    tmp_path_factory: pytest.TempPathFactory, presence_job: TrainJob, train: Train
) -> tuple[TrainResult, Path]:
    folder = tmp_path_factory.mktemp("presence-job")
    return train(presence_job, folder), folder


@pytest.fixture(scope="session")
def colours_result(
    tmp_path_factory: pytest.TempPathFactory, *, colours: Inspection, write: Write, train: Train
) -> tuple[TrainResult, Path]:
    """Classes learned over three places, cross-validated by light."""
    folder = tmp_path_factory.mktemp("colours")
    data = write(folder / "data", lesson(count=16, seed=3), classes=True)
    job = TrainJob(inspection=colours, data=str(data), crop_px=48, variants=2)
    return train(job, folder / "job"), data


@pytest.fixture(scope="session")
def write_dents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Write so many small pictures, every other with a red dent and its mask."""

    def written(count: int) -> Path:
        root = tmp_path_factory.mktemp("dents")
        rng = np.random.default_rng(3)
        rows = ["file,label,mask"]
        for number in range(count):
            image = 90 + rng.integers(0, 10, (64, 64, 3)).astype(np.uint8)
            mask, name = np.zeros((64, 64, 3), np.uint8), f"{number:02d}.png"
            if number % 2:
                x, y = rng.integers(4, 44, 2)
                image[y : y + 12, x : x + 12] = (220, 60, 60)
                mask[y : y + 12, x : x + 12] = 255
            for folder, content in (("images", image), ("masks", mask)):
                (root / folder).mkdir(exist_ok=True)
                (root / folder / name).write_bytes(encode_png(content))
            drawn = f"masks/{name}" if number % 2 else ""
            rows.append(f"images/{name},{'dent' if number % 2 else 'good'},{drawn}")
        (root / "labels.csv").write_text("\n".join(rows) + "\n")
        return root

    return written


@pytest.fixture(scope="module")
def predictor(result: TrainResult) -> Predictor:
    """Decides by the package of the module's ``result``."""
    return Predictor(Package.read(result.package), clock=SystemClock())
