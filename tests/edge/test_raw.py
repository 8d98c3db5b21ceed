"""Raw tensors to a bare network: what is left open, what does not fit, wrapped networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.compat.aws.edge_agent import DTYPES, TensorPart
from lineside.core import InvalidError
from lineside.edge.capture.record import array_of, arrays_for, part_of, whole_shape
from lineside.models import Package
from lineside.models.engines import ANY, BareEngine, TensorSlot
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing import FakeClock
from lineside.testing.engines import shades
from tests.models.test_wrap import SHADES

DATA = TensorSlot(name="data", dtype="float32", shape=(ANY, 3, 4, 4))
TWO = (DATA, TensorSlot(name="size", dtype="int64", shape=(2,)))


def values(*shape: int) -> bytes:
    return np.ones(shape, "<f4").tobytes()


@pytest.mark.parametrize("shape", [(), (2, 3, 4, 4), (-1, 3, 4, 4), (2, -1, 4, -1)])
def test_a_side_that_is_left_open_follows_from_the_bytes(shape: tuple[int, ...]) -> None:
    part = TensorPart(data=values(2, 3, 4, 4), shape=shape)
    assert array_of(part, slot=DATA).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    "part",
    [
        TensorPart(data=values(2, 3, 4, 4), shape=(-1, -1)),
        TensorPart(data=values(2, 3, 4, 4), shape=(2, 3, 4)),
        TensorPart(data=values(1, 3, 4, 4) + b"x"),
        TensorPart(data=values(2, 3, 4, 4), shape=(3, 3, 4, 4)),
    ],
)
def test_what_does_not_fit_says_what_would(part: TensorPart) -> None:
    with pytest.raises(InvalidError) as refused:
        array_of(part, slot=DATA)
    assert refused.value.where == "data"
    assert refused.value.fix


def test_inputs_are_matched_by_name_and_otherwise_by_place() -> None:
    size = TensorPart(data=np.array([4, 4], "<i8").tobytes(), name="size")
    data = TensorPart(data=values(1, 3, 4, 4))
    found = arrays_for(TWO, [data, size])
    assert found["size"].tolist() == [4, 4]
    named = TensorPart(data=values(1, 3, 4, 4), name="data")
    assert set(arrays_for(TWO, [size, named])) == {"data", "size"}
    with pytest.raises(InvalidError, match="'size' is given twice"):
        arrays_for(TWO, [size, size])


@given(
    st.sampled_from(DTYPES), st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    st.data(),
)  # fmt: skip
def test_an_array_comes_back(dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    numbers = data.draw(
        st.lists(st.integers(0, 255), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    )
    array = np.array(numbers).reshape(shape).astype(dtype)
    slot = TensorSlot(name="x", dtype=dtype, shape=shape)
    part = part_of(array, slot=slot)
    assert np.array_equal(array_of(part, slot=slot), array)


@given(
    st.lists(st.integers(-1, 5), max_size=5).map(tuple), st.integers(0, 400),
    st.sampled_from([1, 2, 4, 8]),
)  # fmt: skip
def test_a_whole_shape_holds_the_bytes_or_there_is_none(
    wanted: tuple[int, ...], size: int, item: int
) -> None:
    found = whole_shape(wanted, size, item_bytes=item)
    if wanted.count(ANY) == 1 and found is not None:
        assert int(np.prod(found)) * item == size
        assert [a for a, b in zip(found, wanted, strict=True) if b != ANY] == [
            side for side in wanted if side != ANY
        ]
    if wanted.count(ANY) == 0:
        assert found == wanted


def test_others_network_answers_through_its_package_as_a_client_asks_it() -> None:
    """One float32 tensor with the facts of the first input; the first output alone is read.

    A wrapped network takes the values of pixels, whatever it took before.
    """
    made = wrapped(
        shades(side=224), read_wrapping(SHADES.replace("16", "224").encode(), where="wrap.toml"),
        pictures=[], clock=FakeClock(),
    )  # fmt: skip
    package = Package.read(made)
    engine = BareEngine(package.file(package.manifest.engine.file), where="test")
    (taken,) = engine.inputs
    picture = np.full((1, 3, 224, 224), 0.9, "<f4")
    pixels = picture * np.float32(255)
    part = TensorPart(data=pixels.tobytes(), name=taken.name, dtype=taken.dtype, shape=taken.shape)
    first = engine.run(arrays_for(engine.inputs, [part]))[0]
    wanted = BareEngine(shades(side=224), where="test").run({"pixels": picture})[0]
    assert first.shape == (1, 2)
    assert np.allclose(first, wanted, atol=1e-3)
