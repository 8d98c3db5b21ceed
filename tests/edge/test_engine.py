"""Which engine runs the inspections' packages is a setting of the device."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from lineside.core import InvalidError, decode
from lineside.core.errors import MissingExtraError
from lineside.edge import EdgeConfig
from lineside.edge.packages import loading
from lineside.models import EngineDevice, EngineName, Package, Predictor, build_package
from lineside.models.engines import OnnxEngine, OpenvinoEngine
from lineside.testing import FakeClock
from lineside.vision import encode_jpeg, open_frame
from tests.edge.serving import edge_config, served
from tests.models.conftest import package_parts, scene

SETTINGS = {"device": "edge-1", "bus": "", "plant": "", "data_dir": "x"}


def test_it_is_named_and_another_word_is_refused() -> None:
    assert decode(EdgeConfig, SETTINGS, where="edge.toml").engine is EngineName.ONNX_RUNTIME
    told = decode(EdgeConfig, {**SETTINGS, "engine": "openvino"}, where="edge.toml")
    assert told.engine is EngineName.OPENVINO
    with pytest.raises(InvalidError, match="engine"):
        decode(EdgeConfig, {**SETTINGS, "engine": "tflite"}, where="edge.toml")


@pytest.mark.parametrize("name", [EngineName.ONNX_RUNTIME, EngineName.OPENVINO])
def test_a_package_answers_its_golden_pictures_and_frames_on_it(
    name: EngineName, clock: FakeClock, absent: Callable[[str, str], None]
) -> None:
    if importlib.util.find_spec(name) is None:
        absent("openvino", f"{name} is not installed")
    archive = build_package(*package_parts())
    ready = loading(clock, engine=name)(archive, "")
    frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=clock.now())
    said = ready.judge.predict(frame)
    package = Package.read(archive)
    wanted = Predictor(package, clock=clock).predict(frame)
    assert said.package == ready.digest == package.digest
    assert [(one.name, one.decision) for one in said.labels] == [
        (one.name, one.decision) for one in wanted.labels
    ]
    for one, other in zip(said.labels, wanted.labels, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"), [(EngineName.ONNX_RUNTIME, OnnxEngine), (EngineName.OPENVINO, OpenvinoEngine)]
)
def test_packages_loaded_by_name_run_on_it_too(
    name: EngineName, kind: type, tmp_path: Path, clock: FakeClock,
    absent: Callable[[str, str], None],
) -> None:  # fmt: skip
    if importlib.util.find_spec(name) is None:
        absent("openvino", f"{name} is not installed")
    (tmp_path / "package.lspkg").write_bytes(build_package(*package_parts()))
    with served(edge_config(tmp_path, engine=name), clock=clock) as device:
        packages = device.serving.packages
        packages.load(url=str(tmp_path), name="stock-1")
        predictor = packages.judge("stock-1")
        assert isinstance(vars(predictor._head)["_engine"], kind)
        frame = open_frame(encode_jpeg(scene()), camera="rack", captured_at=clock.now())
        assert predictor.predict(frame).labels


def test_packages_loaded_by_name_run_on_the_device_of_the_settings(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (tmp_path / "package.lspkg").write_bytes(build_package(*package_parts()))
    for name in (EngineDevice.AUTO, EngineDevice.CUDA):
        with served(edge_config(tmp_path, engine_device=name), clock=clock) as device:
            packages = device.serving.packages
            if name is EngineDevice.CUDA:
                with pytest.raises(MissingExtraError, match="without CUDAExecutionProvider"):
                    packages.load(url=str(tmp_path), name="stock-1")
                continue
            packages.load(url=str(tmp_path), name="stock-1")
            assert packages.judge("stock-1").device is EngineDevice.CPU
            packages.unload("stock-1")
