"""Pictures with what is wrong with them in a folder, in the layouts that pipelines read.

``img-classification/normal/`` and ``anomalous/``; ``semantic-segmentation/images/`` and
``masks/``, paired by name, black where nothing is wrong. All of it once more stands in
``truth.csv``: ``file,label,mask,group,faults``, a row a part; ``group`` is the part.
"""

import csv
import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from lineside.simulator.surface.line import check_share
from lineside.simulator.surface.parts import Part, parts
from lineside.simulator.surface.picture import encoded, seen

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

    view = seen(part)
    picture = encoded(view.picture)
    file = CLASSES / part.label / f"{part.id}.jpg"
    mask = PIXELS / "masks" / f"{part.id}.png"
    (folder / file).write_bytes(picture)
    (folder / PIXELS / "images" / f"{part.id}.jpg").write_bytes(picture)
    (folder / mask).write_bytes(encode_png(np.repeat(view.mask[..., None], 3, axis=2)))
    faults = ";".join(sorted({fault.kind for fault in part.faults}))
    return str(file), part.label, str(mask), part.id, faults
