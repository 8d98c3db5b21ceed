"""What an endpoint answers to a picture: the package in use of its inspection, in its own shape."""

from dataclasses import dataclass

from lineside.core import Digest, Inspection, NotFoundError, Plant
from lineside.hub.models.packages import Packages
from lineside.models import Manifest, count_answer, sagemaker_answer
from lineside.vision import Prediction

Values = list[float] | list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the package in use says of a picture."""

    inspection: Inspection
    package: Digest
    manifest: Manifest
    prediction: Prediction


def answered(packages: Packages, plant: Plant, *, endpoint: str, picture: bytes) -> Answered:
    """Judge a picture; nothing of it is stored.

    Raises:
        NotFoundError: no such endpoint, or no package is in use for it.
        InvalidError: no picture.
    """
    inspection = endpoint_of(plant, endpoint)
    digest = packages.in_use(inspection.id)
    frame, predictor = packages.judge(digest, picture)
    return Answered(
        inspection=inspection,
        package=digest,
        manifest=predictor.manifest,
        prediction=predictor.predict_single(frame),
    )


def values_of(plant: Plant, answered: Answered) -> Values:
    """The numbers of the endpoint: a row of a count, or the labels' probabilities or scores.

    Raises:
        InvalidError: the picture could not be judged; the sentence says why.
    """
    inspection = answered.inspection
    if answered.manifest.count is not None:
        return count_answer(answered.prediction, form=inspection.endpoint_answer)
    twin = plant.twin
    labels = twin.colours if twin is not None and twin.inspection == inspection.id else ()
    return sagemaker_answer(
        answered.prediction,
        answered.manifest,
        labels=labels,
        threshold=inspection.endpoint_threshold,
    )


def endpoint_of(plant: Plant, name: str) -> Inspection:
    """The inspection that answers under this name: its ``endpoint``, or its own id."""
    for inspection in plant.inspection:
        if name in (inspection.endpoint, inspection.id):
            return inspection
    known = ", ".join(item.endpoint or item.id for item in plant.inspection)
    raise NotFoundError(f"Endpoint {name} not found", where="endpoint", fix=f"Known: {known}.")
