import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_PRESENT: _ClassVar[Decision]
    DECISION_ABSENT: _ClassVar[Decision]
    DECISION_UNSURE: _ClassVar[Decision]

class PictureState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PICTURE_STATE_UNSPECIFIED: _ClassVar[PictureState]
    PICTURE_STATE_OK: _ClassVar[PictureState]
    PICTURE_STATE_CAMERA_MOVED: _ClassVar[PictureState]
    PICTURE_STATE_BLACK: _ClassVar[PictureState]
    PICTURE_STATE_OVEREXPOSED: _ClassVar[PictureState]
    PICTURE_STATE_BLURRED: _ClassVar[PictureState]
    PICTURE_STATE_FROZEN: _ClassVar[PictureState]
    PICTURE_STATE_UNFAMILIAR: _ClassVar[PictureState]
DECISION_UNSPECIFIED: Decision
DECISION_PRESENT: Decision
DECISION_ABSENT: Decision
DECISION_UNSURE: Decision
PICTURE_STATE_UNSPECIFIED: PictureState
PICTURE_STATE_OK: PictureState
PICTURE_STATE_CAMERA_MOVED: PictureState
PICTURE_STATE_BLACK: PictureState
PICTURE_STATE_OVEREXPOSED: PictureState
PICTURE_STATE_BLURRED: PictureState
PICTURE_STATE_FROZEN: PictureState
PICTURE_STATE_UNFAMILIAR: PictureState

class PredictRequest(_message.Message):
    __slots__ = ("model", "inspection", "picture", "template", "camera", "captured_at", "part", "sequence")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    inspection: str
    picture: bytes
    template: bytes
    camera: str
    captured_at: _timestamp_pb2.Timestamp
    part: str
    sequence: int
    def __init__(self, model: _Optional[str] = ..., inspection: _Optional[str] = ..., picture: _Optional[bytes] = ..., template: _Optional[bytes] = ..., camera: _Optional[str] = ..., captured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., part: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class FrameRef(_message.Message):
    __slots__ = ("id", "camera", "captured_at", "digest", "sequence", "part")
    ID_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    id: str
    camera: str
    captured_at: _timestamp_pb2.Timestamp
    digest: str
    sequence: int
    part: str
    def __init__(self, id: _Optional[str] = ..., camera: _Optional[str] = ..., captured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., digest: _Optional[str] = ..., sequence: _Optional[int] = ..., part: _Optional[str] = ...) -> None: ...

class LabelAnswer(_message.Message):
    __slots__ = ("name", "region", "label", "probability", "decision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    region: str
    label: str
    probability: float
    decision: Decision
    def __init__(self, name: _Optional[str] = ..., region: _Optional[str] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ..., decision: _Optional[_Union[Decision, str]] = ...) -> None: ...

class BoxAnswer(_message.Message):
    __slots__ = ("label", "x0_px", "y0_px", "x1_px", "y1_px", "probability", "decision")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    X0_PX_FIELD_NUMBER: _ClassVar[int]
    Y0_PX_FIELD_NUMBER: _ClassVar[int]
    X1_PX_FIELD_NUMBER: _ClassVar[int]
    Y1_PX_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    label: str
    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    probability: float
    decision: Decision
    def __init__(self, label: _Optional[str] = ..., x0_px: _Optional[float] = ..., y0_px: _Optional[float] = ..., x1_px: _Optional[float] = ..., y1_px: _Optional[float] = ..., probability: _Optional[float] = ..., decision: _Optional[_Union[Decision, str]] = ...) -> None: ...

class CountAnswer(_message.Message):
    __slots__ = ("value", "low", "high", "more", "decision", "chances", "expected")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CHANCES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    value: int
    low: int
    high: int
    more: bool
    decision: Decision
    chances: _containers.RepeatedScalarFieldContainer[float]
    expected: int
    def __init__(self, value: _Optional[int] = ..., low: _Optional[int] = ..., high: _Optional[int] = ..., more: _Optional[bool] = ..., decision: _Optional[_Union[Decision, str]] = ..., chances: _Optional[_Iterable[float]] = ..., expected: _Optional[int] = ...) -> None: ...

class MaskAnswer(_message.Message):
    __slots__ = ("rle", "width_px", "height_px", "share", "areas_px")
    RLE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    AREAS_PX_FIELD_NUMBER: _ClassVar[int]
    rle: str
    width_px: int
    height_px: int
    share: float
    areas_px: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rle: _Optional[str] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., share: _Optional[float] = ..., areas_px: _Optional[_Iterable[int]] = ...) -> None: ...

class AnomalyAnswer(_message.Message):
    __slots__ = ("score", "limit", "decision", "reason")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    score: float
    limit: float
    decision: Decision
    reason: str
    def __init__(self, score: _Optional[float] = ..., limit: _Optional[float] = ..., decision: _Optional[_Union[Decision, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Registration(_message.Message):
    __slots__ = ("state", "dx_px", "dy_px", "rotation_deg", "scale", "residual_px", "inliers", "correlation", "reason")
    STATE_FIELD_NUMBER: _ClassVar[int]
    DX_PX_FIELD_NUMBER: _ClassVar[int]
    DY_PX_FIELD_NUMBER: _ClassVar[int]
    ROTATION_DEG_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_PX_FIELD_NUMBER: _ClassVar[int]
    INLIERS_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    state: str
    dx_px: float
    dy_px: float
    rotation_deg: float
    scale: float
    residual_px: float
    inliers: int
    correlation: float
    reason: str
    def __init__(self, state: _Optional[str] = ..., dx_px: _Optional[float] = ..., dy_px: _Optional[float] = ..., rotation_deg: _Optional[float] = ..., scale: _Optional[float] = ..., residual_px: _Optional[float] = ..., inliers: _Optional[int] = ..., correlation: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Health(_message.Message):
    __slots__ = ("sharpness", "mean_grey", "clipped_share", "feature_distance")
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    MEAN_GREY_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_SHARE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    sharpness: float
    mean_grey: float
    clipped_share: float
    feature_distance: float
    def __init__(self, sharpness: _Optional[float] = ..., mean_grey: _Optional[float] = ..., clipped_share: _Optional[float] = ..., feature_distance: _Optional[float] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("decode_ms", "register_ms", "prepare_ms", "infer_ms", "decide_ms", "total_ms")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    REGISTER_MS_FIELD_NUMBER: _ClassVar[int]
    PREPARE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    DECIDE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    register_ms: float
    prepare_ms: float
    infer_ms: float
    decide_ms: float
    total_ms: float
    def __init__(self, decode_ms: _Optional[float] = ..., register_ms: _Optional[float] = ..., prepare_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., decide_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("frame", "inspection", "task", "state", "reason", "labels", "boxes", "count", "mask", "anomaly", "package", "dataset", "registration", "health", "latency", "device", "schema", "operating_point")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    ANOMALY_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OPERATING_POINT_FIELD_NUMBER: _ClassVar[int]
    frame: FrameRef
    inspection: str
    task: str
    state: PictureState
    reason: str
    labels: _containers.RepeatedCompositeFieldContainer[LabelAnswer]
    boxes: _containers.RepeatedCompositeFieldContainer[BoxAnswer]
    count: CountAnswer
    mask: MaskAnswer
    anomaly: AnomalyAnswer
    package: str
    dataset: str
    registration: Registration
    health: Health
    latency: StageTimes
    device: str
    schema: str
    operating_point: str
    def __init__(self, frame: _Optional[_Union[FrameRef, _Mapping]] = ..., inspection: _Optional[str] = ..., task: _Optional[str] = ..., state: _Optional[_Union[PictureState, str]] = ..., reason: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[LabelAnswer, _Mapping]]] = ..., boxes: _Optional[_Iterable[_Union[BoxAnswer, _Mapping]]] = ..., count: _Optional[_Union[CountAnswer, _Mapping]] = ..., mask: _Optional[_Union[MaskAnswer, _Mapping]] = ..., anomaly: _Optional[_Union[AnomalyAnswer, _Mapping]] = ..., package: _Optional[str] = ..., dataset: _Optional[str] = ..., registration: _Optional[_Union[Registration, _Mapping]] = ..., health: _Optional[_Union[Health, _Mapping]] = ..., latency: _Optional[_Union[StageTimes, _Mapping]] = ..., device: _Optional[str] = ..., schema: _Optional[str] = ..., operating_point: _Optional[str] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("heat_png",)
    class HeatPngEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    HEAT_PNG_FIELD_NUMBER: _ClassVar[int]
    heat_png: _containers.ScalarMap[str, bytes]
    def __init__(self, heat_png: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("inspection",)
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    inspection: str
    def __init__(self, inspection: _Optional[str] = ...) -> None: ...

class Watched(_message.Message):
    __slots__ = ("prediction", "missed")
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    prediction: Prediction
    missed: int
    def __init__(self, prediction: _Optional[_Union[Prediction, _Mapping]] = ..., missed: _Optional[int] = ...) -> None: ...

class ListPackagesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Package(_message.Message):
    __slots__ = ("model", "inspection", "digest", "task", "loaded_at")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSPECTION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    model: str
    inspection: str
    digest: str
    task: str
    loaded_at: _timestamp_pb2.Timestamp
    def __init__(self, model: _Optional[str] = ..., inspection: _Optional[str] = ..., digest: _Optional[str] = ..., task: _Optional[str] = ..., loaded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListPackagesResponse(_message.Message):
    __slots__ = ("packages",)
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    packages: _containers.RepeatedCompositeFieldContainer[Package]
    def __init__(self, packages: _Optional[_Iterable[_Union[Package, _Mapping]]] = ...) -> None: ...
