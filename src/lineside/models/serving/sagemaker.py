"""The SageMaker runtime contract: a picture in, a JSON array of probabilities out.

1. One number per label, in declared order; labels are independent and need not sum to 1.
2. Numbers are calibrated probabilities. The client cuts them itself, and "present" is strictly
   greater than its cut: at 0.85, exactly 0.85 is absent.
3. A label that several regions answer (a colour that may lie in any of nine places) is given once:
   the probability of the place where it is likeliest.
4. A picture that could not be judged has no probabilities; the call fails and says why.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lineside.core import InvalidError, decode_json
from lineside.models.manifest import Manifest
from lineside.vision import Decision, PictureState, Prediction

_BINARY = ("image/jpeg", "image/png", "application/x-image", "application/octet-stream")


class ContentTypeError(InvalidError):
    """The body is of a type that an endpoint does not take."""

    http_status = 415
    title = "Unsupported media type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A label for contracts that know true and false only: unsure is false, said beside."""

    present: bool
    state: Decision


def invocation_picture(body: bytes, *, content_type: str) -> bytes:
    """The encoded picture of a call.

    Args:
        body: of the request.
        content_type: ``image/*`` or ``application/x-image`` for bare bytes, ``application/json``
            for ``{"image": "<base64>"}``; parameters after ``;`` are passed over.

    Raises:
        ContentTypeError: another type.
        InvalidError: JSON without a picture, or nothing at all.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        raise InvalidError("an empty body", where="body", fix="Send a picture.")
    if kind.startswith("image/") or kind in _BINARY:
        return body
    if kind != "application/json":
        raise ContentTypeError(
            f"content type {content_type!r}",
            where="Content-Type",
            fix="Send image/jpeg, image/png, application/x-image or application/json.",
        )
    document = decode_json(body, where="request")
    text = document.get("image") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise InvalidError("no picture", where="$.image", fix='Send {"image": "<base64>"}.')
    try:
        return base64.b64decode(text.rpartition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("not base64", where="$.image", fix="Encode as RFC 4648.") from error


def answer_labels(manifest: Manifest) -> tuple[str, ...]:
    """The bare labels in declared order, each once."""
    return tuple(dict.fromkeys(rule.label for rule in manifest.rules))


def sagemaker_answer(
    prediction: Prediction, manifest: Manifest, *, labels: Sequence[str] = ()
) -> list[float]:
    """The array of the contract.

    Args:
        prediction: of the picture sent.
        manifest: of the package that gave it.
        labels: which labels in which order; empty means those of ``answer_labels``.

    Raises:
        InvalidError: the picture could not be judged, or a label is unknown.
    """
    if prediction.state is not PictureState.OK:
        reason = f": {prediction.reason}" if prediction.reason else ""
        raise InvalidError(
            f"the picture cannot be judged, {prediction.state.value}{reason}",
            where="picture",
            fix="Send a picture of the place the package was trained for.",
        )
    wanted = tuple(labels) or answer_labels(manifest)
    best = {
        label: max((a.probability for a in prediction.labels if a.label == label), default=None)
        for label in wanted
    }
    return [_known(label, chance, manifest=manifest) for label, chance in best.items()]


def _known(label: str, chance: float | None, *, manifest: Manifest) -> float:
    if chance is None:
        known = ", ".join(answer_labels(manifest))
        raise InvalidError(f"label {label!r} is unknown", where="labels", fix=f"Known: {known}.")
    return chance


def presence_flags(prediction: Prediction, labels: Iterable[str]) -> dict[str, Presence]:
    """Per bare label whether it is present anywhere; unsure, unless some place has it for certain.

    A label no answer speaks of, as in a refused picture, is unsure.
    """
    return {label: _presence(prediction, label) for label in labels}


def _presence(prediction: Prediction, label: str) -> Presence:
    found = [answer.decision for answer in prediction.labels if answer.label == label]
    if Decision.PRESENT in found:
        return Presence(present=True, state=Decision.PRESENT)
    if found and all(each is Decision.ABSENT for each in found):
        return Presence(present=False, state=Decision.ABSENT)
    return Presence(present=False, state=Decision.UNSURE)
