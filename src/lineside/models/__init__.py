"""What is learned, as something that can be kept, checked and run.

Main names: ``Manifest``, ``build_package`` and ``Package`` (the ``.lspkg`` archive), ``Predictor``
(from a frame to a prediction), ``Registry`` (which packages there are and which is in use), the
answer shapes of others' contracts in ``serving``. Not here: training, and what knows torch.
"""

from lineside.models.answerers import Answerer, Place, Said, answerer_for, probe
from lineside.models.archive import Package, PackageLimits, build_package
from lineside.models.certificate import FEW_PICTURES, Loss, Parity
from lineside.models.comparison import COMPARISON_SCHEMA, Change, Comparison, Speed
from lineside.models.engines.bare import ANY, BareEngine, TensorSlot
from lineside.models.engines.contract import (
    LABEL_OUTPUTS,
    EngineName,
    OpenEngine,
    RunningNetwork,
)
from lineside.models.engines.onnx import OnnxEngine
from lineside.models.engines.table import engine_named
from lineside.models.groups import (
    GroupSettings,
    ModelGroups,
    Weekday,
    Window,
    may_start,
    next_start,
)
from lineside.models.manifest import (
    MANIFEST_SCHEMA,
    PLATFORMS,
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    Metric,
    manifest_faults,
)
from lineside.models.predictor import GoldenReport, Predictor, heat_png
from lineside.models.quantize import LADDER, Layer, Quantised, Rung, quantise, rungs_of
from lineside.models.registry import Approval, PackageRecord, Registry
from lineside.models.sbom import SBOM_FILE, inventoried
from lineside.models.serving.counts import count_answer
from lineside.models.serving.open_inference import ModelMeta, ServedModel, TensorMeta
from lineside.models.serving.open_inference_http import (
    EXTENSIONS,
    HttpAnswer,
    InferenceModels,
    choose_version,
    http_failure,
    http_infer,
    http_live,
    http_model,
    http_model_ready,
    http_server,
    http_server_ready,
    server_name,
)
from lineside.models.serving.sagemaker import (
    ContentTypeError,
    Presence,
    answer_labels,
    endpoint_score,
    invocation_picture,
    label_cuts,
    presence_flags,
    sagemaker_answer,
)
from lineside.models.serving.tensors import (
    DATATYPES,
    InferRequest,
    InferResponse,
    Tensor,
    WantedOutput,
    checked_shape,
    read_request,
    strings,
    write_response,
)
from lineside.models.serving.tensors import from_raw as tensor_from_raw
from lineside.models.serving.tensors import to_raw as tensor_to_raw
from lineside.models.versions import (
    Approvers,
    Creation,
    ModelVersion,
    ModelVersions,
    Status,
    Verdict,
    check_group,
    made_by,
    makers,
)
from lineside.models.wrap import wrapped
from lineside.models.wrapping import Wrapping, read_wrapping
from lineside.vision import LabelRule, LimitRow

__all__ = [
    "ANY",
    "COMPARISON_SCHEMA",
    "DATATYPES",
    "EXTENSIONS",
    "FEW_PICTURES",
    "LABEL_OUTPUTS",
    "LADDER",
    "MANIFEST_SCHEMA",
    "PLATFORMS",
    "SBOM_FILE",
    "Answerer",
    "Approval",
    "Approvers",
    "BareEngine",
    "Change",
    "Comparison",
    "ContentTypeError",
    "Creation",
    "Engine",
    "EngineName",
    "Golden",
    "GoldenReport",
    "GroupSettings",
    "HealthLimits",
    "HttpAnswer",
    "InferRequest",
    "InferResponse",
    "InferenceModels",
    "LabelRule",
    "Layer",
    "LimitRow",
    "Lineage",
    "Loss",
    "Manifest",
    "Metric",
    "ModelGroups",
    "ModelMeta",
    "ModelVersion",
    "ModelVersions",
    "OnnxEngine",
    "OpenEngine",
    "Package",
    "PackageLimits",
    "PackageRecord",
    "Parity",
    "Place",
    "Predictor",
    "Presence",
    "Quantised",
    "Registry",
    "Rung",
    "RunningNetwork",
    "Said",
    "ServedModel",
    "Speed",
    "Status",
    "Tensor",
    "TensorMeta",
    "TensorSlot",
    "Verdict",
    "WantedOutput",
    "Weekday",
    "Window",
    "Wrapping",
    "answer_labels",
    "answerer_for",
    "build_package",
    "check_group",
    "checked_shape",
    "choose_version",
    "count_answer",
    "endpoint_score",
    "engine_named",
    "heat_png",
    "http_failure",
    "http_infer",
    "http_live",
    "http_model",
    "http_model_ready",
    "http_server",
    "http_server_ready",
    "inventoried",
    "invocation_picture",
    "label_cuts",
    "made_by",
    "makers",
    "manifest_faults",
    "may_start",
    "next_start",
    "presence_flags",
    "probe",
    "quantise",
    "read_request",
    "read_wrapping",
    "rungs_of",
    "sagemaker_answer",
    "server_name",
    "strings",
    "tensor_from_raw",
    "tensor_to_raw",
    "wrapped",
    "write_response",
]
