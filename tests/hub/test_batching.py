"""Calls put together: each gets its own rows, none is lost, a full queue says so."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import InvalidError, SystemClock, UnavailableError
from lineside.hub.inference.model_server import Arrays, Batcher, BatchSettings
from lineside.testing.links import LONG_S


class Network:
    """Doubles its rows; waits where it is told to, and remembers the sizes of its runs."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def run(self, rows: NDArray[np.float32]) -> Arrays:
        self.sizes.append(len(rows))
        self.entered.set()
        assert self.free.wait(LONG_S)
        if (rows < 0).any():
            raise InvalidError("negative")
        return {"double": rows * 2}


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def batcher(network: Network) -> Iterator[Batcher]:
    made = Batcher(
        network.run, name="test", clock=SystemClock(),
        settings=BatchSettings(most_rows=4, delay_s=0.05, waiting=3),
    )  # fmt: skip
    yield made
    network.free.set()
    made.close()


def rows(*values: float, width: int = 2) -> NDArray[np.float32]:
    return np.array([[value] * width for value in values], np.float32)


def test_one_caller_is_answered_alone(batcher: Batcher, network: Network) -> None:
    said = batcher.submit(rows(1, 2))
    assert said["double"].tolist() == [[2, 2], [4, 4]]
    assert network.sizes == [2]
    assert (batcher.figures().runs, batcher.figures().rows) == (1, 2)


def test_callers_while_the_network_works_share_its_next_run(
    batcher: Batcher, network: Network
) -> None:
    network.free.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.submit, rows(1))
        assert network.entered.wait(LONG_S)
        others = [pool.submit(batcher.submit, rows(value)) for value in (2, 3, 4)]
        while len(batcher._calls) < 3:
            pass
        network.free.set()
        assert first.result()["double"].tolist() == [[2, 2]]
        assert sorted(o.result()["double"][0, 0] for o in others) == [4, 6, 8]
    assert network.sizes == [1, 3]
    assert (batcher.figures().runs, batcher.figures().rows) == (2, 4)


def test_a_full_queue_refuses_instead_of_growing(batcher: Batcher, network: Network) -> None:
    network.free.clear()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(batcher.submit, rows(1))]
        assert network.entered.wait(LONG_S)
        waiting += [pool.submit(batcher.submit, rows(1)) for _ in range(3)]
        while len(batcher._calls) < 3:
            pass
        with pytest.raises(UnavailableError, match="3 calls wait"):
            batcher.submit(rows(1))
        assert batcher.figures().refused == 1
        assert len(batcher._calls) == 3
        network.free.set()
        assert all(each.result()["double"].tolist() == [[2, 2]] for each in waiting)


def test_other_shapes_and_too_many_rows_go_into_the_next_run(
    batcher: Batcher, network: Network
) -> None:
    network.free.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.submit, rows(9))
        assert network.entered.wait(LONG_S)
        others = []
        for place, given in enumerate((rows(1, 2, 3), rows(4, 5, 6), rows(7, width=3))):
            others.append(pool.submit(batcher.submit, given))
            while len(batcher._calls) <= place:
                pass
        network.free.set()
        assert first.result()["double"].shape == (1, 2)
        assert [o.result()["double"].shape for o in others] == [(3, 2), (3, 2), (1, 3)]
    assert network.sizes == [1, 3, 3, 1]


def test_a_whole_batch_does_not_queue(batcher: Batcher, network: Network) -> None:
    assert batcher.submit(rows(1, 2, 3, 4, 5))["double"].shape == (5, 2)
    assert network.sizes == [5]
    assert batcher.figures().runs == 0


def test_a_refusal_reaches_its_caller_and_the_next_is_answered(batcher: Batcher) -> None:
    with pytest.raises(InvalidError, match="negative"):
        batcher.submit(rows(-1))
    assert batcher.submit(rows(1))["double"].tolist() == [[2, 2]]


def test_after_the_end_calls_run_by_themselves(network: Network) -> None:
    batcher = Batcher(network.run, name="x", clock=SystemClock(), settings=BatchSettings())
    batcher.close()
    assert batcher.submit(rows(1))["double"].tolist() == [[2, 2]]
