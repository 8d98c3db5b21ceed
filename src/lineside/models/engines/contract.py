"""The contract of an engine, and the table of engines."""

import importlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

INPUT = "crops"
LABEL_OUTPUTS = ("logits", "activation", "distance")

Floats = NDArray[np.float32]


class EngineName(StrEnum):
    """The runtimes there are. ONNX Runtime is the one packages are made and measured with."""

    ONNX_RUNTIME = "onnxruntime"
    OPENVINO = "openvino"


class RunningNetwork(Protocol):
    """A loaded network; safe from several threads."""

    def run(self, crops: Floats, *, outputs: Sequence[str]) -> list[Floats]:
        """The named outputs in order.

        Raises:
            InvalidError: the network fails on such crops.
        """
        ...


class OpenEngine(Protocol):
    """Loads a network on one thread."""

    def __call__(
        self,
        network: bytes,
        *,
        crops: tuple[int, int, int, int],
        where: str,
        outputs: Sequence[str] = LABEL_OUTPUTS,
    ) -> RunningNetwork:
        """Load and check a network.

        Args:
            network: the ONNX file's bytes.
            crops: (n, channels, height, width) that ``prepare`` will hand in; 0 where it varies.
            where: names the package in errors.
            outputs: that it has to give.

        Raises:
            InvalidError: it does not load, or its inputs and outputs are not as described.
            MissingExtraError: the engine's library is not installed.
        """
        ...


_ENGINES = {
    EngineName.ONNX_RUNTIME: ("lineside.models.engines.onnx", "OnnxEngine"),
    EngineName.OPENVINO: ("lineside.models.engines.openvino", "OpenvinoEngine"),
}


def engine_named(name: EngineName) -> OpenEngine:
    """An engine: loads networks; its library is imported when the first one is loaded."""
    module, opener = _ENGINES[name]
    found: OpenEngine = getattr(importlib.import_module(module), opener)
    return found
