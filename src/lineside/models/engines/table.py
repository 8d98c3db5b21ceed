"""Which file has an engine."""

import importlib

from lineside.models.engines.contract import EngineName, OpenEngine

_ENGINES = {
    EngineName.ONNX_RUNTIME: ("lineside.models.engines.onnx", "OnnxEngine"),
    EngineName.OPENVINO: ("lineside.models.engines.openvino", "OpenvinoEngine"),
}


def engine_named(name: EngineName) -> OpenEngine:
    """How networks are loaded with this engine; its library is imported when one is."""
    module, opener = _ENGINES[name]
    found: OpenEngine = getattr(importlib.import_module(module), opener)
    return found
