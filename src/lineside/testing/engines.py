"""Contract suite of inference engines, and small ONNX networks as others export them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lineside.core import InvalidError
from lineside.models.engines import OpenEngine

OUTPUTS = ("twice", "mean")
OPSET = 17


def file_of(
    nodes: Sequence[Any],
    *,
    shape: tuple[str, Sequence[int | str]],
    given: dict[str, Sequence[int | str]],
    constants: dict[str, NDArray[Any]],
    opset: int = OPSET,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A checked file of nodes; ``shape`` and ``given`` are names and shapes."""
    graph = helper.make_graph(
        list(nodes),
        "others",
        [helper.make_tensor_value_info(shape[0], kind, list(shape[1]))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in given.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def shades(*, fragile: bool = False, batch: int | str = "batch", side: int = 16) -> bytes:
    """Logits of ``dark`` and ``bright``, from the mean of RGB in 0-1; four convolutions deep.

    Args:
        fragile: whether the difference between the two is carried on top of a value a thousand
            times as large, which 8 bits cannot hold.
        batch: of input ``pixels`` and output ``scores``.
        side: pixels of the square input.
    """
    carried = 1000.0 if fragile else 0.0
    first = np.full((2, 3, 1, 1), 1 / 3, np.float32)
    first[1] = -1 / 3
    constants = {
        "w0": first,
        "b0": np.array([carried, carried + 1.0], np.float32),
        "w1": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
        "w2": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
        "w3": np.array([[-8, 8], [8, -8]], np.float32).reshape(2, 2, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "w0", "b0"], ["v0"]),
        helper.make_node("Conv", ["v0", "w1"], ["v1"]),
        helper.make_node("Conv", ["v1", "w2"], ["v2"]),
        helper.make_node("Conv", ["v2", "w3"], ["v3"]),
        helper.make_node("GlobalAveragePool", ["v3"], ["v4"]),
        helper.make_node("Flatten", ["v4"], ["scores"]),
    ]
    return file_of(
        nodes,
        shape=("pixels", (batch, 3, side, side)),
        given={"scores": (batch, 2)},
        constants=constants,
    )


def spots(*, form: str = "probabilities", side: int = 32) -> bytes:
    """A map of bright places, (1, 1, side / 2, side / 2): logits or a sigmoid's probabilities."""
    last = [helper.make_node("Sigmoid", ["raw"], ["heat"])]
    if form == "logits":
        last = [helper.make_node("Identity", ["raw"], ["heat"])]
    nodes = [
        helper.make_node("Conv", ["pixels", "w", "b"], ["wide"]),
        helper.make_node("AveragePool", ["wide"], ["raw"], kernel_shape=[2, 2], strides=[2, 2]),
        *last,
    ]
    return file_of(
        nodes,
        shape=("pixels", (1, 3, side, side)),
        given={"heat": (1, 1, side // 2, side // 2)},
        constants={
            "w": np.full((1, 3, 1, 1), 20 / 3, np.float32),
            "b": np.array([-12.0], np.float32),
        },
    )


def doubling(*, height: int | str = "height", width: int | str = "width") -> bytes:
    """Gives its input twice as large, and its mean by picture."""
    nodes = [
        helper.make_node("Mul", ["crops", "two"], ["twice"]),
        helper.make_node("ReduceMean", ["crops"], ["mean"], axes=[1, 2, 3], keepdims=0),
    ]
    return file_of(
        nodes,
        shape=("crops", (1, 3, height, width)),
        given={"twice": (1, 3, height, width), "mean": (1,)},
        constants={"two": np.array(2.0, np.float32)},
    )


def crops(seed: int = 0, *, height: int = 5, width: int = 7) -> "np.typing.NDArray[np.float32]":
    """Numbers around 0."""
    found = np.random.default_rng(seed).normal(0, 1, (1, 3, height, width))
    return found.astype(np.float32)


class EngineContract:
    """One fixture: ``engine``."""

    @pytest.fixture
    def engine(self) -> OpenEngine:
        raise NotImplementedError

    def test_the_named_outputs_come_in_their_order(self, engine: OpenEngine) -> None:
        running = engine(doubling(), crops=(1, 3, 0, 0), where="here", outputs=OUTPUTS)
        given = crops()
        twice, mean = running.run(given, outputs=OUTPUTS)
        np.testing.assert_allclose(twice, 2 * given, rtol=1e-6)
        np.testing.assert_allclose(mean, given.mean(axis=(1, 2, 3)), atol=1e-6)
        (alone,) = running.run(given, outputs=("mean",))
        np.testing.assert_allclose(alone, mean, atol=1e-6)
        assert {twice.dtype, mean.dtype} == {np.dtype(np.float32)}

    def test_an_answer_stays_as_it_was_when_the_next_is_asked(self, engine: OpenEngine) -> None:
        running = engine(doubling(), crops=(1, 3, 0, 0), where="here", outputs=OUTPUTS)
        (first,) = running.run(crops(1), outputs=("twice",))
        running.run(crops(2), outputs=("twice",))
        np.testing.assert_allclose(first, 2 * crops(1), rtol=1e-6)

    def test_sizes_that_vary_are_taken_one_after_the_other(self, engine: OpenEngine) -> None:
        running = engine(doubling(), crops=(1, 3, 0, 0), where="here", outputs=OUTPUTS)
        for height, width in ((4, 4), (9, 3), (4, 4)):
            given = crops(height=height, width=width)
            (twice,) = running.run(given, outputs=("twice",))
            np.testing.assert_allclose(twice, 2 * given, rtol=1e-6)

    def test_several_threads_get_their_own_answers(self, engine: OpenEngine) -> None:
        running = engine(doubling(), crops=(1, 3, 0, 0), where="here", outputs=OUTPUTS)
        wrong: list[int] = []

        def ask(seed: int) -> None:
            for turn in range(20):
                given = crops(100 * seed + turn)
                (twice,) = running.run(given, outputs=("twice",))
                if not np.allclose(twice, 2 * given, rtol=1e-6):
                    wrong.append(seed)

        with ThreadPoolExecutor(max_workers=4) as threads:
            list(threads.map(ask, range(4)))
        assert wrong == []

    def test_what_is_no_network_or_another_is_refused(self, engine: OpenEngine) -> None:
        for network in (b"no network", b"", doubling(height=5, width=7)):
            with pytest.raises(InvalidError) as told:
                engine(network, crops=(1, 3, 8, 8), where="here", outputs=OUTPUTS)
            assert told.value.fix

    def test_outputs_that_are_not_there_are_refused(self, engine: OpenEngine) -> None:
        with pytest.raises(InvalidError, match="gives"):
            engine(doubling(), crops=(1, 3, 0, 0), where="here", outputs=("logits",))

    def test_crops_of_another_shape_are_refused(self, engine: OpenEngine) -> None:
        fixed = doubling(height=5, width=7)
        running = engine(fixed, crops=(1, 3, 5, 7), where="here", outputs=OUTPUTS)
        with pytest.raises(InvalidError, match="the network failed on"):
            running.run(crops(height=4, width=7), outputs=("twice",))
