"""The SageMaker runtime contract: a picture in, a JSON array of numbers out, one per label.

1. One number per label, in declared order; labels are independent and need not sum to 1.
2. Numbers are calibrated probabilities. The client cuts them itself, and "present" is strictly
   greater than its cut: at 0.85, exactly 0.85 is absent.
3. Where the client has one fixed cut for every label (``threshold``), numbers are scores instead:
   calibrated probabilities of few pictures never come near 0.85, and each label has cuts of its
   own. A score is a continuous, increasing function of the label's probability, straight between
   (0, 0), (low, lower), (high, threshold) and (1, 1), with the label's own ``low`` and ``high`` and
   ``lower`` = min(threshold / 2, 1 - threshold), or the threshold where low and high are one. So a
   label is above the threshold exactly where the package says present, in [lower, threshold] where
   it is unsure, below where it is absent. A decision that hangs on other labels too, as of one of
   several classes, holds the score at the end of its band.
4. A label that several regions answer (a colour that may lie in any of nine places) is given once:
   the number of the place where it is likeliest.
5. A picture that could not be judged has no numbers; the call fails and says why.


Counts are one array of one row, a number per count:

1. The row holds the probabilities of 0, 1, …, N, and last that of "more than N"; they sum to 1. A
   client that takes the largest of them reads "more than N" as N + 1.
2. Probabilities are the package's own (``CountAnswer.chances``): of a distribution those of its
   calibrated network, of found objects those of how many of the candidates are there.
3. As logits the row holds the natural logarithms of the same probabilities: what a client computes
   from logits, their largest or their softmax, is then right without a change. A probability of 0
   is written as that of 1e-9.
4. A picture that could not be judged has no numbers; the call fails and says why.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Literal, assert_never

from lineside.core import InvalidError, decode_json
from lineside.models.manifest import Manifest
from lineside.vision import CountAnswer, Decision, LabelAnswer, PictureState, Prediction
from lineside.vision.masks import score_probability

_LABELLED = ("multilabel", "classify", "segment")
_BINARY = ("image/jpeg", "image/png", "application/x-image", "application/octet-stream")


class ContentTypeError(InvalidError):
    """The body is of a type that an endpoint does not take."""

    http_status = 415
    title = "Unsupported media type"


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
    named = tuple(rule.label for rule in manifest.rules) or manifest.labels
    return tuple(dict.fromkeys(named))


def label_cuts(manifest: Manifest) -> dict[str, tuple[float, float]]:
    """Name of each answer → (low, high): probabilities below and above which it is decided."""
    cut = manifest.policy.present_above
    if manifest.classes is not None:
        pairs = zip(manifest.classes.labels, manifest.classes.cuts, strict=True)
        return {label: (each, each) for label, each in pairs}
    if manifest.mask is not None:
        rule = manifest.mask
        band = (
            score_probability(rule.absent_below, rule),
            score_probability(rule.present_above, rule),
        )
        return {rule.label: band if cut is None else (cut, cut)}
    return {
        each.name: (each.low, each.high) if cut is None else (cut, cut) for each in manifest.rules
    }


def endpoint_score(answer: LabelAnswer, *, low: float, high: float, threshold: float) -> float:
    """The number of rule 3 for one answer, 0-1.

    Args:
        answer: of the label.
        low: probability below which the label is absent, see ``label_cuts``.
        high: probability above which it is present.
        threshold: of the client, above 0 and below 1.
    """
    lower = min(threshold / 2, 1.0 - threshold) if low < high else threshold
    chance = answer.probability
    if chance > high:
        score = threshold + (1.0 - threshold) * (chance - high) / (1.0 - high)
    elif chance >= low:
        share = (chance - low) / (high - low) if high > low else 1.0
        score = lower + (threshold - lower) * share
    else:
        score = lower * chance / low
    match answer.decision:
        case Decision.PRESENT:
            return max(score, math.nextafter(threshold, 1.0))
        case Decision.UNSURE:
            return min(max(score, lower), threshold)
        case Decision.ABSENT:
            return min(score, math.nextafter(lower, 0.0))
        case _:
            assert_never(answer.decision)


def sagemaker_answer(
    prediction: Prediction,
    manifest: Manifest,
    *,
    labels: Sequence[str] = (),
    threshold: float | None = None,
) -> list[float]:
    """The array of the contract.

    Args:
        prediction: of the picture sent.
        manifest: of the package that gave it.
        labels: which labels in which order; empty means those of ``answer_labels``.
        threshold: the client's one cut; None for calibrated probabilities.

    Raises:
        InvalidError: the picture could not be judged, a label is unknown, or the package's task
            has no probabilities of labels.
    """
    if manifest.task not in _LABELLED:
        raise InvalidError(
            f"the task {manifest.task} has no probabilities of labels",
            where="endpoint",
            fix="Ask by the Open Inference Protocol: POST /v2/models/{name}/infer.",
        )
    if prediction.state is not PictureState.OK:
        reason = f": {prediction.reason}" if prediction.reason else ""
        raise InvalidError(
            f"the picture cannot be judged, {prediction.state.value}{reason}",
            where="picture",
            fix="Send a picture of the place the package was trained for.",
        )
    wanted = tuple(labels) or answer_labels(manifest)
    numbers = _numbers(prediction.labels, manifest, threshold=threshold)
    best = {
        label: max((number for name, number in numbers if name == label), default=None)
        for label in wanted
    }
    return [_known(label, chance, manifest=manifest) for label, chance in best.items()]


def _numbers(
    answers: Sequence[LabelAnswer], manifest: Manifest, *, threshold: float | None
) -> list[tuple[str, float]]:
    """Label and number of each answer."""
    if threshold is None:
        return [(each.label, each.probability) for each in answers]
    cuts = label_cuts(manifest)
    return [
        (
            each.label,
            endpoint_score(
                each, low=cuts[each.name][0], high=cuts[each.name][1], threshold=threshold
            ),
        )
        for each in answers
    ]


def _known(label: str, chance: float | None, *, manifest: Manifest) -> float:
    if chance is None:
        known = ", ".join(answer_labels(manifest))
        raise InvalidError(f"label {label!r} is unknown", where="labels", fix=f"Known: {known}.")
    return chance


_LEAST = 1e-9


def count_answer(
    prediction: Prediction, *, form: Literal["probabilities", "logits"] = "probabilities"
) -> list[list[float]]:
    """The array of the contract, ``[[p0, …, pN, more]]``.

    Raises:
        InvalidError: the picture could not be judged, or the package tells no probabilities.
    """
    if prediction.state is not PictureState.OK:
        reason = f": {prediction.reason}" if prediction.reason else ""
        raise InvalidError(
            f"the picture cannot be judged, {prediction.state.value}{reason}",
            where="picture",
            fix="Send a picture of the place the package was trained for.",
        )
    row = _chances(prediction.count)
    if form == "probabilities":
        return [row]
    return [[round(math.log(max(chance, _LEAST)), 6) for chance in row]]


def _chances(count: CountAnswer | None) -> list[float]:
    if count is None or not count.chances:
        raise InvalidError(
            "the package in use tells no probabilities of numbers",
            where="package",
            fix="Use a package of the task count with at most 254 objects.",
        )
    return list(count.chances)
