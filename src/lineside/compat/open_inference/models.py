"""Packages as models of the Open Inference Protocol: pictures to decisions, tensors to raw outputs.

1. Input ``image``, BYTES of any shape: JPEG or PNG each; the package prepares and decides as on a
   device. Beside it ``template``, of as many, where the package judges against one.
2. Input ``crops``, FP32: what the network itself takes, prepared by the caller. The outputs are the
   network's own, unread by any rule.
3. Outputs of pictures (n of them), by task; ``prediction`` is the whole answer as JSON:

   | Output | Datatype, shape | Of |
   |---|---|---|
   | ``prediction``, ``state`` | BYTES (n) | every task |
   | ``labels``, ``decisions`` | BYTES (n, k) | multilabel, classify, segment |
   | ``probabilities`` | FP32 (n, k) | multilabel, classify, segment |
   | ``count``, ``count_low``, ``count_high`` | INT32 (n) | count |
   | ``boxes``, ``box_scores`` | FP32 (m, 4), (m) | detect, count of objects |
   | ``box_labels``, ``box_image`` | BYTES (m), INT32 (m): which picture | likewise |
   | ``mask_rle``, ``mask_share`` | BYTES (n), FP32 (n) | segment |
   | ``score``, ``limit`` | FP32 (n) | anomaly |
   | ``decision`` | BYTES (n) | anomaly |

4. The network's own outputs come with pictures too, those of a picture's crops behind one another,
   where one of them is named or no output is. They cost preparing the picture and running the
   network once more. There are none of pictures that cannot be placed, have several sizes or a side
   above ``TILE_PX``, and none above 16 MB: named, the call is refused, else they are left out.
5. A picture that could not be judged has its ``state`` ("ok" otherwise), probabilities of NaN,
   decisions "unsure", a count of -1, no boxes and an empty mask: one bad picture of many does not
   fail the call. NaN is null in JSON.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.compat.open_inference.tensors import (
    BYTES,
    InferRequest,
    InferResponse,
    Tensor,
    tensor,
    texts,
)
from lineside.core import InvalidError, NotFoundError, encode
from lineside.models.engines import ANY, INPUT, BareEngine
from lineside.models.manifest import Manifest
from lineside.models.predictor import Predictor
from lineside.models.task_heads import TILE_PX
from lineside.vision import Decision, Frame, PictureState, Prediction, decode_picture, open_frame

PLATFORM = "lineside_onnx"
IMAGE = "image"
TEMPLATE = "template"
_MOST_PICTURES = 32
_MOST_PICTURE_BYTES = 16_000_000
_MOST_RAW_BYTES = 16_000_000
_LABELLED = ("multilabel", "classify", "segment")
_OBJECTS = ("detect", "count")

Arrays = Mapping[str, NDArray[Any]]
_Pair = tuple[bytes, bytes | None]
"""A picture, and its template where the package judges against one; encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMeta:
    """The description of a model's input or output; -1 where a size varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeta:
    """A model's metadata, in the protocol's own names."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]


class ServedModel:
    """One package behind the protocol; safe from several threads."""

    def __init__(
        self, predictor: Predictor, *, since: datetime, bare: BareEngine | None = None
    ) -> None:
        """Over a loaded package.

        Args:
            predictor: of the package.
            since: when all pictures are said to be taken, so that the same one gets the same
                ``prediction`` to the letter.
            bare: its network as it stands; None loads it when metadata or tensors are asked for.
        """
        self._predictor = predictor
        self._since = since
        self._lock = Lock()
        self._bare = bare

    @property
    def manifest(self) -> Manifest:
        """Of the package."""
        return self._predictor.manifest

    @property
    def bare(self) -> BareEngine:
        """The network as it stands."""
        with self._lock:
            if self._bare is None:
                package = self._predictor.package
                network = package.file(package.manifest.engine.file)
                self._bare = BareEngine(network, where=self.manifest.name)
            return self._bare

    def metadata(self, name: str, *, versions: Sequence[str]) -> ModelMeta:
        """Inputs and outputs, those of pictures and those of tensors."""
        manifest = self.manifest
        pictures = [IMAGE, TEMPLATE] if manifest.template else [IMAGE]
        inputs = [TensorMeta(name=each, datatype=BYTES, shape=(ANY,)) for each in pictures]
        raw = self.bare.inputs[0]
        inputs.append(TensorMeta(name=INPUT, datatype="FP32", shape=raw.shape))
        outputs = [
            TensorMeta(name=each, datatype=kind, shape=shape)
            for each, kind, shape in _decided_outputs(manifest)
        ]
        outputs += [
            TensorMeta(name=slot.name, datatype="FP32", shape=slot.shape)
            for slot in self.bare.outputs
        ]
        return ModelMeta(
            name=name, versions=tuple(versions), platform=PLATFORM,
            inputs=tuple(inputs), outputs=tuple(outputs),
        )  # fmt: skip

    def infer(self, request: InferRequest) -> tuple[Tensor, ...]:
        """The outputs that are asked for.

        Args:
            request: checked in form only.

        Raises:
            InvalidError: inputs that do not go together, or an output that is not there.
        """
        given = {each.name: each for each in request.inputs}
        if len(given) != len(request.inputs):
            raise InvalidError("an input is given twice", where="inputs", fix="Send each once.")
        if set(given) == {INPUT}:
            return _chosen(self._raw(given[INPUT]), request)
        if IMAGE in given and set(given) <= {IMAGE, TEMPLATE}:
            pairs = _pairs(given[IMAGE], given.get(TEMPLATE))
            return _chosen(self._of_pictures(pairs, request), request)
        raise InvalidError(
            f"inputs {', '.join(sorted(given))[:80]}",
            where="inputs",
            fix=f"Send {IMAGE} (with {TEMPLATE} where the package compares), or {INPUT}.",
        )

    def _run(self, crops: NDArray[np.float32]) -> Arrays:
        """The bare network's outputs by name."""
        predictions = self.bare.run({INPUT: crops})
        return {slot.name: each for slot, each in zip(self.bare.outputs, predictions, strict=True)}

    def _raw(self, crops: Tensor) -> list[Tensor]:
        wanted = self.bare.inputs[0].shape
        fits = len(crops.shape) == len(wanted) and all(
            asked in (ANY, size) for size, asked in zip(crops.shape, wanted, strict=True)
        )
        if crops.datatype != "FP32" or not fits or 0 in crops.shape:
            raise InvalidError(
                f"{crops.datatype} of {list(crops.shape)}",
                where=f"input {INPUT!r}",
                fix=f"Send FP32 of {list(wanted)}, -1 for any size.",
            )
        if not np.isfinite(crops.values).all():
            raise InvalidError(
                "values that are no finite numbers", where=f"input {INPUT!r}", fix="Leave them out."
            )
        return [tensor(name, np.asarray(each)) for name, each in self._run(crops.values).items()]

    def _of_pictures(self, pairs: Sequence[_Pair], request: InferRequest) -> list[Tensor]:
        wanted = {each.name for each in request.outputs}
        own: set[str] = set()
        if not wanted <= {name for name, _, _ in _decided_outputs(self.manifest)} or not wanted:
            with suppress(InvalidError):  # a network that metadata cannot describe either
                own = {slot.name for slot in self.bare.outputs}
        found: list[Tensor] = []
        if not wanted or wanted - own:
            predictions = [
                self._predictor.predict_single(frame, template=template)
                for frame, template in map(self._opened, pairs)
            ]
            found += decided_tensors(predictions, self.manifest)
        if own:
            raw, missing = self._raw_of(pairs)
            if missing and wanted:
                raise InvalidError(
                    missing, where="outputs", fix="Send such pictures by themselves, or as crops."
                )
            found += raw
        return found

    def _raw_of(self, pairs: Sequence[_Pair]) -> tuple[list[Tensor], str]:
        """The network's own outputs of pictures, or why there are none."""
        found: list[Arrays] = []
        sizes: set[tuple[int, ...]] = set()
        for frame, template in map(self._opened, pairs):
            try:
                crops = self._predictor.crops(frame, template=template)
            except InvalidError as error:
                return [], error.message
            sizes.add(crops.shape[1:])
            if len(sizes) > 1 or max(crops.shape[2:]) > TILE_PX:
                return [], f"pictures of several sizes, or a side above {TILE_PX} px"
            found.append(self._run(crops))
            if sum(each.nbytes for one in found for each in one.values()) > _MOST_RAW_BYTES:
                return [], f"outputs above {_MOST_RAW_BYTES} bytes"
        return [tensor(name, np.concatenate([one[name] for one in found])) for name in found[0]], ""

    def _opened(self, pair: _Pair) -> tuple[Frame, NDArray[np.uint8] | None]:
        picture, template = pair
        frame = open_frame(
            picture, camera="open-inference", captured_at=self._since,
            max_bytes=_MOST_PICTURE_BYTES,
        )  # fmt: skip
        if template is None:
            return frame, None
        return frame, decode_picture(template, max_bytes=_MOST_PICTURE_BYTES)


def _pairs(image: Tensor, template: Tensor | None) -> list[_Pair]:
    pictures = _pictures(image, name=IMAGE)
    beside = [None] * len(pictures) if template is None else _pictures(template, name=TEMPLATE)
    if len(beside) != len(pictures):
        raise InvalidError(
            f"{len(beside)} templates for {len(pictures)} pictures",
            where=TEMPLATE,
            fix="Send one for each.",
        )
    return list(zip(pictures, beside, strict=True))


def _pictures(given: Tensor, *, name: str) -> list[bytes]:
    found: list[bytes] = given.values.reshape(-1).tolist() if given.datatype == BYTES else []
    if not 1 <= len(found) <= _MOST_PICTURES:
        raise InvalidError(
            f"{given.datatype} of {list(given.shape)}",
            where=f"input {name!r}",
            fix=f"Send 1 to {_MOST_PICTURES} JPEG or PNG pictures as BYTES.",
        )
    return found


def _chosen(outputs: Sequence[Tensor], request: InferRequest) -> tuple[Tensor, ...]:
    if not request.outputs:
        return tuple(outputs)
    known = {each.name: each for each in outputs}
    for wanted in request.outputs:
        if wanted.name not in known:
            raise InvalidError(
                f"no output {wanted.name[:60]!r}",
                where="outputs",
                fix=f"These inputs give {', '.join(known)}.",
            )
    return tuple(known[wanted.name] for wanted in request.outputs)


# ---- decisions as tensors


def _decided_outputs(manifest: Manifest) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, datatype and shape of what pictures give."""
    many = (ANY,)
    found: list[tuple[str, str, tuple[int, ...]]] = [
        ("prediction", BYTES, many),
        ("state", BYTES, many),
    ]
    if manifest.task in _LABELLED:
        wide = (ANY, len(manifest.labels))
        found += [("labels", BYTES, wide), ("decisions", BYTES, wide)]
        found += [("probabilities", "FP32", wide)]
    if manifest.task == "count":
        found += [(name, "INT32", many) for name in ("count", "count_low", "count_high")]
    if manifest.task in _OBJECTS:
        found += [("boxes", "FP32", (ANY, 4)), ("box_labels", BYTES, many)]
        found += [("box_scores", "FP32", many), ("box_image", "INT32", many)]
    if manifest.task == "segment":
        found += [("mask_rle", BYTES, many), ("mask_share", "FP32", many)]
    if manifest.task == "anomaly":
        found += [("score", "FP32", many), ("limit", "FP32", many), ("decision", BYTES, many)]
    return found


def decided_tensors(predictions: Sequence[Prediction], manifest: Manifest) -> list[Tensor]:
    """Predictions of one package as the tensors of its task, see the module."""
    found = [
        _bytes("prediction", [encode(each) for each in predictions]),
        texts("state", [each.state.value for each in predictions]),
    ]
    if manifest.task in _LABELLED:
        found += _labels(predictions, manifest.labels)
    if manifest.task == "count":
        found += _counts(predictions)
    if manifest.task in _OBJECTS:
        found += _boxes(predictions)
    if manifest.task == "segment":
        found += _masks(predictions)
    if manifest.task == "anomaly":
        found += _scores(predictions)
    return found


def _bytes(name: str, items: Sequence[bytes]) -> Tensor:
    values = np.empty(len(items), dtype=object)
    values[:] = list(items)
    return Tensor(name=name, datatype=BYTES, values=values)


def _labels(predictions: Sequence[Prediction], names: Sequence[str]) -> list[Tensor]:
    by_name = [{label.name: label for label in each.labels} for each in predictions]
    chances = [
        [one[name].probability if name in one else np.nan for name in names] for one in by_name
    ]
    decisions = [
        [str(one[name].decision if name in one else Decision.UNSURE) for name in names]
        for one in by_name
    ]
    return [
        texts("labels", [list(names)] * len(predictions)),
        texts("decisions", decisions),
        tensor("probabilities", np.array(chances, np.float32)),
    ]


def _counts(predictions: Sequence[Prediction]) -> list[Tensor]:
    found = [each.count for each in predictions]
    rows = [(-1, -1, -1) if one is None else (one.value, one.low, one.high) for one in found]
    columns = np.array(rows, np.int32)
    names = ("count", "count_low", "count_high")
    return [tensor(name, columns[:, place]) for place, name in enumerate(names)]


def _boxes(predictions: Sequence[Prediction]) -> list[Tensor]:
    every = [(place, box) for place, each in enumerate(predictions) for box in each.boxes]
    corners = [(box.x0_px, box.y0_px, box.x1_px, box.y1_px) for _, box in every]
    return [
        tensor("boxes", np.array(corners, np.float32).reshape(-1, 4)),
        texts("box_labels", [box.label for _, box in every]),
        tensor("box_scores", np.array([box.probability for _, box in every], np.float32)),
        tensor("box_image", np.array([place for place, _ in every], np.int32)),
    ]


def _masks(predictions: Sequence[Prediction]) -> list[Tensor]:
    found = [each.mask for each in predictions]
    shares = [0.0 if one is None else one.share for one in found]
    return [
        texts("mask_rle", ["" if one is None else one.rle for one in found]),
        tensor("mask_share", np.array(shares, np.float32)),
    ]


def _scores(predictions: Sequence[Prediction]) -> list[Tensor]:
    found = [each.anomaly if each.state is PictureState.OK else None for each in predictions]
    scores = [(np.nan, np.nan) if one is None else (one.score, one.limit) for one in found]
    columns = np.array(scores, np.float32)
    decisions = [str(Decision.UNSURE if one is None else one.decision) for one in found]
    return [
        tensor("score", columns[:, 0]),
        tensor("limit", columns[:, 1]),
        texts("decision", decisions),
    ]


class InferenceModels(Protocol):
    """Models by name and version; "" is the newest version. Safe from several threads."""

    def names(self) -> Sequence[str]:
        """Every model that is served."""
        ...

    def ready(self, name: str, *, version: str) -> bool:
        """Return whether a call would be answered; ``NotFoundError`` if there is no such model."""
        ...

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        """``NotFoundError`` if there is no such model."""
        ...

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        """Answer.

        Raises:
            NotFoundError: no such model or version.
            InvalidError: inputs that do not fit.
            UnavailableError: too many calls at once.
        """
        ...


def choose_version(versions: Sequence[str], wanted: str, *, name: str) -> str:
    """The version that is meant; the first where none is named.

    Raises:
        NotFoundError: it is not served.
    """
    if not versions:
        raise NotFoundError(
            f"no approved model {name[:60]!r}", where="models", fix="See /v2 for their names."
        )
    if wanted and wanted not in versions:
        raise NotFoundError(
            f"no approved version {wanted[:40]!r} of {name[:60]!r}",
            where="models",
            fix=f"Served: {', '.join(versions[:20])}.",
        )
    return wanted or versions[0]
