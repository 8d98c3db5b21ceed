"""The belt as a line on a bus: every picture with the part that it shows."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from lineside.core import Clock, InvalidError
from lineside.links import Bus
from lineside.simulator.playback import LineSettings, Shot, SimulationResult, Stop, show_shots
from lineside.simulator.surface.picture import FAULTY_SHARE, Part, encode_part, parts, render_part

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


TRUTH_FILE = "truth.csv"
CLASSES = Path("img-classification")
PIXELS = Path("semantic-segmentation")

_COLUMNS = ("file", "label", "mask", "group", "faults")


def write_surface(
    folder: Path,
    *,
    pictures: int,
    seed: int,
    faulty_share: float,
    told: Callable[[int], None] = lambda _: None,
) -> Path:
    """Render the first parts of the walk of this seed into a folder.

    Args:
        folder: made when absent; files of the same names are replaced.
        pictures: how many.
        seed: of the walk; the same seed writes the same bytes.
        faulty_share: 0-1, how many parts have a fault.
        told: called with the number of each picture written.

    Returns:
        The path of ``truth.csv``.

    Raises:
        InvalidError: a share that is none.
    """
    check_share(faulty_share)
    for name in (CLASSES / "normal", CLASSES / "anomalous", PIXELS / "images", PIXELS / "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for part in islice(parts(seed, faulty_share=faulty_share), pictures):
        rows.writerow(_written(folder, part))
        told(part.number)
    (folder / TRUTH_FILE).write_text(text.getvalue())
    return folder / TRUTH_FILE


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
