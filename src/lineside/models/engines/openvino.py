"""OpenVINO on one thread, in 32-bit floats; the extra ``openvino``.

1. ``INFERENCE_PRECISION_HINT=f32``: on processors that multiply bfloat16 its own choice is that,
   and answers then differ (agreement .92 was measured); a package is only what was evaluated.
2. A network is first opened, checked and let go by ONNX Runtime: both take and refuse the same
   ones, and a network cannot name files beside it.
3. As shipped the library reports each import to an analytics service on the internet; here it is
   imported without the part that does (``openvino_telemetry``), which it takes as not installed.
4. Of a package it must answer the golden pictures within the manifest's bound, as for any engine.
"""

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from lineside.core import InvalidError, need
from lineside.models.engines.contract import INPUT, LABEL_OUTPUTS, Floats
from lineside.models.engines.onnx import OnnxEngine

_FIX = 'Write engine = "onnxruntime", or export the package again.'
_REPORTS = "openvino_telemetry"
_SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": "1",
    "NUM_STREAMS": "1",
    "ENABLE_CPU_PINNING": "NO",
}


class OpenvinoEngine:
    """See ``OpenEngine``; one call at a time, others wait."""

    def __init__(
        self,
        network: bytes,
        *,
        crops: tuple[int, int, int, int],
        where: str,
        outputs: Sequence[str] = LABEL_OUTPUTS,
    ) -> None:
        """Load and check a network; see ``OpenEngine``."""
        runtime = _library()
        OnnxEngine(network, crops=crops, where=where, outputs=outputs)
        self._where = where
        self._turn = threading.Lock()
        self._request = _compiled(runtime, network, where=where).create_infer_request()

    def run(self, crops: Floats, *, outputs: Sequence[str]) -> list[Floats]:
        """The named outputs in order."""
        try:
            with self._turn:
                self._request.infer({INPUT: np.ascontiguousarray(crops)}, share_inputs=True)
                # Its buffers are written again by the next call.
                return [np.array(self._request.get_tensor(name).data) for name in outputs]
        except RuntimeError as error:
            raise InvalidError(
                f"the network failed on {crops.shape}: {error}", where=self._where, fix=_FIX
            ) from error


def _library() -> Any:  # noqa: ANN401  untyped library
    held = sys.modules.get(_REPORTS)
    sys.modules[_REPORTS] = None  # type: ignore[assignment]  # Python: what is not to be imported
    try:
        return need("openvino", extra="openvino")
    finally:
        del sys.modules[_REPORTS]
        if held is not None:
            sys.modules[_REPORTS] = held


def _compiled(runtime: Any, network: bytes, *, where: str) -> Any:  # noqa: ANN401  untyped library
    try:
        core = runtime.Core()
        return core.compile_model(core.read_model(network), "CPU", _SETTINGS)
    except RuntimeError as error:
        raise InvalidError(
            f"OpenVINO does not take the network: {str(error)[:300]}", where=where, fix=_FIX
        ) from error
