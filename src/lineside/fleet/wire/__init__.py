"""Messages of a device's gRPC interfaces: protocols, stubs, conversions both ways.

``agent.proto`` is ``AWS.SageMaker.Edge``, ``open_inference.proto`` the Open Inference Protocol,
``lineside_edge_v1.proto`` our own. The stubs are made by
``make protos``, a test makes them again and compares. Not here: sockets and services (edge).
Imports protobuf and grpc, so the room's face does not import it.
"""

from lineside.fleet.wire import (
    agent_pb2,
    agent_pb2_grpc,
    lineside_edge_v1_pb2,
    lineside_edge_v1_pb2_grpc,
    open_inference_pb2,
    open_inference_pb2_grpc,
)
from lineside.fleet.wire.inference import (
    InferenceService,
    infer_from_wire,
    infer_to_wire,
    model_meta_to_wire,
)
from lineside.fleet.wire.predictions import (
    prediction_from_wire,
    prediction_to_wire,
    time_from_wire,
    time_to_wire,
)
from lineside.fleet.wire.tensors import (
    DTYPES,
    Auxiliary,
    Capture,
    CaptureStatus,
    Encoding,
    FutureError,
    TensorPart,
    auxiliary_from_wire,
    auxiliary_to_wire,
    capture_from_wire,
    capture_to_wire,
    model_to_wire,
    moment_from_wire,
    moment_to_wire,
    slot_from_wire,
    slot_to_wire,
    status_to_wire,
    tensor_from_wire,
    tensor_to_wire,
)

__all__ = [
    "DTYPES",
    "Auxiliary",
    "Capture",
    "CaptureStatus",
    "Encoding",
    "FutureError",
    "InferenceService",
    "TensorPart",
    "agent_pb2",
    "agent_pb2_grpc",
    "auxiliary_from_wire",
    "auxiliary_to_wire",
    "capture_from_wire",
    "capture_to_wire",
    "infer_from_wire",
    "infer_to_wire",
    "lineside_edge_v1_pb2",
    "lineside_edge_v1_pb2_grpc",
    "model_meta_to_wire",
    "model_to_wire",
    "moment_from_wire",
    "moment_to_wire",
    "open_inference_pb2",
    "open_inference_pb2_grpc",
    "prediction_from_wire",
    "prediction_to_wire",
    "slot_from_wire",
    "slot_to_wire",
    "status_to_wire",
    "tensor_from_wire",
    "tensor_to_wire",
    "time_from_wire",
    "time_to_wire",
]
