"""The belt as a line on a bus: every picture with the part that it shows.

Images of a part: belt, plate, light; and the mask of its faults.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, InvalidError
from lineside.links import Bus
from lineside.simulator.playback import (
    LineSettings,
    Shot,
    SimulationResult,
    Stop,
    show_shots,
    write_truth,
)

FaultKind = Literal["scratch", "dent", "stain"]
Label = Literal["normal", "anomalous"]

FAULTY_SHARE = 0.3

_SECOND_FAULT = 0.2
_EXPOSURE_PERIOD = 40.0
_EXPOSURE_SWING = 0.14


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a surface.

    Attributes:
        x, y: its middle, in shares of the plate's width and height.
        size: of the plate's width: a scratch's length, a dent's or a stain's breadth.
        turn_deg: of its long axis, against the brushing.
        strength: 0-1, how plainly it shows.
        seed: of its shape.
    """

    kind: FaultKind
    x: float
    y: float
    size: float
    turn_deg: float
    strength: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part as it passes the camera.

    Attributes:
        number: 1 upwards.
        seed: of brushing, light and noise.
        shift_x_px, shift_y_px, turn_deg: how it lies on the belt, against the middle of the view.
        exposure: the picture's gain; wanders slowly, as lamps and daylight do.
    """

    number: int
    seed: int
    shift_x_px: float
    shift_y_px: float
    turn_deg: float
    exposure: float
    faults: tuple[Fault, ...]

    @property
    def id(self) -> str:
        """Part id, as it is printed on the carrier."""
        return f"plate-{self.number:06d}"

    @property
    def label(self) -> Label:
        """Return the label of the part."""
        return "anomalous" if self.faults else "normal"


def parts(seed: int, *, faulty_share: float = FAULTY_SHARE) -> Iterator[Part]:
    """Parts without end; a longer walk of the same seed begins like a shorter one."""
    begin = float(np.random.default_rng([seed, 0]).uniform(0, 2 * np.pi))
    number = 0
    while True:
        number += 1
        rng = np.random.default_rng([seed, number])
        yield Part(
            number=number,
            seed=int(rng.integers(2**31)),
            shift_x_px=float(np.clip(rng.normal(0, 8), -18, 18)),
            shift_y_px=float(np.clip(rng.normal(0, 6), -13, 13)),
            turn_deg=float(np.clip(rng.normal(0, 1.6), -4, 4)),
            exposure=_exposure(number, begin=begin, rng=rng),
            faults=_faults(rng, share=faulty_share),
        )


def _exposure(number: int, *, begin: float, rng: np.random.Generator) -> float:
    swing = np.sin(begin + 2 * np.pi * number / _EXPOSURE_PERIOD)
    return float(1 + _EXPOSURE_SWING * swing + np.clip(rng.normal(0, 0.03), -0.08, 0.08))


def _faults(rng: np.random.Generator, *, share: float) -> tuple[Fault, ...]:
    if rng.random() >= share:
        return ()
    count = 2 if rng.random() < _SECOND_FAULT else 1
    return tuple(_fault(rng) for _ in range(count))


def _fault(rng: np.random.Generator) -> Fault:
    kind = get_args(FaultKind)[int(rng.integers(3))]
    size = {"scratch": (0.25, 0.55), "dent": (0.13, 0.21), "stain": (0.14, 0.3)}[kind]
    side = 1 if rng.random() < 0.5 else -1
    return Fault(
        kind=kind,
        x=float(rng.uniform(0.2, 0.8)),
        y=float(rng.uniform(0.22, 0.78)),
        size=float(rng.uniform(*size)),
        turn_deg=float(side * rng.uniform(18, 90)),
        strength=float(rng.uniform(0.7, 1)),
        seed=int(rng.integers(2**31)),
    )


Floats = NDArray[np.float32]

WIDTH_PX, HEIGHT_PX = 460, 316
_CORNER_PX, _BEVEL_PX = 22, 5
_HOLE_PX, _HOLE_IN_PX = 12, 34
_BAND_GREY = 11.0


def brush_plate(rng: np.random.Generator) -> Floats:
    """(HEIGHT_PX, WIDTH_PX) float32: grey of the metal, 0-255, before anything is wrong with it."""
    grain = sum(
        _streaks(rng, length_px=length) * amount
        for length, amount in ((9, 3.0), (61, 6.5), (241, 5.5))
    )
    down = np.linspace(-1, 1, HEIGHT_PX, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, WIDTH_PX, dtype=np.float32)[None, :]
    middle = float(rng.uniform(-0.5, 0.4))
    band = np.exp(-(((down - middle - 0.08 * across) / float(rng.uniform(0.4, 0.6))) ** 2))
    tone = float(rng.uniform(128, 146))
    metal = tone + grain * (0.8 + 0.5 * band) + 42 * band - 9 * across + _bands(rng)
    return np.asarray(metal, np.float32)


def outline() -> Floats:
    """(HEIGHT_PX, WIDTH_PX) float32: 1 on the plate, 0 beside it and in its holes."""
    import cv2

    shape = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    far = _CORNER_PX
    cv2.rectangle(shape, (far, 0), (WIDTH_PX - 1 - far, HEIGHT_PX - 1), 1.0, -1)
    cv2.rectangle(shape, (0, far), (WIDTH_PX - 1, HEIGHT_PX - 1 - far), 1.0, -1)
    for x in (far, WIDTH_PX - 1 - far):
        for y in (far, HEIGHT_PX - 1 - far):
            cv2.circle(shape, (x, y), far, 1.0, -1, cv2.LINE_AA)
    return shape


def with_edges(metal: Floats, *, rng: np.random.Generator) -> Floats:
    """Bevel, screw holes with their countersinks, and a few specks of dust."""
    import cv2

    edged = metal.copy()
    edged[:_BEVEL_PX] += 46
    edged[-_BEVEL_PX:] -= 52
    edged[:, :_BEVEL_PX] += 22
    edged[:, -_BEVEL_PX:] -= 26
    for x in (_HOLE_IN_PX, WIDTH_PX - 1 - _HOLE_IN_PX):
        for y in (_HOLE_IN_PX, HEIGHT_PX - 1 - _HOLE_IN_PX):
            cv2.circle(edged, (x, y), _HOLE_PX + 5, 96.0, -1, cv2.LINE_AA)
            cv2.ellipse(
                edged, (x, y), (_HOLE_PX + 4, _HOLE_PX + 4), 0, 20, 160, 208.0, 3, cv2.LINE_AA
            )
            cv2.circle(edged, (x, y), _HOLE_PX, 20.0, -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 7))):
        at = (int(rng.integers(20, WIDTH_PX - 20)), int(rng.integers(20, HEIGHT_PX - 20)))
        cv2.circle(edged, at, 1, float(rng.uniform(90, 225)), -1, cv2.LINE_AA)
    return edged


def _bands(rng: np.random.Generator) -> Floats:
    """(HEIGHT_PX, 1): lighter and darker bands along the plate, as the brush wore and was set."""
    import cv2

    coarse = rng.standard_normal((HEIGHT_PX // 20 + 2, 1)).astype(np.float32)
    bands = cv2.resize(coarse, (1, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(_BAND_GREY * bands, np.float32)


def _streaks(rng: np.random.Generator, *, length_px: int) -> Floats:
    """Noise drawn out along the plate, of standard deviation 1."""
    import cv2

    noise = rng.standard_normal((HEIGHT_PX, WIDTH_PX + length_px), np.float32)
    drawn = cv2.blur(noise, (length_px, 1))[:, length_px // 2 : length_px // 2 + WIDTH_PX]
    return np.asarray(drawn * np.sqrt(length_px), np.float32)


Colour = NDArray[np.float32]
_SPLINE_POINTS = 24


def draw_fault(metal: Colour, fault: Fault) -> Floats:
    """Draw a fault into (HEIGHT_PX, WIDTH_PX, 3) metal.

    Returns:
        (HEIGHT_PX, WIDTH_PX) float32: 1 where the fault is, 0 elsewhere.
    """
    rng = np.random.default_rng(fault.seed)
    match fault.kind:
        case "scratch":
            return _scratch(metal, fault, rng=rng)
        case "dent":
            return _dent(metal, fault, rng=rng)
        case "stain":
            return _stain(metal, fault, rng=rng)
        case _:
            assert_never(fault.kind)


def _scratch(metal: Colour, fault: Fault, *, rng: np.random.Generator) -> Floats:
    """A bright furrow with a dark lip, bent a little, deeper in its middle."""
    import cv2

    points = _bent_line(fault, rng=rng)
    furrow = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    covered = np.zeros_like(furrow)
    thick = int(rng.integers(3, 6))
    steps = len(points) - 1
    for step in range(steps):
        ends = tuple(points[step].tolist()), tuple(points[step + 1].tolist())
        depth = float(np.clip(1.35 * np.sin(np.pi * (step + 0.7) / (steps + 0.4)), 0.35, 1))
        cv2.line(furrow, *ends, depth * float(rng.uniform(0.7, 1)), thick, cv2.LINE_AA)
        cv2.line(covered, *ends, 1.0, thick + 3, cv2.LINE_AA)
    lip = np.roll(furrow, (thick, thick // 2), (0, 1))
    bright = (78 * furrow - 62 * np.clip(lip - furrow, 0, 1)) * fault.strength
    metal += np.asarray(cv2.GaussianBlur(bright, (0, 0), 0.8), np.float32)[..., None]
    return np.asarray(covered > 0.5, np.float32)


def _bent_line(fault: Fault, *, rng: np.random.Generator) -> NDArray[np.int32]:
    along = np.linspace(-0.5, 0.5, _SPLINE_POINTS) * fault.size * WIDTH_PX
    bend = rng.uniform(-0.12, 0.12) * fault.size * WIDTH_PX
    aside = bend * (1 - (2 * along / (fault.size * WIDTH_PX)) ** 2) + rng.normal(0, 0.7, along.size)
    turn = np.deg2rad(fault.turn_deg)
    x = fault.x * WIDTH_PX + along * np.cos(turn) - aside * np.sin(turn)
    y = fault.y * HEIGHT_PX + along * np.sin(turn) + aside * np.cos(turn)
    inside = np.stack([np.clip(x, 8, WIDTH_PX - 9), np.clip(y, 8, HEIGHT_PX - 9)], axis=1)
    return np.asarray(inside.round(), np.int32)


def _dent(metal: Colour, fault: Fault, *, rng: np.random.Generator) -> Floats:
    """A dip: bright on the side that faces the lamp, dark on the other, its brushing bent."""
    import cv2

    across, down = _about_middle(fault, squash=float(rng.uniform(0.7, 1)))
    far = across**2 + down**2
    dip = np.exp(-2.2 * far).astype(np.float32)
    lamp = np.deg2rad(float(rng.uniform(225, 290)))
    slope = (across * np.cos(lamp) + down * np.sin(lamp)) * dip
    rows, columns = np.indices((HEIGHT_PX, WIDTH_PX), dtype=np.float32)
    shift = 7 * fault.strength * dip
    bent = cv2.remap(metal, columns, rows + shift * np.sign(down), cv2.INTER_LINEAR)
    metal[:] = bent
    glint = np.exp(-9 * ((across + 0.45 * np.cos(lamp)) ** 2 + (down + 0.45 * np.sin(lamp)) ** 2))
    shade = -150 * slope - 22 * dip + 52 * glint
    metal += np.asarray(shade * fault.strength, np.float32)[..., None]
    return np.asarray(far < 1, np.float32)


def _about_middle(fault: Fault, *, squash: float) -> tuple[Floats, Floats]:
    """Coordinates about a fault's middle, 1 at its rim."""
    half = fault.size * WIDTH_PX / 2
    turn = np.deg2rad(fault.turn_deg)
    rows, columns = np.indices((HEIGHT_PX, WIDTH_PX), dtype=np.float32)
    x, y = columns - fault.x * WIDTH_PX, rows - fault.y * HEIGHT_PX
    across = (x * np.cos(turn) + y * np.sin(turn)) / half
    down = (-x * np.sin(turn) + y * np.cos(turn)) / (half * squash)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _stain(metal: Colour, fault: Fault, *, rng: np.random.Generator) -> Floats:
    """Dried oil or water: an uneven blot, browner or bluer than the metal, dark at its rim."""
    import cv2

    across, down = _about_middle(fault, squash=float(rng.uniform(0.55, 0.95)))
    coarse = rng.standard_normal((HEIGHT_PX // 26 + 2, WIDTH_PX // 26 + 2)).astype(np.float32)
    ragged = cv2.resize(coarse, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    far = np.sqrt(across**2 + down**2) + 0.2 * ragged
    body = 1 / (1 + np.exp(np.clip((far - 0.9) / 0.05, -30, 30)))
    rim = np.exp(-(((far - 0.84) / 0.09) ** 2))
    tint = np.array([0.10, 0.20, 0.36] if rng.random() < 0.6 else [0.30, 0.20, 0.08], np.float32)
    cover = (0.75 * body + 0.55 * rim * (far < 1.05)) * fault.strength
    metal *= 1 - np.asarray(cover, np.float32)[..., None] * (tint + 0.14)
    return np.asarray(far < 0.95, np.float32)


VIEW_WIDTH_PX, VIEW_HEIGHT_PX = 320, 240
_FINER = 2  # drawn at twice the size, so that thin lines have no steps
_QUALITY = 90
_METAL_TINT = (0.985, 1.0, 1.02)

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartImage:
    """A picture and its truth.

    Attributes:
        picture: (240, 320, 3) uint8 RGB.
        mask: (240, 320) uint8, 255 where something is wrong, 0 elsewhere.
    """

    picture: Image
    mask: Image


def render_part(part: Part) -> PartImage:
    """Render a part; the same part gives the same pixels."""
    import cv2

    rng = np.random.default_rng(part.seed)
    metal, wrong = _plate(part, rng=rng)
    canvas = _belt(part, rng=rng)
    place = _pose_matrix(part)
    size = (VIEW_WIDTH_PX * _FINER, VIEW_HEIGHT_PX * _FINER)
    alpha = cv2.warpAffine(outline(), place, size, flags=cv2.INTER_LINEAR)[..., None]
    canvas *= (
        1 - 0.55 * cv2.GaussianBlur(np.roll(alpha[..., 0], (9, 6), (0, 1)), (0, 0), 7)[..., None]
    )
    canvas += alpha * (cv2.warpAffine(metal, place, size, flags=cv2.INTER_LINEAR) - canvas)
    covered = cv2.warpAffine(wrong, place, size, flags=cv2.INTER_LINEAR) * alpha[..., 0]
    view = (VIEW_WIDTH_PX, VIEW_HEIGHT_PX)
    small = cv2.resize(canvas, view, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(covered, view, interpolation=cv2.INTER_AREA) > 0.5
    return PartImage(
        picture=_exposed(np.asarray(small, np.float32), part, rng=rng),
        mask=np.where(mask, 255, 0).astype(np.uint8),
    )


def encode_part(picture: Image) -> bytes:
    """As JPEG, the same for the same pixels."""
    from lineside.vision import encode_jpeg

    return encode_jpeg(picture, quality=_QUALITY)


def _plate(part: Part, *, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The plate in colour, and where something is wrong with it."""
    grey = brush_plate(rng)
    metal = np.asarray(grey[..., None] * np.array(_METAL_TINT, np.float32), np.float32)
    wrong = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for fault in part.faults:
        np.maximum(wrong, draw_fault(metal, fault), out=wrong)
    edged = with_edges(grey, rng=rng)
    metal += (edged - grey)[..., None]
    return metal, wrong


def _pose_matrix(part: Part) -> NDArray[np.float64]:
    """From the plate's pixels to the view's, drawn finer."""
    import cv2

    matrix = cv2.getRotationMatrix2D((WIDTH_PX / 2, HEIGHT_PX / 2), part.turn_deg, 1.0)
    matrix[0, 2] += (VIEW_WIDTH_PX * _FINER - WIDTH_PX) / 2 + part.shift_x_px * _FINER
    matrix[1, 2] += (VIEW_HEIGHT_PX * _FINER - HEIGHT_PX) / 2 + part.shift_y_px * _FINER
    return np.asarray(matrix, np.float64)


def _belt(part: Part, *, rng: np.random.Generator) -> Floats:
    """Dark rubber with ribs across, which stand elsewhere at every part, and two guide rails."""
    import cv2

    height, width = VIEW_HEIGHT_PX * _FINER, VIEW_WIDTH_PX * _FINER
    rough = rng.standard_normal((height // 2, width // 2), np.float32)
    belt = 38 + 5 * cv2.resize(rough, (width, height), interpolation=cv2.INTER_LINEAR)
    run = np.arange(width, dtype=np.float32) + 2 * part.shift_x_px + 137 * part.number
    belt += (7 * (run % 48 < 7) - 5 * (run % 48 < 2))[None, :]
    for y in (14, height - 15):
        belt[y - 8 : y + 8] = 74 + 26 * np.cos(np.linspace(-2, 2, 16, dtype=np.float32))[:, None]
    return np.repeat(np.asarray(belt, np.float32)[..., None], 3, axis=2)


def _exposed(canvas: Floats, part: Part, *, rng: np.random.Generator) -> Image:
    """The lamp's slope and fall, the exposure of the moment, the sensor's noise."""
    across = np.linspace(-1, 1, VIEW_WIDTH_PX, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, VIEW_HEIGHT_PX, dtype=np.float32)[:, None]
    slope = float(rng.uniform(-0.12, 0.12))
    gain = part.exposure * (1 + slope * across - 0.05 * down) * (1 - 0.09 * (across**2 + down**2))
    noise = rng.standard_normal(canvas.shape, np.float32) * 2.2
    return np.asarray(np.clip(canvas * gain[..., None] + noise, 0, 255), np.uint8)


TOPIC = "surface/cam"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceSettings(LineSettings):
    """One run of the simulated belt; ``fps`` is parts a second.

    Attributes:
        faulty_share: 0-1, how many parts have a fault.
    """

    faulty_share: float = FAULTY_SHARE

    def __post_init__(self) -> None:
        LineSettings.__post_init__(self)  # slots: super() has no cell of the new class
        check_share(self.faulty_share)


def check_share(faulty_share: float) -> None:
    """``InvalidError`` for a share that is none."""
    if not 0 <= faulty_share <= 1:
        raise InvalidError("0 to 1", where="faulty_share", fix="Write faulty_share = 0.3.")


def simulate_surface(
    settings: SurfaceSettings, *, bus: Bus, clock: Clock, stop: Stop
) -> SimulationResult:
    """Show part after part on ``surface/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. Of each picture sent the truth file holds ``ts``,
    ``digest``, ``part``, ``label``, ``faults`` and ``wrong_px``, how many pixels the faults cover;
    its last line counts what was sent.
    """
    return show_shots(
        _shots(settings),
        settings=settings,
        topic=TOPIC,
        bus=bus,
        clock=clock,
        stop=stop,
    )


def _shots(settings: SurfaceSettings) -> Iterator[Shot]:
    for part in parts(settings.seed, faulty_share=settings.faulty_share):
        view = render_part(part)
        yield Shot(
            number=part.number,
            part=part.id,
            picture=encode_part(view.picture),
            true={
                "label": part.label,
                "faults": sorted({fault.kind for fault in part.faults}),
                "wrong_px": int((view.mask > 0).sum()),
            },
        )


CLASSES = Path("img-classification")
PIXELS = Path("semantic-segmentation")


def write_surface(
    folder: Path,
    *,
    pictures: int,
    seed: int,
    faulty_share: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Path:
    """Render the first parts of the walk of this seed into a folder.

    Args:
        folder: made when absent; files of the same names are replaced.
        pictures: how many.
        seed: of the walk; the same seed writes the same bytes.
        faulty_share: 0-1, how many parts have a fault.
        progress: called with the number of each picture written.

    Returns:
        The path of ``truth.csv``.

    Raises:
        InvalidError: a share that is none.
    """
    check_share(faulty_share)
    for name in (CLASSES / "normal", CLASSES / "anomalous", PIXELS / "images", PIXELS / "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = [("file", "label", "mask", "group", "faults")]
    for part in islice(parts(seed, faulty_share=faulty_share), pictures):
        rows.append(_written(folder, part))
        progress(part.number)
    return write_truth(folder, rows)


def _written(folder: Path, part: Part) -> tuple[str, ...]:
    from lineside.vision import encode_png

    view = render_part(part)
    picture = encode_part(view.picture)
    file = CLASSES / part.label / f"{part.id}.jpg"
    mask = PIXELS / "masks" / f"{part.id}.png"
    (folder / file).write_bytes(picture)
    (folder / PIXELS / "images" / f"{part.id}.jpg").write_bytes(picture)
    (folder / mask).write_bytes(encode_png(np.repeat(view.mask[..., None], 3, axis=2)))
    faults = ";".join(sorted({fault.kind for fault in part.faults}))
    return str(file), part.label, str(mask), part.id, faults
