"""Let a package judge labelled pictures, through the code that devices run.

Each picture is judged on its own: no registration is carried over from the one before.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, Digest
from lineside.datasets import Sample
from lineside.models import Package, Predictor
from lineside.training.measures import Case
from lineside.training.tasks.contract import MOST_BYTES, Files
from lineside.vision import PictureState, decode_picture, open_frame

_MAPPED = ("segment", "anomaly")


def judge_all(
    package: Package, samples: Sequence[Sample], *, files: Files, clock: Clock
) -> Iterator[Case]:
    """Every picture with what the package says of it; maps where the task gives them.

    Where the package judges beside a template, samples without one are passed over.
    """
    predictor = Predictor(package, clock=clock)
    for sample in samples:
        if package.manifest.template and sample.template_digest is None:
            continue
        frame = open_frame(
            files(sample.digest),
            camera="evaluation",
            captured_at=sample.captured_at or clock.now(),
            max_bytes=MOST_BYTES,
        )
        template = _template(package, sample, files=files)
        said = predictor.predict_single(frame, template=template)
        mapped = package.manifest.task in _MAPPED and said.state is PictureState.OK
        yield Case(
            sample=sample,
            prediction=said,
            heat=predictor.heat(frame, template=template) if mapped else None,
            truth_mask=_truth_mask(sample, files=files),
        )


def _template(package: Package, sample: Sample, *, files: Files) -> NDArray[np.uint8] | None:
    digest: Digest | None = sample.template_digest
    if not package.manifest.template or digest is None:
        return None
    return decode_picture(files(digest), max_bytes=MOST_BYTES)


def _truth_mask(sample: Sample, *, files: Files) -> NDArray[np.bool_] | None:
    if sample.mask_digest is None:
        return None
    grey = decode_picture(files(sample.mask_digest), max_bytes=MOST_BYTES)
    return np.asarray(grey.max(axis=2) > 127, np.bool_)
