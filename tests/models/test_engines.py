"""Every engine runs what packages hold, and a package's promises hold on each."""

import gc
import importlib.util
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import InvalidError, RefusedError
from lineside.core.errors import MissingExtraError
from lineside.edge.machine import resident_bytes
from lineside.models import EngineName, Package, Predictor, build_package
from lineside.models.engines import OpenEngine, RunningNetwork, engine_named
from lineside.testing import FakeClock
from lineside.testing.engines import EngineContract, crops, doubling
from lineside.vision import encode_png, open_frame
from tests.models.conftest import package_parts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def openvino(absent: Callable[[str, str], None]) -> OpenEngine:
    if importlib.util.find_spec("openvino") is None:
        absent("openvino", "the extra openvino is not installed")
    return engine_named(EngineName.OPENVINO)


class TestOnnxRuntime(EngineContract):
    @pytest.fixture
    def engine(self) -> OpenEngine:
        return engine_named(EngineName.ONNX_RUNTIME)


class TestOpenvino(EngineContract):
    @pytest.fixture
    def engine(self, openvino: OpenEngine) -> OpenEngine:
        return openvino


def memory_around_a_large_input() -> tuple[int, int, int]:
    """Resident bytes before an input of 81 MB, with it, and after smaller ones."""
    running = engine_named(EngineName.ONNX_RUNTIME)(
        doubling(), crops=(1, 3, 0, 0), where="here", outputs=("mean",)
    )
    small, large = crops(height=64, width=64), crops(height=2600, width=2600)

    def run(crops: NDArray[np.float32]) -> int:
        running.run(crops, outputs=("twice",))
        return resident_bytes()

    return run(small), run(large), min(run(small) for _ in range(40))


def test_memory_of_a_large_input_goes_back_after_smaller_ones() -> None:
    # In a process of its own: memory that other tests freed would take the output in.
    name = memory_around_a_large_input.__name__
    asked = f"from {__name__} import {name}; print(*{name}())"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert during > before + 40_000_000  # the arena keeps what the output was made in
    assert after < before + 40_000_000


def test_predictors_of_one_network_share_it_for_as_long_as_one_is_there() -> None:
    def load(network: bytes, *, side: int = 8) -> RunningNetwork:
        opened = engine_named(EngineName.ONNX_RUNTIME)
        return opened(network, crops=(1, 3, side, side), where="here", outputs=("twice",))

    first, second = load(doubling()), load(doubling())
    assert first is second
    asked = crops(height=8, width=8)
    (answer,) = first.run(asked, outputs=("twice",))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(partial(second.run, outputs=("twice",)), [asked] * 200))
    assert all(np.array_equal(one, answer) for (one,) in answers)
    other = load(doubling(), side=16)
    assert other is not first
    gone = weakref.ref(first)
    del first, second
    gc.collect()
    assert gone() is None


@pytest.mark.usefixtures("openvino")
class TestAPackage:
    def test_answers_alike_on_both(
        self, archive: bytes, lit_scene: NDArray[np.uint8], clock: FakeClock
    ) -> None:
        package = Package.read(archive)
        frame = open_frame(encode_png(lit_scene), camera="c", captured_at=clock.now())
        said = []
        for name in (EngineName.ONNX_RUNTIME, EngineName.OPENVINO):
            predictor = Predictor(package, clock=clock, engine=name)
            assert predictor.check_golden().max_abs_diff < 1e-4
            answer = predictor.predict(frame)
            maps = predictor.explain(frame)
            said.append((answer, maps))
        (first, maps), (second, others) = said
        assert [one.decision for one in first.labels] == [one.decision for one in second.labels]
        for one, other in zip(first.labels, second.labels, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-4)
        for label, found in maps.items():
            np.testing.assert_allclose(found, others[label], atol=1e-3)

    def test_that_answers_otherwise_here_is_refused_by_its_bound(self, clock: FakeClock) -> None:
        manifest, files = package_parts()
        (golden,) = manifest.golden
        moved = tuple(tuple(value + 0.01 for value in row) for row in golden.logits)
        wrong = replace(manifest, golden=(replace(golden, logits=moved),))
        package = Package.read(build_package(wrong, files))
        with pytest.raises(RefusedError, match=r"answers differ by 0\.01"):
            Predictor(package, clock=clock, engine=EngineName.OPENVINO).check_golden()


def test_a_network_cannot_name_files_beside_it(
    openvino: OpenEngine, outside_network: bytes
) -> None:
    with pytest.raises(InvalidError):
        openvino(outside_network, crops=(1, 3, 16, 16), where="here", outputs=("scores",))


@pytest.mark.usefixtures("openvino")
def test_nothing_is_reported_to_anybody() -> None:
    """As shipped the library tells an analytics service that it was imported."""
    code = (
        "import sys, threading; from lineside.models.engines import EngineName, engine_named; "
        "from lineside.testing.engines import doubling; "
        "engine_named(EngineName.OPENVINO)("
        "doubling(), crops=(1, 3, 0, 0), where='here', outputs=('mean',)); "
        "assert 'openvino' in sys.modules; "
        "print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry')), "
        "[thread.name for thread in threading.enumerate()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.split("\n")[0] == "[] ['MainThread']"


def test_where_the_extra_is_missing_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError) as told:
        engine_named(EngineName.OPENVINO)(
            doubling(), crops=(1, 3, 0, 0), where="here", outputs=("mean",)
        )
    assert told.value.fix == 'pip install "lineside[openvino]"'
