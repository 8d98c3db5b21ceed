"""The first step: read, part, copy, and write a table that any training can take.

The pictures keep their bytes: padding and size belong to the package's own ``Prepare``, so that
what is trained on is what a device does. Masks are kept pixel by pixel. What is written:
``labels.csv`` (file, label, mask, group, split), ``pictures/``, ``masks/`` and
``preprocessing_report.json``.
"""

import csv
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, Digest, InvalidError, encode, replace_durably
from lineside.datasets import Part, Sample
from lineside.datasets.splitting import split
from lineside.datasets.versions import version_digest
from lineside.training.pipeline.definition import Pipeline
from lineside.training.source import Labelled, LabelledData, open_labelled
from lineside.training.tasks.contract import MOST_BYTES
from lineside.vision import decode_picture, encode_png

_DARKER = (0.4, 0.9)
_CONTRAST = (0.9, 1.1)
_BRIGHTNESS_CHANCE, _CONTRAST_CHANCE = 0.3, 0.2
_TRIES = 64

Image = NDArray[np.uint8]


def parted(samples: Sequence[Sample], *, share: float, seed: int) -> dict[Part, tuple[Sample, ...]]:
    """Samples by part, each part in the order given; what the source declares is honoured."""
    if any(sample.group or sample.split is not Part.OPEN for sample in samples):
        shares = {Part.TRAIN: 1 - 2 * share, Part.VALID: share, Part.TEST: share}
        found = split(samples, seed=seed, shares=shares)
        return {part: found.get(part, ()) for part in (Part.TRAIN, Part.VALID, Part.TEST)}
    strata: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda one: _unit(one, seed)):
        strata[sample.labels].append(sample)
    quotas = _quotas([len(some) for some in strata.values()], wanted=int(share * len(samples)))
    part_of_digest: dict[str, Part] = {}
    for some, quota in zip(strata.values(), quotas, strict=True):
        for place, sample in enumerate(some):
            part = (Part.VALID, Part.TEST)[place // quota] if place < 2 * quota else Part.TRAIN
            part_of_digest[sample.digest] = part
    return {
        part: tuple(sample for sample in samples if part_of_digest[sample.digest] is part)
        for part in (Part.TRAIN, Part.VALID, Part.TEST)
    }


def _unit(sample: Sample, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{sample.digest}".encode()).digest()


def _quotas(sizes: Sequence[int], *, wanted: int) -> list[int]:
    """Whole numbers that add up to ``wanted``, in proportion (largest remainder)."""
    total = sum(sizes) or 1
    exact = [wanted * size / total for size in sizes]
    quotas = [math.floor(value) for value in exact]
    order = sorted(range(len(sizes)), key=lambda place: quotas[place] - exact[place])
    for place in order[: wanted - sum(quotas)]:
        quotas[place] += 1
    return quotas


def drawn(samples: Sequence[Sample], *, count: int, seed: int) -> list[Sample]:
    """``count`` samples with replacement; none of nothing."""
    rng = np.random.default_rng(seed)
    if not samples:
        return []
    return [samples[place] for place in rng.integers(len(samples), size=count).tolist()]


def changed(image: Image, *, rng: np.random.Generator) -> Image:
    """A copy with random brightness (0.4-0.9) or contrast (0.9-1.1), or both, never neither.

    It differs from the picture wherever that can be: a black one stays black.
    """
    for _ in range(_TRIES):
        made = _drawn_light(image, rng=rng)
        if not np.array_equal(made, image):
            return made
    return image


def _drawn_light(image: Image, *, rng: np.random.Generator) -> Image:
    pixels = image.astype(np.float32)
    if rng.random() < _BRIGHTNESS_CHANCE:
        pixels = pixels * np.float32(rng.uniform(*_DARKER))
    if rng.random() < _CONTRAST_CHANCE:
        middle = np.float32(pixels.mean())
        pixels = (pixels - middle) * np.float32(rng.uniform(*_CONTRAST)) + middle
    return np.asarray(np.clip(pixels.round(), 0, 255), np.uint8)


NORMAL, ANOMALOUS = "normal", "anomalous"
TABLE_FILE = "labels.csv"
REPORT_FILE = "preprocessing_report.json"
_COLUMNS = ("file", "label", "mask", "group", "split")
_PNG = b"\x89PNG"
_FEWEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Counts and paths of what was written."""

    training: int
    validation: int
    test: int
    copies: int

    def report(self) -> bytes:
        """``preprocessing_report.json``."""
        counts = {
            "num_training_samples": self.training + self.copies,
            "num_test_samples": self.test,
            "num_val_samples": self.validation,
        }
        return encode({"preprocessing": {"dataset": counts, "copies": self.copies}})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Input of the pipeline: samples that are either normal or anomalous."""

    samples: tuple[Sample, ...]
    opened: LabelledData
    digest: Digest


@contextmanager
def open_source(
    data: str, *, clock: Clock, records_url: str = "", blobs_url: str = ""
) -> Iterator[Source]:
    """Every picture that somebody called normal or anomalous, open as long as the block.

    Raises:
        InvalidError: no data named, other labels, or too few pictures.
    """
    if not data:
        raise InvalidError(
            "no data to train on",
            where="InputData",
            fix="""Name it: -kwargs "{'parameters': {'InputData': 'FOLDER'}}".""",
        )
    source = Labelled(data=data, task="segment")  # every label that the source has
    with open_labelled(source, clock=clock, records_url=records_url, blobs_url=blobs_url) as found:
        samples = tuple(sample for sample in found.samples if sample.labels)
        _check(samples, where=data)
        yield Source(samples=samples, opened=found, digest=version_digest(samples, {}))


def _check(samples: tuple[Sample, ...], *, where: str) -> None:
    others = {name for one in samples for name in one.labels} - {NORMAL, ANOMALOUS}
    if others:
        raise InvalidError(
            f"label {min(others)!r} is neither {NORMAL} nor {ANOMALOUS}",
            where=where,
            fix=f"Put pictures into {NORMAL}/ and {ANOMALOUS}/, or into images/ with masks/.",
        )
    if len(samples) < _FEWEST:
        raise InvalidError(
            f"{len(samples)} labelled pictures", where=where, fix=f"Give at least {_FEWEST}."
        )


def prepare_pictures(
    pipeline: Pipeline, source: Source, *, folder: Path, copies: Mapping[str, int]
) -> Counted:
    """Part the pictures, add copies to the training part, write all of it into a folder.

    Args:
        pipeline: its split and seed.
        source: opened.
        folder: is filled; files of an earlier try are replaced.
        copies: how many augmented copies per label.
    """
    seed = int(pipeline.number("Seed"))
    parts = parted(source.samples, share=pipeline.split, seed=seed)
    rows = [row for part in parts for row in _rows(parts[part], part, source=source, to=folder)]
    made = list(_copies(parts[Part.TRAIN], copies, source=source, to=folder, seed=seed))
    replace_durably(folder / TABLE_FILE, _table([*rows, *made]))
    counted = Counted(
        training=len(parts[Part.TRAIN]),
        validation=len(parts[Part.VALID]),
        test=len(parts[Part.TEST]),
        copies=len(made),
    )
    replace_durably(folder / REPORT_FILE, counted.report())
    return counted


def _rows(
    samples: tuple[Sample, ...], part: Part, *, source: Source, to: Path
) -> Iterator[tuple[str, ...]]:
    for sample in samples:
        encoded = source.opened.files(sample.digest)
        file = f"pictures/{_stem(sample)}{_suffix(encoded)}"
        replace_durably(to / file, encoded)
        group = _group(sample) if part is Part.TRAIN else sample.group
        yield file, sample.labels[0], _mask(sample, source=source, to=to), group, str(part)


def _stem(sample: Sample) -> str:
    return sample.digest.removeprefix("sha256:")[:20]


def _suffix(encoded: bytes) -> str:
    return ".png" if encoded.startswith(_PNG) else ".jpg"


def _group(sample: Sample) -> str:
    """Copies go with the picture they come from, so one without a group gets one of its own."""
    return sample.group or _stem(sample)


def _mask(sample: Sample, *, source: Source, to: Path) -> str:
    if sample.mask_digest is None:
        return ""
    encoded = source.opened.files(sample.mask_digest)
    file = f"masks/{_stem(sample)}{_suffix(encoded)}"
    replace_durably(to / file, encoded)
    return file


def _copies(
    training: tuple[Sample, ...],
    copies: Mapping[str, int],
    *,
    source: Source,
    to: Path,
    seed: int,
) -> Iterator[tuple[str, ...]]:
    for label, count in copies.items():
        some = [sample for sample in training if label in sample.labels]
        for number, sample in enumerate(drawn(some, count=count, seed=seed)):
            rng = np.random.default_rng([seed, number, int(sample.digest[-8:], 16)])
            encoded = source.opened.files(sample.digest)
            image = decode_picture(encoded, max_bytes=MOST_BYTES)
            file = f"pictures/{_stem(sample)}-{label}-{number}.png"
            replace_durably(to / file, encode_png(changed(image, rng=rng)))
            yield file, label, "", _group(sample), str(Part.TRAIN)


def _table(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
