"""The least frame, label, prediction and manifest there is, for tests of what reads them."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from lineside.core import Digest, FrameId, Policy, digest_of, frame_id
from lineside.models import MANIFEST_SCHEMA, Engine, HealthLimits, Lineage, Manifest
from lineside.testing.clock import NOON
from lineside.vision import (
    Decision,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    PictureState,
    Prediction,
    Prepare,
    RegistrationFigures,
    StageTimes,
)

DIGEST = digest_of(b"picture")
PACKAGE = digest_of(b"package")
NETWORK_FILE = "network.onnx"


def bare_frame(
    name: str = "",
    *,
    camera: str = "rack",
    at: datetime = NOON,
    digest: Digest = DIGEST,
    sequence: int = 0,
    part: str = "",
) -> FrameRef:
    """A reference to a frame.

    Args:
        name: its id; "" for the one that camera, time and digest give.
        camera: id of the camera.
        at: when it was captured.
        digest: of the image.
        sequence: the camera's count.
        part: id of the part shown.
    """
    return FrameRef(
        id=FrameId(name) if name else frame_id(camera=camera, captured_at=at, digest=digest),
        camera=camera, captured_at=at, digest=digest, sequence=sequence, part=part,
    )  # fmt: skip


def bare_label(
    label: str, probability: float = 0.9, decision: str = "present", *, region: str = ""
) -> LabelAnswer:
    """An answer to one label of the whole image, or of ``region`` (then ``region/label``)."""
    return LabelAnswer(
        name=f"{region}/{label}" if region else label, region=region, label=label,
        probability=probability, decision=Decision(decision),
    )  # fmt: skip


def bare_prediction(frame: FrameRef | None = None, **fields: Any) -> Prediction:  # noqa: ANN401  of the record
    """A prediction of a good image that finds nothing; ``fields`` give it what is tested."""
    return replace(Prediction(
        frame=frame or bare_frame(), inspection="parts", task="classify", state=PictureState.OK,
        labels=(), package=PACKAGE, dataset="parts/1",
        registration=RegistrationFigures(state="none"),
        health=HealthFigures(sharpness=1.0, mean_grey=100.0, clipped_share=0.0),
        latency_ms=StageTimes(),
    ), **fields)  # fmt: skip


def bare_manifest(
    task: str,
    *,
    labels: tuple[str, ...] = (),
    prepare: Prepare | None = None,
    network: bytes = b"",
) -> Manifest:
    """A manifest without rules, golden pictures and figures; ``replace`` gives it what is tested.

    Args:
        task: what it answers.
        labels: what it can say.
        prepare: of the whole picture at 96 x 96 pixels, unless it is given.
        network: ONNX bytes, to stand in the package as ``NETWORK_FILE``.
    """
    return Manifest(
        schema=MANIFEST_SCHEMA,
        name="parts",
        task=task,
        inspection="parts",
        labels=labels,
        prepare=prepare or Prepare(crops=(), width_px=96, height_px=96),
        rules=(),
        policy=Policy(),
        health=HealthLimits(
            sharpness_min=0.0,
            mean_grey_min=0.0,
            mean_grey_max=255.0,
            clipped_share_max=1.0,
            residual_max_px=4.0,
            feature_distance_max=10.0,
        ),
        engine=Engine(file=NETWORK_FILE, digest=digest_of(network)),
        golden=(),
        lineage=Lineage(
            dataset="parts/1",
            data_digest=digest_of(b""),
            pictures=1,
            seed=0,
            code_version="",
            created_at="",
        ),
    )
