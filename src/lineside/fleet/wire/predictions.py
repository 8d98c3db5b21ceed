"""Predictions of ``lineside.edge.v1``: the record here, the message there, nothing lost."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from lineside.core import Digest, FrameId, InvalidError
from lineside.fleet.wire import lineside_edge_v1_pb2 as edge_pb2
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    FrameRef,
    HealthFigures,
    LabelAnswer,
    MaskAnswer,
    PictureState,
    Prediction,
    RegistrationFigures,
    StageTimes,
)

_Word = TypeVar("_Word", bound=StrEnum)
_Record = TypeVar("_Record")
_STAGES = tuple(each.name for each in fields(StageTimes))


def prediction_to_wire(prediction: Prediction) -> edge_pb2.Prediction:
    """The message of a prediction."""
    said = prediction
    return edge_pb2.Prediction(
        frame=_frame_to_wire(said.frame),
        inspection=said.inspection,
        task=said.task,
        state=_state_number(said.state),
        reason=said.reason,
        labels=[edge_pb2.LabelAnswer(**_decided(each)) for each in said.labels],
        boxes=[edge_pb2.BoxAnswer(**_decided(each)) for each in said.boxes],
        count=None if said.count is None else edge_pb2.CountAnswer(**_decided(said.count)),
        mask=None if said.mask is None else edge_pb2.MaskAnswer(**_facts(said.mask)),
        anomaly=None if said.anomaly is None else edge_pb2.AnomalyAnswer(**_decided(said.anomaly)),
        package=said.package,
        dataset=said.dataset,
        registration=edge_pb2.Registration(**_facts(said.registration)),
        health=edge_pb2.Health(**_facts(said.health)),
        latency=edge_pb2.StageTimes(
            **{f"{stage}_ms": getattr(said.latency_ms, stage) for stage in _STAGES}
        ),
        device=said.device,
        schema=said.schema,
    )


def prediction_from_wire(message: edge_pb2.Prediction) -> Prediction:
    """The prediction of a message.

    Raises:
        InvalidError: a decision, state or time is missing or unknown.
    """
    count, mask, anomaly = (message.HasField(name) for name in ("count", "mask", "anomaly"))
    return Prediction(
        frame=_frame_from_wire(message.frame),
        inspection=message.inspection,
        task=message.task,
        state=_state(message.state),
        reason=message.reason,
        labels=tuple(_read(LabelAnswer, each, decision=_of(each)) for each in message.labels),
        boxes=tuple(_read(BoxAnswer, each, decision=_of(each)) for each in message.boxes),
        count=_count_from_wire(message.count) if count else None,
        mask=_read(MaskAnswer, message.mask, areas_px=tuple(message.mask.areas_px))
        if mask
        else None,
        anomaly=_read(AnomalyAnswer, message.anomaly, decision=_of(message.anomaly))
        if anomaly
        else None,
        package=Digest(message.package),
        dataset=message.dataset,
        registration=_read(RegistrationFigures, message.registration),
        health=_read(HealthFigures, message.health),
        latency_ms=StageTimes(
            **{stage: getattr(message.latency, f"{stage}_ms") for stage in _STAGES}
        ),
        device=message.device,
        schema=message.schema,
    )


def time_to_wire(moment: datetime) -> Timestamp:
    """An aware time, to the microsecond."""
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def time_from_wire(message: Timestamp, *, where: str) -> datetime:
    """An aware UTC time; ``InvalidError`` beyond what a calendar holds."""
    try:
        moment: datetime = message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidError(
            f"{message.seconds} s and {message.nanos} ns are no time",
            where=where,
            fix="Send seconds since 1970, UTC, and 0 to 999999999 nanoseconds.",
        ) from error
    return moment


def _frame_to_wire(frame: FrameRef) -> edge_pb2.FrameRef:
    facts = _facts(frame) | {"captured_at": time_to_wire(frame.captured_at)}
    return edge_pb2.FrameRef(**facts)


def _frame_from_wire(message: edge_pb2.FrameRef) -> FrameRef:
    return _read(
        FrameRef,
        message,
        id=FrameId(message.id),
        digest=Digest(message.digest),
        captured_at=time_from_wire(message.captured_at, where="frame.captured_at"),
    )


def _count_from_wire(message: edge_pb2.CountAnswer) -> CountAnswer:
    chances = tuple(message.chances)
    return _read(CountAnswer, message, decision=_of(message), chances=chances)


def _facts(record: object) -> dict[str, Any]:
    """The fields of a record by name; those of its message are the same."""
    return {each.name: getattr(record, each.name) for each in fields(record)}  # type: ignore[arg-type]  # records only


def _decided(record: object) -> dict[str, Any]:
    facts = _facts(record)
    return facts | {"decision": edge_pb2.Decision.Value(f"DECISION_{facts['decision'].upper()}")}


def _read(kind: type[_Record], message: object, **more: object) -> _Record:
    """The record whose fields stand in a message, but for those that are handed in."""
    plain: Mapping[str, object] = {
        each.name: getattr(message, each.name)
        for each in fields(kind)  # type: ignore[arg-type]  # records only
        if each.name not in more
    }
    return kind(**plain, **more)


def _state_number(state: PictureState) -> edge_pb2.PictureState:
    number: edge_pb2.PictureState = edge_pb2.PictureState.Value(f"PICTURE_STATE_{state.name}")
    return number


def _state(number: int) -> PictureState:
    names = {f"PICTURE_STATE_{state.name}": state for state in PictureState}
    return _word(edge_pb2.PictureState, number, names=names, noun="state")


def _of(message: Any) -> Decision:  # noqa: ANN401  any message with a decision
    names = {f"DECISION_{decision.name}": decision for decision in Decision}
    return _word(edge_pb2.Decision, message.decision, names=names, noun="decision")


def _word(enum: Any, number: int, *, names: Mapping[str, _Word], noun: str) -> _Word:  # noqa: ANN401  generated type
    name = enum.Name(number) if number in enum.values() else ""
    if name not in names:
        raise InvalidError(
            f"{noun} {number} is none", where=noun, fix=f"Send one of {', '.join(names)}."
        )
    return names[name]
