"""No bytes do more to a parser than make it say what is wrong with them."""

import json
import time
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import LinesideError
from tests.fuzz.parsers import EDITS, FOUND, PARSERS, ROOT, TOKENS, Edit, Parser, spoilt

LONGEST_S = 5.0
MOST_BYTES = 200_000_000
EDIT = st.builds(
    Edit,
    st.integers(0, 5),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from((1, 2, 4, 9, 40, 300)),
    st.sampled_from(TOKENS) | st.binary(max_size=8),
)


@pytest.fixture(scope="module", params=PARSERS, ids=[one.name for one in PARSERS])
def parser(request: pytest.FixtureRequest) -> Parser:
    found: Parser = request.param
    return found


def test_a_parser_returns_or_says_what_is_wrong(
    parser: Parser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, seeds = tmp_path_factory.mktemp("fuzz"), list(parser.seeds())
    spoilt_bytes = st.builds(spoilt, st.sampled_from(seeds), st.lists(EDIT, max_size=EDITS))

    @settings(max_examples=60, deadline=None)
    @given(raw=spoilt_bytes | st.binary(max_size=300))
    def holds(raw: bytes) -> None:
        once(parser, raw, folder)

    once(parser, b"", folder)
    holds()


def test_good_ones_are_taken(parser: Parser, tmp_path: Path) -> None:
    for seed in parser.seeds():
        with pytest.raises(LinesideError) if parser.refused else nullcontext():
            parser.read(seed, tmp_path)


@pytest.mark.parametrize(("name", "raw"), FOUND, ids=[name for name, _ in FOUND])
def test_what_was_found_stays_mended(name: str, raw: Callable[[], bytes], tmp_path: Path) -> None:
    (of_name,) = (one for one in PARSERS if one.name == name)
    once(of_name, raw(), tmp_path)


def test_brackets_within_brackets_are_a_sentence(parser: Parser, tmp_path: Path) -> None:
    for deep in (b"[" * 100_000, b'{"a":' * 100_000, b"a=" + b"[" * 3000, b"<a>" * 100_000):
        once(parser, deep, tmp_path)


def test_the_results_count_every_parser() -> None:
    found = json.loads((ROOT / "benchmarks/results/fuzz.json").read_bytes())
    assert set(found["parsers"]) == {one.name for one in PARSERS}
    assert found["faults"] == 0
    assert all(one["runs"] >= 1000 for one in found["parsers"].values())


def once(parser: Parser, raw: bytes, folder: Path) -> None:
    began_s = time.thread_time()  # what else the machine does is not counted
    tracemalloc.start()
    try:
        with suppress(LinesideError):
            parser.read(raw, folder)
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < MOST_BYTES
    assert time.thread_time() - began_s < LONGEST_S
