"""Models and their results: a package, loaded, and what it says of an image.

1. An image is a path, the bytes of a JPEG or PNG, a Pillow image, or an array (height, width, 3)
   uint8 in RGB. Each is judged by itself, whatever was asked before.
2. A result holds the prediction that a device would send of the same package and image. Its
   verdict follows the rules of ``lineside.vision.verdict``.
3. Of a file nothing is verified but the package's own digests. A package that is named at a hub is
   signed, or it is not loaded (``Hub.package``).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    InvalidError,
    NotFoundError,
    SystemClock,
    digest_of,
    need,
    to_plain,
)
from lineside.models import EngineDevice, EngineName, Manifest, Package, Predictor
from lineside.models.manifest import labels_of
from lineside.vision import BoxAnswer, Frame, LabelAnswer, Prediction, open_frame
from lineside.vision.draw import draw_overlay
from lineside.vision.masks import mask_of, pieces_of
from lineside.vision.verdict import Judgement, RejectRule, judge_prediction

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image as PillowImage
    from supervision import Detections

    from lineside.library.hub import Hub
    from lineside.vision import AnomalyAnswer, CountAnswer


@runtime_checkable
class ConvertibleImage(Protocol):
    """An image of Pillow, or one that converts as those do."""

    def convert(self, mode: str) -> Self:
        """Return the image in another mode, such as ``RGB``."""
        ...


_COUNT_KEYS = ("value", "low", "high", "more", "decision")
Image = str | PathLike[str] | bytes | NDArray[np.uint8] | ConvertibleImage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """Origin of a result, for maps that are computed when they are asked for."""

    predictor: Predictor
    frame: Frame
    template: NDArray[np.uint8] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """The answers of a package for one image.

    Attributes:
        name: path of the image, or its digest where it came as bytes or pixels.
        image: (height, width, 3) uint8, RGB, read-only.
        prediction: as a device sends it; labels, boxes, count, mask and score with decisions.
    """

    name: str
    image: NDArray[np.uint8]
    prediction: Prediction
    _judgement: Judgement = field(repr=False)
    _source: _Source = field(repr=False)

    @property
    def verdict(self) -> str:
        """``ok``, ``reject`` or ``review``."""
        return self._judgement.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is no ok, a short sentence each."""
        return self._judgement.reasons

    @property
    def task(self) -> str:
        """Task of the package: multilabel, classify, detect, count, segment or anomaly."""
        return self.prediction.task

    @property
    def state(self) -> str:
        """``ok``, or why nothing could be said: camera moved, black, blurred, unfamiliar, ...."""
        return self.prediction.state

    @property
    def labels(self) -> tuple[LabelAnswer, ...]:
        """Every label with its probability (0-1) and decision."""
        return self.prediction.labels

    @property
    def boxes(self) -> tuple[BoxAnswer, ...]:
        """Objects found, in pixels of the image; the lower right corner lies outside the box."""
        return self.prediction.boxes

    @property
    def count(self) -> "CountAnswer | None":
        """Number of objects with its interval; None where the task counts nothing."""
        return self.prediction.count

    @property
    def anomaly(self) -> "AnomalyAnswer | None":
        """Score and limit; None where the task is another."""
        return self.prediction.anomaly

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(height, width) bool, True where a pixel is defect; None where the task has no mask."""
        mask = self.prediction.mask
        if mask is None:
            return None
        pixels = mask_of(mask.rle, width_px=mask.width_px, height_px=mask.height_px)
        return np.asarray(pixels, np.bool_)

    @cached_property
    def heat(self) -> dict[str, NDArray[np.float32]]:
        """Heat maps, computed when asked for: label → (height, width) float32, 0-1."""
        source = self._source
        return source.predictor.explain(source.frame, template=source.template)

    def plot(self) -> "PillowImage.Image":
        """Return a copy of the image with the answers drawn on it.

        Raises:
            MissingExtraError: Pillow is not installed.
        """
        drawn: PillowImage.Image = need("PIL.Image", extra="edge").fromarray(
            draw_overlay(self.image, self.prediction)
        )
        return drawn

    def to_supervision(self) -> "Detections":
        """Return boxes, or the pieces of the mask, as detections of the library supervision.

        Returns:
            ``xyxy`` (n, 4) float32 in pixels of the image, the lower right corner outside;
            ``confidence`` (n,) float32, 0-1, of a piece that of the whole image; ``class_id`` (n,)
            int64, the place in the labels of the package, behind them those that only its rule
            has; ``mask`` (n, height, width) bool, the largest 100 pieces (8 neighbours), None where
            the task has no mask; in ``data`` ``class_name`` and ``decision``, text (n,). n is 0
            where nothing was found.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        supervision = need("supervision", version=">=0.30")
        answers, masks = list[BoxAnswer | LabelAnswer](), None
        if self.mask is None:
            answers += self.boxes
            corners = [(one.x0_px, one.y0_px, one.x1_px, one.y1_px) for one in self.boxes]
            places = np.array(corners, np.float32).reshape(-1, 4)
        else:
            places, masks = pieces_of(self.mask)
            answers += self.labels * len(places)
        manifest = self._source.predictor.manifest
        ruled = manifest.detect.labels if manifest.detect else [one.label for one in self.labels]
        known = list(dict.fromkeys([*labels_of(manifest), *ruled]))
        detections: Detections = supervision.Detections(
            xyxy=places, mask=masks,
            confidence=np.array([one.probability for one in answers], np.float32),
            class_id=np.array([known.index(one.label) for one in answers], np.int64),
            data={
                "class_name": np.array([one.label for one in answers], np.str_),
                "decision": np.array([str(one.decision) for one in answers], np.str_),
            },
        )  # fmt: skip
        return detections

    def to_dict(self) -> dict[str, Any]:
        """Return the answers as plain JSON values; the keys are those of ``lineside predict``."""
        said = self.prediction
        plain: dict[str, Any] = to_plain(said)
        mask = plain["mask"]
        count = plain["count"]
        return {
            "file": self.name,
            "task": said.task,
            "state": said.state,
            "reason": said.reason,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "labels": [
                {name: label[name] for name in ("name", "probability", "decision")}
                for label in plain["labels"]
            ],
            "boxes": plain["boxes"],
            "count": count and {name: count[name] for name in count if name in _COUNT_KEYS},
            "mask_rle": mask and mask.pop("rle"),
            "mask": mask,
            "anomaly": plain["anomaly"],
            "latency_ms": said.latency_ms.total,
        }

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row for each answer; see ``table``."""
        return table([self])


class Model:
    """A package, loaded and ready to judge images; safe from several threads."""

    def __init__(
        self,
        package: Package,
        *,
        rule: RejectRule | None = None,
        engine: EngineName = EngineName.ONNX_RUNTIME,
        device: EngineDevice = EngineDevice.CPU,
        clock: Clock | None = None,
    ) -> None:
        """Load the network; see ``load``."""
        self._clock = clock or SystemClock()
        self._predictor = Predictor(package, clock=self._clock, engine=engine, device=device)
        self._rule = rule or RejectRule()

    @property
    def manifest(self) -> Manifest:
        """Manifest of the package: labels, metrics, limits, origin."""
        return self._predictor.manifest

    @property
    def digest(self) -> str:
        """Digest of the package, ``sha256:…``."""
        return self._predictor.package.digest

    @property
    def device(self) -> str:
        """The processor that the network runs on: ``cpu``, ``cuda`` or ``gpu``, never ``auto``."""
        return self._predictor.device

    # A text, bytes or an array is one image here, although each is a sequence as well.
    @overload
    def predict(self, image: Image, *, template: Image | None = None) -> Result: ...  # type: ignore[overload-overlap]
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, image: Sequence[Image], *, template: Image | None = None
    ) -> list[Result]: ...
    @overload
    def predict(
        self, image: Iterable[Image], *, template: Image | None = None
    ) -> Iterator[Result]: ...
    def predict(
        self, image: Image | Iterable[Image], *, template: Image | None = None
    ) -> Result | list[Result] | Iterator[Result]:
        """Judge an image, each of a list, or each of an iterable when its turn comes.

        Args:
            image: a path, the bytes of a JPEG or PNG, a Pillow image, or an array (height, width,
                3) uint8 in RGB; a list, or any other iterable, of them.
            template: how the image should look, where the package compares.

        Raises:
            InvalidError: no such image, or the template is missing.
            NotFoundError: the file is not there.
        """
        beside = None if template is None else self._frame(template)[1].image
        if isinstance(image, list | tuple):
            return [self._judge(one, template=beside) for one in image]
        if isinstance(image, str | PathLike | bytes | np.ndarray | ConvertibleImage):
            return self._judge(image, template=beside)
        if isinstance(image, Iterable):
            return (self._judge(one, template=beside) for one in image)
        raise _no_image(image)

    def _judge(self, image: Image, *, template: NDArray[np.uint8] | None) -> Result:
        name, frame = self._frame(image)
        prediction = self._predictor.predict_single(frame, template=template)
        return Result(
            name=name,
            image=frame.image,
            prediction=prediction,
            _judgement=judge_prediction(prediction, self._rule),
            _source=_Source(predictor=self._predictor, frame=frame, template=template),
        )

    def _frame(self, image: Image) -> tuple[str, Frame]:
        now = self._clock.now()
        match image:
            case str() | PathLike():
                path = Path(image)
                try:
                    return str(path), open_frame(
                        path.read_bytes(), camera=str(path), captured_at=now
                    )
                except OSError as error:
                    raise NotFoundError(
                        f"cannot read the image: {error.strerror}", where=str(path),
                        fix="Name a JPEG or PNG file.",
                    ) from error  # fmt: skip
            case bytes():
                digest = digest_of(image)
                return digest, open_frame(image, camera=digest, captured_at=now)
            case np.ndarray():
                pixels = image
            case ConvertibleImage():
                pixels = np.asarray(image.convert("RGB"))
            case _:
                raise _no_image(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise InvalidError(
                f"an array of shape {pixels.shape} and type {pixels.dtype}",
                where="image",
                fix="Give (height, width, 3) uint8 in RGB.",
            )
        own = np.array(pixels)  # the caller may go on writing into its array
        digest = digest_of(own.tobytes())
        return digest, Frame(image=own, encoded=b"", camera=digest, captured_at=now, digest=digest)


def load(
    package: str | PathLike[str] | bytes | Package,
    *,
    hub: "Hub | None" = None,
    reject: Collection[str] = (),
    good: Collection[str] = (),
    expected_labels: Collection[str] | None = None,
    expected_count: int | None = None,
    engine: str = EngineName.ONNX_RUNTIME,
    device: str = EngineDevice.CPU,
) -> Model:
    """Load a package.

    Args:
        package: path of an ``.lspkg`` file, its bytes, or one that was read; with ``hub`` the name
            of a signed package there, ``GROUP/NUMBER`` or ``sha256:…``.
        hub: where it is fetched from, and verified as ``Hub.package`` says; None: it is a file.
        reject: labels that reject a part; empty: every label that is not good, but of boxes none.
        good: labels that mean a good part; empty: those of the package's training, else the usual
            words, such as good and ok.
        expected_labels: presence labels of a good part; None: none is expected.
        expected_count: number of objects of a good part; None: none is expected.
        engine: ``onnxruntime``, ``openvino`` or ``tensorrt``.
        device: ``cpu``, ``cuda`` (a GPU of NVIDIA), ``gpu`` (one of Intel, by OpenVINO), or
            ``auto``: a GPU where there is one. A GPU has to answer the package's golden images.

    Raises:
        NotFoundError: no such file, or the hub has signed no package of this name.
        InvalidError: it is no package.
        RefusedError: its content is not what its digests promise, or what was signed; or a GPU
            answers the golden images outside the package's bound.
        UnavailableError: the hub is away, or the device.
        MissingExtraError: the engine is not installed, or not for this device.
    """
    for name, value, known in (("engine", engine, EngineName), ("device", device, EngineDevice)):
        if value not in list(known):
            raise InvalidError(
                f"no {name} {value!r}", where=name, fix=f"Known: {', '.join(known)}."
            )
    match package:
        case Package():
            opened = package
        case bytes():
            opened = Package.read(package)
        case _ if hub is not None:
            opened = hub.package(str(package))
        case _:
            opened = Package.open(Path(package))
    rule = RejectRule(
        good=good or opened.manifest.good, reject=reject, expected_labels=expected_labels,
        expected_count=expected_count,
    )  # fmt: skip
    return Model(opened, rule=rule, engine=EngineName(engine), device=EngineDevice(device))


def table(results: Iterable[Result]) -> "pd.DataFrame":
    """Return results as a table of pandas: a row for each label and box, or one for the image.

    Columns: file, verdict, state, kind (label, box or image), name, probability, decision, x0_px,
    y0_px, x1_px, y1_px, count, score.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    rows: list[dict[str, object]] = []
    for result in results:
        said = result.prediction
        head = {"file": result.name, "verdict": result.verdict, "state": result.state}
        rows += [
            {**head, "kind": "label", "name": one.name, "probability": one.probability,
             "decision": str(one.decision)}
            for one in said.labels
        ]  # fmt: skip
        rows += [
            {**head, "kind": "box", "name": one.label, "probability": one.probability,
             "decision": str(one.decision), "x0_px": one.x0_px, "y0_px": one.y0_px,
             "x1_px": one.x1_px, "y1_px": one.y1_px}
            for one in said.boxes
        ]  # fmt: skip
        whole = {
            "count": None if said.count is None else said.count.value,
            "score": None if said.anomaly is None else said.anomaly.score,
        }
        if not (said.labels or said.boxes) or any(value is not None for value in whole.values()):
            rows.append({**head, "kind": "image", **whole})
    from lineside.library.hub import data_frame

    return data_frame(rows, columns=_COLUMNS)


_COLUMNS = (
    "file", "verdict", "state", "kind", "name", "probability", "decision", "x0_px", "y0_px",
    "x1_px", "y1_px", "count", "score",
)  # fmt: skip


def _no_image(image: object) -> InvalidError:
    return InvalidError(
        f"{type(image).__name__} is no image", where="image",
        fix="Give a path, the bytes of a JPEG or PNG, a Pillow image or an RGB array.",
    )  # fmt: skip
