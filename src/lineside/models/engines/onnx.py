"""ONNX Runtime on one thread.

One intra-op thread: on a machine that also decodes, registers and talks, two threads were slower
than one. The arena is off: it keeps the largest buffers ever asked for, and with inputs of one
fixed shape plain allocation costs no measurable time. Loaded from bytes, never from a path, so
that a network cannot name files beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, need

INPUT = "crops"
OUTPUTS = ("logits", "activation", "distance")
_FIX = "Export the package again."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What the network says of one batch of crops.

    Attributes:
        logits: (regions, outputs) float32.
        distance: (regions,) float32, of the features from the training data.
    """

    logits: NDArray[np.float32]
    distance: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained(Answer):
    """The same with what spoke for it.

    Attributes:
        activation: (regions, outputs, rows, columns) float32.
    """

    activation: NDArray[np.float32]


class OnnxEngine:
    """A network of the shape ``lineside.models.Engine`` describes; safe from several threads."""

    def __init__(self, network: bytes, *, crops: tuple[int, int, int, int], where: str) -> None:
        """Load and check a network.

        Args:
            network: the ONNX file's bytes.
            crops: (regions, 3, height, width) that ``prepare`` will hand in.
            where: names the package in errors.

        Raises:
            InvalidError: it does not load, or its inputs and outputs are not as described.
            MissingExtraError: onnxruntime is not installed.
        """
        runtime = need("onnxruntime", extra="edge")
        self._session = _session(runtime, network, where=where)
        self._quick = runtime.RunOptions()
        self._quick.only_execute_path_to_fetches = True
        _check(self._session, crops, where=where)
        self._where = where

    def run(self, crops: NDArray[np.float32]) -> Answer:
        """Logits and distance only; the activation maps are not computed."""
        logits, distance = self._run(["logits", "distance"], crops)
        return Answer(logits=logits, distance=distance)

    def run_with_activation(self, crops: NDArray[np.float32]) -> Explained:
        """Everything the network can say."""
        logits, activation, distance = self._run(OUTPUTS, crops)
        return Explained(logits=logits, distance=distance, activation=activation)

    def _run(self, outputs: Sequence[str], crops: NDArray[np.float32]) -> list[Any]:
        try:
            return list(self._session.run(list(outputs), {INPUT: crops}, self._quick))
        except Exception as error:  # boundary: the runtime's exceptions have no common class
            raise InvalidError(
                f"the network failed on {crops.shape}: {error}", where=self._where, fix=_FIX
            ) from error


def _session(runtime: Any, network: bytes, *, where: str) -> Any:  # noqa: ANN401  untyped library
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(network, sess_options=options, providers=providers)
    except Exception as error:  # boundary: the runtime's exceptions have no common class
        raise InvalidError(
            f"the network does not load: {str(error)[:300]}", where=where, fix=_FIX
        ) from error


def _check(session: Any, crops: tuple[int, int, int, int], *, where: str) -> None:  # noqa: ANN401
    inputs = {each.name: each for each in session.get_inputs()}
    outputs = {each.name for each in session.get_outputs()}
    if set(inputs) != {INPUT} or not set(OUTPUTS) <= outputs:
        raise InvalidError(
            f"the network takes {sorted(inputs)} and gives {sorted(outputs)}",
            where=where,
            fix=f"It must take {INPUT!r} and give {', '.join(OUTPUTS)}.",
        )
    shape = inputs[INPUT].shape
    fits = len(shape) == 4 and all(
        each == wished or not isinstance(each, int)
        for each, wished in zip(shape, crops, strict=True)
    )
    if not fits:
        raise InvalidError(
            f"the network takes {shape}, the manifest prepares {crops}", where=where, fix=_FIX
        )
