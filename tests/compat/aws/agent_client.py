"""Messages that a client of ``AWS.SageMaker.Edge`` writes, from records."""

from datetime import UTC, datetime, timedelta

from lineside.compat.aws import agent_pb2
from lineside.compat.aws.edge_agent import Auxiliary, Capture, tensor_to_wire

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_to_wire(moment: datetime) -> agent_pb2.Timestamp:
    """An aware time."""
    whole = moment.astimezone(UTC) - _EPOCH
    seconds = whole // timedelta(seconds=1)
    return agent_pb2.Timestamp(seconds=seconds, nanos=whole.microseconds * 1000)


def auxiliary_to_wire(auxiliary: Auxiliary) -> agent_pb2.AuxilaryData:
    """Something beside the tensors."""
    number = agent_pb2.Encoding.Value(auxiliary.encoding)
    return agent_pb2.AuxilaryData(name=auxiliary.name, encoding=number, byte_data=auxiliary.data)


def capture_to_wire(capture: Capture) -> agent_pb2.CaptureDataRequest:
    """A request to keep what was asked and answered."""
    message = agent_pb2.CaptureDataRequest(
        model_name=capture.model,
        capture_id=capture.capture_id,
        input_tensors=[tensor_to_wire(part) for part in capture.input_tensors],
        output_tensors=[tensor_to_wire(part) for part in capture.output_tensors],
        inputs=[auxiliary_to_wire(each) for each in capture.inputs],
        outputs=[auxiliary_to_wire(each) for each in capture.outputs],
    )
    if capture.inferred_at is not None:
        message.inference_timestamp.CopyFrom(moment_to_wire(capture.inferred_at))
    return message
