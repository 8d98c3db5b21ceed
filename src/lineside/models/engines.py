"""Engines that run a network: ONNX Runtime, OpenVINO behind an extra, TensorRT on request.

ONNX Runtime runs on one intra-op thread: on a machine that also decodes, registers and talks, two
threads were slower than one. Networks are loaded from bytes, never from a path, so that a network
cannot name files beside it.

Layers' memory comes from an arena of the session, with a plan of one block for all of them. One
package of Lite0 at 320 px on one thread took .94 of the processor time that it takes without the
plan, and 1.08 with plain allocation; two on two threads .95 and 1.04, four on eight .97 and 1.13.
Resident were 156 MB, without the plan 148, with plain allocation 157; 238, 238 and 240 MB; 532, 402
and 346 MB. An arena keeps the largest buffers that were ever asked for, so what is free of it goes
back to the system after ``_SMALLER_RUNS`` runs in a row on smaller input: 164 MB after a batch of
16 that had taken 481; plain allocation stayed at 245.

A network that several predictors load is in memory once, and each of their threads runs it: ONNX
Runtime's sessions allow that. OpenVINO's requests do not; there each predictor has its own.

``BareEngine`` is for interfaces that carry raw tensors: whatever the network takes and gives,
without preparation or decisions. It stays on the CPU.

Devices (``EngineDevice``), of which the CPU is the usual one:

1. ``auto`` is the engine's GPU, or the CPU where that does not open or run; the log says which. A
   device that is named opens, or loading fails: nothing falls back without being asked.
2. A network is first opened and checked on the CPU. What a GPU fails with after that is its own, no
   package's and no image's (``UnavailableError``). CUDA opens networks without the libraries that
   run them, and on processors that it has no code for: the golden pictures show it.
3. ONNX Runtime gives a session on the CPU where CUDA cannot be used, and says so to nobody; the
   session is asked for its providers. It would also go on by the CPU in the middle of a run, which
   ``enable_fallback=0`` forbids.
4. CUDA multiplies in 32-bit floats: by itself it takes 10 bits of mantissa on processors since
   Ampere (``use_tf32``). It picks kernels by rule and not by a race (``cudnn_conv_algo_search``),
   and deterministic ones, so that each session of one machine answers alike. TensorRT has no such
   settings in a session; it picks by a race.
5. Of a package it must answer the golden pictures first: see ``Predictor``.

OpenVINO on one thread, in 32-bit floats; the extra ``openvino``.

1. ``INFERENCE_PRECISION_HINT=f32``: on processors that multiply bfloat16 its own choice is that,
   and answers then differ (agreement .92 was measured); a package is only what was evaluated.
2. A network is first opened, checked and let go by ONNX Runtime: both take and refuse the same
   ones, and a network cannot name files beside it.
3. As shipped the library reports each import to an analytics service on the internet; here it is
   imported without the part that does (``openvino_telemetry``), which it takes as not installed.
4. Of a package it must answer the golden pictures within the manifest's bound, as for any engine.
"""

import io
import logging
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, LinesideError, UnavailableError, digest_of, need
from lineside.core.errors import MissingExtraError

logger = logging.getLogger(__name__)

INPUT = "crops"
LABEL_OUTPUTS = ("logits", "activation", "distance")
BANK_OUTPUT = "bank_distances"
"""Distances from the training pictures that a network remembers; not every network gives them."""

Floats = NDArray[np.float32]
Shape = tuple[int | str | None, ...]
T = TypeVar("T")


class EngineName(StrEnum):
    """The runtimes there are. ONNX Runtime is the one packages are made and measured with."""

    ONNX_RUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


class EngineDevice(StrEnum):
    """The processor that a network runs on: ``cuda`` is one of NVIDIA, ``gpu`` one of Intel."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    GPU = "gpu"


_DEVICES = {
    EngineName.ONNX_RUNTIME: (EngineDevice.AUTO, EngineDevice.CPU, EngineDevice.CUDA),
    EngineName.OPENVINO: (EngineDevice.AUTO, EngineDevice.CPU, EngineDevice.GPU),
    EngineName.TENSORRT: (EngineDevice.AUTO, EngineDevice.CUDA),
}


def check_device(engine: EngineName, device: EngineDevice, *, where: str = "device") -> None:
    """Refuse a device that an engine never runs on, whatever machine it is."""
    if device not in _DEVICES[engine]:
        raise InvalidError(
            f"the engine {engine} does not run on {device}",
            where=where,
            fix=f"Known with it: {', '.join(_DEVICES[engine])}.",
        )


class RunningNetwork(Protocol):
    """A loaded network; safe from several threads.

    Attributes:
        device: that it runs on; never ``auto``.
    """

    device: EngineDevice

    def run(self, crops: Floats, *, outputs: Sequence[str]) -> list[Floats]:
        """The named outputs in order.

        Raises:
            InvalidError: the network fails on such crops.
            UnavailableError: a GPU fails.
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
            MissingExtraError: the engine's library is not installed, or not for this device.
            UnavailableError: this machine has no such device, or it cannot be used.
        """
        ...


_FIX = "Export the package again."
_SMALLER_RUNS = 32
_FIX_GPU = "or choose the CPU: engine_device of a device's settings, --device, device=."
_SIGNATURE = re.compile(r"\S*onnxruntime_src/\S+:\d+ [^)]*\)(?: \[with [^]]*\])? ")
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_CUDA_SETTINGS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


def _opened(
    device: EngineDevice, openers: Mapping[EngineDevice, Callable[[], T]], *, where: str
) -> tuple[EngineDevice, T]:
    """Open a network on a device; of ``auto`` on the first of these, or else on the CPU."""
    if device is not EngineDevice.AUTO:
        return device, openers[device]()
    first = next(iter(openers))
    try:
        found = first, openers[first]()
    except LinesideError as error:
        logger.warning("network runs on the CPU package=%s reason=%s", where, error)
        return EngineDevice.CPU, openers[EngineDevice.CPU]()
    logger.info("network runs on a GPU package=%s device=%s", where, first)
    return found


def _failed(
    error: Exception, crops: Floats, *, takes: Shape, device: EngineDevice, where: str, fix: str
) -> LinesideError:
    """Of a run. A GPU has less memory than images ask for, or goes: no image is to blame."""
    if device is EngineDevice.CPU or not _fits(takes, crops.shape):
        return InvalidError(f"the network failed on {crops.shape}: {error}", where=where, fix=fix)
    return UnavailableError(
        f"the network failed on {device}: {_reason(error)}",
        where=where,
        fix=f"See what the GPU's driver says of it and start the program again, {_FIX_GPU}",
    )


def _reason(error: object) -> str:
    """Sentence of a runtime, without the place in its source and the signature before it."""
    return _SIGNATURE.sub("", " ".join(str(error).split()))[:300]


class OnnxEngine:
    """A network of a shape ``lineside.models.Engine`` describes; safe from several threads."""

    def __init__(
        self,
        network: bytes,
        *,
        crops: tuple[int, int, int, int],
        where: str,
        outputs: Sequence[str] = LABEL_OUTPUTS,
        device: EngineDevice = EngineDevice.CPU,
        provider: str = _CUDA,
    ) -> None:
        """Load and check a network; see ``OpenEngine``. ``provider`` is what runs it on CUDA."""
        runtime = need("onnxruntime", extra="edge")
        session = open_session(runtime, network, where=where)
        self.takes = _check(session, crops, where=where, outputs=outputs)
        openers: dict[EngineDevice, Callable[[], Any]] = {
            EngineDevice.CUDA: partial(
                _cuda_session, runtime, network, provider=provider, where=where
            ),
            EngineDevice.CPU: lambda: session,
        }
        self.device, self._session = _opened(device, openers, where=where)
        self._memory = _ArenaUse(runtime)
        self._where = where

    def run(self, crops: Floats, *, outputs: Sequence[str]) -> list[Floats]:
        """The named outputs in order; what others alone need is not computed."""
        return self._run(outputs, crops)

    def _run(self, outputs: Sequence[str], crops: NDArray[np.float32]) -> list[Any]:
        try:
            options = self._memory.options(crops.size)
            return list(self._session.run(list(outputs), {INPUT: crops}, options))
        except Exception as error:  # boundary: the runtime's exceptions have no common class
            raise _failed(
                error, crops, takes=self.takes, device=self.device, where=self._where, fix=_FIX
            ) from error


def open_session(runtime: Any, network: bytes, *, where: str) -> Any:  # noqa: ANN401  untyped library
    """A session of ``onnxruntime`` on the CPU, set up as the module says."""
    providers = ["CPUExecutionProvider"]
    try:
        return runtime.InferenceSession(
            network, sess_options=_session_options(runtime), providers=providers
        )
    except Exception as error:  # boundary: the runtime's exceptions have no common class
        raise InvalidError(
            f"the network does not load: {str(error)[:300]}", where=where, fix=_FIX
        ) from error


def _session_options(runtime: Any) -> Any:  # noqa: ANN401  untyped library
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _cuda_session(runtime: Any, network: bytes, *, provider: str, where: str) -> Any:  # noqa: ANN401  untyped library
    """A session on the first GPU of NVIDIA, of a network that a session on the CPU took.

    Raises:
        MissingExtraError: ``onnxruntime`` is built without this provider.
        UnavailableError: it has it, and cannot use it here.
    """
    offered = runtime.get_available_providers()
    if provider not in offered:
        raise MissingExtraError(
            f"onnxruntime {runtime.__version__} is built without {provider}, "
            f"it has {', '.join(offered)}",
            where=where,
            fix='pip uninstall onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]"; '
            + _FIX_GPU,
        )
    options, said = _session_options(runtime), io.StringIO()
    options.use_deterministic_compute = True
    providers = [(_CUDA, _CUDA_SETTINGS), "CPUExecutionProvider"]
    if provider != _CUDA:
        providers.insert(0, provider)
    try:
        with redirect_stdout(said):  # it prints the libraries that it does not find
            if hasattr(runtime, "preload_dlls"):  # since 1.21
                runtime.preload_dlls()
        session = runtime.InferenceSession(
            network, sess_options=options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # boundary: the runtime's exceptions have no common class
        raise _unusable(provider, _reason(error), where=where) from error
    if session.get_providers()[0] != provider:
        reason = said.getvalue() or "no GPU, no driver, or another CUDA"
        raise _unusable(provider, _reason(reason), where=where)
    return session


def _unusable(provider: str, reason: str, *, where: str) -> UnavailableError:
    return UnavailableError(
        f"{provider} cannot be used here: {reason}",
        where=where,
        fix="Ask nvidia-smi whether there is a GPU, and install the CUDA and cuDNN that "
        f"onnxruntime-gpu asks for, for tensorrt that library too; {_FIX_GPU}",
    )


class _ArenaUse:
    """Watches the sizes of a session's runs; safe from several threads."""

    def __init__(self, runtime: Any) -> None:  # noqa: ANN401  untyped library
        self._usual, self._shrinking = runtime.RunOptions(), runtime.RunOptions()
        for options in (self._usual, self._shrinking):
            options.only_execute_path_to_fetches = True
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._largest = self._smaller = 0

    def options(self, size: int) -> Any:  # noqa: ANN401  untyped library
        """Options of the next run, for input of so many numbers.

        Threads may count past each other: memory then goes back a run sooner or later.
        """
        if size >= self._largest:
            self._largest, self._smaller = size, 0
            return self._usual
        self._smaller += 1
        if self._smaller < _SMALLER_RUNS:
            return self._usual
        self._largest, self._smaller = size, 0
        return self._shrinking


def _check(
    session: Any,  # noqa: ANN401  untyped library
    crops: tuple[int, int, int, int],
    *,
    where: str,
    outputs: Sequence[str],
) -> Shape:
    """The shape of crops that a network takes; a side that varies is no number."""
    inputs = {each.name: each for each in session.get_inputs()}
    given = {each.name for each in session.get_outputs()}
    if set(inputs) != {INPUT} or not set(outputs) <= given:
        raise InvalidError(
            f"the network takes {sorted(inputs)} and gives {sorted(given)}",
            where=where,
            fix=f"It must take {INPUT!r} and give {', '.join(outputs)}.",
        )
    takes: Shape = tuple(inputs[INPUT].shape)
    if not _fits(takes, crops):
        raise InvalidError(
            f"the network takes {list(takes)}, the manifest prepares {crops}", where=where, fix=_FIX
        )
    return takes


def _fits(takes: Shape, crops: tuple[int, ...]) -> bool:
    return len(takes) == len(crops) == 4 and all(
        each == wished or not isinstance(each, int) or not wished
        for each, wished in zip(takes, crops, strict=True)
    )


ANY = -1
_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSlot:
    """An input or output of a network.

    Attributes:
        dtype: uint8, int16, int32, int64, float16, float32 or float64.
        shape: -1 where any size is taken.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


class BareEngine:
    """A loaded network; safe from several threads.

    Distances from remembered training pictures (``BANK_OUTPUT``) are not given: clients that take
    every output, by place or by number, get those that the network has for an answer.
    """

    def __init__(self, network: bytes, *, where: str) -> None:
        """Load it.

        Raises:
            InvalidError: it does not load, or takes or gives something that is no such tensor.
            MissingExtraError: onnxruntime is not installed.
        """
        runtime = need("onnxruntime", extra="edge")
        self._session = open_session(runtime, network, where=where)
        self._memory = _ArenaUse(runtime)
        self._where = where
        self.inputs = tuple(_slot(each, where=where) for each in self._session.get_inputs())
        given = [_slot(each, where=where) for each in self._session.get_outputs()]
        answers = [slot for slot in given if slot.name != BANK_OUTPUT]
        self.outputs = tuple(answers or given)

    def run(self, given: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """All outputs in their order, for arrays by input name.

        Raises:
            InvalidError: the network fails on them.
        """
        try:
            wanted = [slot.name for slot in self.outputs]
            options = self._memory.options(sum(each.size for each in given.values()))
            return [np.asarray(each) for each in self._session.run(wanted, dict(given), options)]
        except Exception as error:  # boundary: the runtime's exceptions have no common class
            raise InvalidError(
                f"the network fails on these tensors: {str(error)[:300]}",
                where=self._where,
                fix="Send the shapes that it describes.",
            ) from error


def _slot(described: Any, *, where: str) -> TensorSlot:  # noqa: ANN401  untyped library
    dtype = _DTYPES.get(described.type)
    if dtype is None:
        raise InvalidError(
            f"{described.name!r} is a {described.type}",
            where=where,
            fix=f"Use a network of {', '.join(sorted(_DTYPES.values()))}.",
        )
    shape = tuple(side if isinstance(side, int) else ANY for side in described.shape or ())
    return TensorSlot(name=described.name, dtype=dtype, shape=shape)


_FIX_OPENVINO = 'Write engine = "onnxruntime", or export the package again.'
_REPORTS = "openvino_telemetry"
_GPU_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
_SETTINGS = {**_GPU_SETTINGS, "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}


class OpenvinoEngine:
    """See ``OpenEngine``; one call at a time, others wait."""

    def __init__(
        self,
        network: bytes,
        *,
        crops: tuple[int, int, int, int],
        where: str,
        outputs: Sequence[str] = LABEL_OUTPUTS,
        device: EngineDevice = EngineDevice.CPU,
    ) -> None:
        """Load and check a network; see ``OpenEngine``."""
        runtime = _library()
        self._takes = OnnxEngine(network, crops=crops, where=where, outputs=outputs).takes
        self._where = where
        self._turn = threading.Lock()
        openers = {
            EngineDevice.GPU: partial(_compiled_on_gpu, runtime, network, where=where),
            EngineDevice.CPU: partial(_compiled, runtime, network, where=where),
        }
        self.device, compiled = _opened(device, openers, where=where)
        self._request = compiled.create_infer_request()

    def run(self, crops: Floats, *, outputs: Sequence[str]) -> list[Floats]:
        """The named outputs in order."""
        try:
            with self._turn:
                self._request.infer({INPUT: np.ascontiguousarray(crops)}, share_inputs=True)
                # Its buffers are written again by the next call.
                return [np.array(self._request.get_tensor(name).data) for name in outputs]
        except RuntimeError as error:
            raise _failed(
                error, crops, takes=self._takes, device=self.device, where=self._where,
                fix=_FIX_OPENVINO,
            ) from error  # fmt: skip


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
            f"OpenVINO does not take the network: {str(error)[:300]}",
            where=where,
            fix=_FIX_OPENVINO,
        ) from error


def _compiled_on_gpu(runtime: Any, network: bytes, *, where: str) -> Any:  # noqa: ANN401  untyped library
    core = runtime.Core()
    try:
        return core.compile_model(core.read_model(network), "GPU", _GPU_SETTINGS)
    except RuntimeError as error:
        raise UnavailableError(
            f"OpenVINO cannot use a GPU here, it finds {', '.join(core.available_devices)}: "
            f"{_reason(error)}",
            where=where,
            fix=f"Install the driver of Intel's GPU (OpenCL); {_FIX_GPU}",
        ) from error


_cache: WeakValueDictionary[tuple[object, ...], OnnxEngine] = WeakValueDictionary()
_cache_lock = threading.Lock()


def _shared_engine(
    network: bytes, *, crops: tuple[int, int, int, int], where: str,
    outputs: Sequence[str] = LABEL_OUTPUTS,
    device: EngineDevice = EngineDevice.CPU, provider: str = _CUDA,
) -> OnnxEngine:  # fmt: skip
    """Return a network that is in memory, or load it: predictors of one package share it."""
    key = digest_of(network), crops, tuple(outputs), device, provider
    with _cache_lock:
        engine = _cache.get(key) or OnnxEngine(
            network, crops=crops, where=where, outputs=outputs, device=device, provider=provider
        )
        _cache[key] = engine
        return engine


_ENGINES: dict[EngineName, Callable[..., RunningNetwork]] = {
    EngineName.ONNX_RUNTIME: _shared_engine,
    EngineName.OPENVINO: OpenvinoEngine,
    EngineName.TENSORRT: partial(_shared_engine, provider=_TENSORRT),
}


def engine_named(name: EngineName, device: EngineDevice = EngineDevice.CPU) -> OpenEngine:
    """An engine: loads networks; its library is imported when the first one is loaded.

    Raises:
        InvalidError: it never runs on this device.
    """
    check_device(name, device)
    return partial(_ENGINES[name], device=device)
