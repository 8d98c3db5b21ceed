"""A GPU is used where it is named, is there, and answers as the package promises; else the CPU."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from lineside.core import InvalidError, LinesideError, UnavailableError, decode
from lineside.core.errors import MissingExtraError
from lineside.edge import EdgeConfig
from lineside.edge.packages import loading
from lineside.library.model import load
from lineside.models import EngineDevice, EngineName, Package, Predictor, build_package, engines
from lineside.models.engines import OpenEngine, engine_named
from lineside.models.predictor import GoldenError
from lineside.testing import FakeClock
from lineside.testing.engines import OUTPUTS, EngineContract, crops, doubling
from lineside.vision import encode_jpeg, open_frame
from tests.models.conftest import package_parts, scene

AUTO, CPU, CUDA, GPU = EngineDevice
ONNX, OPENVINO, TENSORRT = EngineName
CUDA_PROVIDER = "CUDAExecutionProvider"
GPUS = ((ONNX, CUDA), (TENSORRT, CUDA), (OPENVINO, GPU))
session_of = onnxruntime.InferenceSession
Pretend = Callable[..., list[Any]]


def rounded(network: bytes, *, bits: int) -> bytes:
    """The network with so many bits of mantissa in its weights, of 23; 10 are those of TF32."""
    model = onnx.load_from_string(network)
    mask = np.uint32(0xFFFFFFFF << (23 - bits) & 0xFFFFFFFF)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            kept = (values.view(np.uint32) & mask).view(np.float32)
            weight.CopyFrom(numpy_helper.from_array(kept, weight.name))
    return bytes(model.SerializeToString())


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network of another test is taken for one that this test loads."""
    monkeypatch.setattr(engines, "_cache", WeakValueDictionary())


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Build of ONNX Runtime for CUDA: its sessions are real, on the CPU, with rounded weights.

    Returns the options of each session for CUDA. ``used`` is the first provider that it has in the
    end: that of the CPU where CUDA cannot be used; ``runs``: how many there are before it fails.
    """
    asked: list[Any] = []

    def install(*, bits: int = 23, used: str = CUDA_PROVIDER, runs: int = 1000) -> list[Any]:
        def opened(network: bytes, *, sess_options: Any, providers: Any, **more: Any) -> Any:  # noqa: ANN401
            cpu = ["CPUExecutionProvider"]
            if providers == cpu:
                return session_of(network, sess_options=sess_options, providers=cpu)
            asked.append((providers, sess_options.use_deterministic_compute, more))
            session = session_of(
                rounded(network, bits=bits), sess_options=sess_options, providers=cpu
            )
            session.get_providers = lambda: [used, *cpu]
            run, left = session.run, iter(range(runs))

            def counted(*given: Any) -> Any:  # noqa: ANN401
                if next(left, None) is None:
                    raise RuntimeError("no kernel image is available for execution on the device")
                return run(*given)

            session.run = counted
            return session

        offered = [CUDA_PROVIDER, "TensorrtExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
        monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
        return asked

    return install


@pytest.mark.parametrize(
    ("engine", "device"), [(ONNX, GPU), (OPENVINO, CUDA), (TENSORRT, CPU), (TENSORRT, GPU)]
)
def test_an_engine_is_refused_on_a_device_that_it_never_runs_on(
    engine: EngineName, device: EngineDevice
) -> None:
    with pytest.raises(InvalidError, match=f"{engine} does not run on {device}") as told:
        engine_named(engine, device)
    assert told.value.fix.startswith("Known with it: auto")
    settings = {"device": "edge-1", "bus": "", "plant": "", "data_dir": "x"}
    with pytest.raises(InvalidError, match="does not run on"):
        decode(
            EdgeConfig, {**settings, "engine": engine, "engine_device": device}, where="edge.toml"
        )
    assert decode(EdgeConfig, settings, where="edge.toml").engine_device is CPU


def test_a_runtime_without_cuda_is_told_by_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    package = Package.read(build_package(*package_parts()))
    for engine, provider in ((ONNX, CUDA_PROVIDER), (TENSORRT, "TensorrtExecutionProvider")):
        with pytest.raises(MissingExtraError, match=f"without {provider}") as told:
            Predictor(package, clock=clock, engine=engine, device=CUDA)
        assert "onnxruntime-gpu" in told.value.fix


def test_auto_takes_the_cpu_then_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    package = Package.read(build_package(*package_parts()))
    frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=clock.now())
    with caplog.at_level(logging.INFO, logger="lineside"):
        found = Predictor(package, clock=clock, device=AUTO)
    assert found.device is CPU
    assert "network runs on the CPU package=bright reason=onnxruntime" in caplog.text
    wanted = Predictor(package, clock=clock)
    assert found.predict_single(frame) == wanted.predict_single(frame)
    assert load(package, device="auto").device == "cpu"
    assert loading(clock, device=AUTO)(build_package(*package_parts()), "").engine_device is CPU


def test_a_session_that_fell_back_to_the_cpu_by_itself_is_refused(
    pretend: Pretend, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As ONNX Runtime does where CUDA is not there, without a word to who asked for it."""
    pretend(used="CPUExecutionProvider")
    package = Package.read(build_package(*package_parts()))
    with pytest.raises(UnavailableError, match="cannot be used here") as told:
        Predictor(package, clock=clock, device=CUDA)
    assert "nvidia-smi" in told.value.fix
    with caplog.at_level(logging.INFO, logger="lineside"):
        assert Predictor(package, clock=clock, device=AUTO).device is CPU
    assert "network runs on the CPU" in caplog.text


@pytest.mark.parametrize("device", [CUDA, AUTO])
def test_a_gpu_that_answers_within_the_bound_answers_frames(
    device: EngineDevice, pretend: Pretend, clock: FakeClock
) -> None:
    asked = pretend()
    found = loading(clock, device=device)(build_package(*package_parts()), "")
    assert isinstance(found.judge, Predictor)
    assert found.engine_device is found.judge.device is CUDA
    providers = [
        (CUDA_PROVIDER, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
        "CPUExecutionProvider",
    ]
    assert asked == [(providers, True, {"enable_fallback": 0})]
    frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=clock.now())
    assert found.judge.predict(frame).labels


@pytest.mark.parametrize("engine", [ONNX, TENSORRT])
def test_a_gpu_that_opens_a_network_and_does_not_run_it_is_none(
    engine: EngineName, pretend: Pretend, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As without cuDNN, or on a processor that the library has no code for."""
    pretend(used=CUDA_PROVIDER if engine is ONNX else "TensorrtExecutionProvider", runs=0)
    package = Package.read(build_package(*package_parts()))
    with pytest.raises(UnavailableError, match="failed on cuda: no kernel image") as told:
        Predictor(package, clock=clock, engine=engine, device=CUDA)
    assert "driver" in told.value.fix
    found = Predictor(package, clock=clock, engine=engine, device=AUTO)
    assert found.device is CPU
    assert "network runs on the CPU package=bright reason=the network failed" in caplog.text
    assert found.check_golden().max_abs_diff < 1e-5


def test_a_gpu_that_goes_later_is_no_fault_of_the_image(pretend: Pretend, clock: FakeClock) -> None:
    pretend(runs=len(package_parts()[0].golden))
    found = Predictor(Package.read(build_package(*package_parts())), clock=clock, device=CUDA)
    frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=clock.now())
    with pytest.raises(UnavailableError, match="failed on cuda"):
        found.predict(frame)


def test_crops_that_a_network_does_not_take_are_no_fault_of_the_gpu(pretend: Pretend) -> None:
    pretend()
    running = engine_named(ONNX, CUDA)(
        doubling(height=5, width=7), crops=(1, 3, 5, 7), where="here", outputs=OUTPUTS
    )
    with pytest.raises(InvalidError, match="the network failed on"):
        running.run(crops(height=4, width=7), outputs=OUTPUTS)


NO_GPU = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, "
    "void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with "
    "ERRTYPE = cudaError; std::conditional_t<THRW, void, onnxruntime::common::Status> = void] CUDA "
    "failure 100: no CUDA-capable device is detected ; GPU=-1"
)
NO_TENSORRT = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) "
    "Please install TensorRT libraries"
)


@pytest.mark.parametrize(
    ("raised", "told"),
    [(NO_GPU, "here: CUDA failure 100: no CUDA"), (NO_TENSORRT, "here: Please install TensorRT")],
    ids=["no gpu", "no tensorrt"],
)
def test_a_gpu_that_cannot_be_used_is_told_by_its_reason_not_by_a_signature(
    raised: str, told: str, pretend: Pretend, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """In the form of ``onnxruntime-gpu`` 1.31, where the GPU is hidden or TensorRT not there."""
    pretend()
    opened: Any = onnxruntime.InferenceSession

    def broken(network: bytes, *, providers: Any, **more: Any) -> Any:  # noqa: ANN401
        if providers == ["CPUExecutionProvider"]:
            return opened(network, providers=providers, **more)
        raise RuntimeError(raised)

    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    with pytest.raises(UnavailableError, match=told):
        Predictor(Package.read(build_package(*package_parts())), clock=clock, device=CUDA)


def test_a_gpu_outside_the_bound_is_refused_wherever_it_is_to_answer(
    pretend: Pretend, clock: FakeClock
) -> None:
    pretend(bits=4)
    archive = build_package(*package_parts())
    package = Package.read(archive)
    assert Predictor(package, clock=clock).check_golden().max_abs_diff < 1e-5
    for ask in (
        lambda: Predictor(package, clock=clock, device=CUDA),
        lambda: Predictor(package, clock=clock, device=AUTO),
        lambda: loading(clock, device=CUDA)(archive, ""),
        lambda: load(package, device="cuda"),
    ):
        with pytest.raises(GoldenError, match=r"answers differ by .* on cuda") as told:
            ask()
        assert "CPU" in told.value.fix


def test_the_bound_of_a_package_decides_what_is_near_enough(
    pretend: Pretend, clock: FakeClock
) -> None:
    pretend(bits=4)
    manifest, files = package_parts()
    loose = replace(manifest, engine=replace(manifest.engine, bound=0.5))
    package = Package.read(build_package(loose, files))
    assert Predictor(package, clock=clock, device=CUDA).device is CUDA


def test_a_network_that_is_none_is_told_as_on_the_cpu(pretend: Pretend) -> None:
    pretend()
    with pytest.raises(InvalidError, match="the network does not load"):
        engine_named(ONNX, AUTO)(b"no network", crops=(1, 3, 0, 0), where="here", outputs=OUTPUTS)


def test_a_word_that_is_no_device_is_refused_by_name() -> None:
    with pytest.raises(InvalidError, match="no device 'tpu'") as told:
        load(build_package(*package_parts()), device="tpu")
    assert told.value.fix == "Known: auto, cpu, cuda, gpu."


@pytest.fixture(scope="module", params=GPUS, ids="-".join)
def gpu(
    request: pytest.FixtureRequest, absent: Callable[[str, str], None]
) -> tuple[EngineName, EngineDevice]:
    """An engine and the GPU of this machine that it runs on."""
    engine, device = request.param
    try:
        engine_named(engine, device)(
            doubling(), crops=(1, 3, 0, 0), where="here", outputs=OUTPUTS
        ).run(crops(), outputs=OUTPUTS)
    except LinesideError as error:
        absent("gpu", f"{engine} has no GPU here: {error.message}")
    return engine, device


@pytest.mark.gpu
class TestOnAGpu(EngineContract):
    @pytest.fixture
    def engine(self, gpu: tuple[EngineName, EngineDevice]) -> OpenEngine:
        return engine_named(*gpu)

    def test_a_package_answers_as_on_the_cpu(
        self, gpu: tuple[EngineName, EngineDevice], clock: FakeClock
    ) -> None:
        package = Package.read(build_package(*package_parts()))
        frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=clock.now())
        found = Predictor(package, clock=clock, engine=gpu[0], device=gpu[1])
        assert found.device is gpu[1]
        wanted = Predictor(package, clock=clock).predict_single(frame)
        for one, other in zip(found.predict_single(frame).labels, wanted.labels, strict=True):
            assert one.decision == other.decision
            assert one.probability == pytest.approx(other.probability, abs=1e-3)
