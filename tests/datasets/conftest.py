"""Small pictures made in the test, each with bytes of its own, and a library over memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lineside.datasets import Library, Part, Sample
from lineside.store import Blobs, Records, open_blobs
from lineside.testing import FakeClock
from lineside.vision import encode_png

Png = Callable[[int], bytes]
Make = Callable[..., Sample]


@pytest.fixture(scope="session")
def png() -> Png:
    """A number gives a picture; equal numbers give equal bytes."""

    def made(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return encode_png(rng.integers(0, 256, (16, 24, 3)).astype(np.uint8))

    return made


@pytest.fixture(scope="session")
def sample() -> Make:
    """A sample of a made-up digest."""

    def made(number: int, **facts: object) -> Sample:
        digest = f"sha256:{number:064x}"
        split = Part(str(facts.pop("split", "")))
        return Sample(name=f"p{number}.png", digest=digest, split=split, **facts)  # type: ignore[arg-type]  # by name

    return made


@pytest.fixture
def blobs() -> Iterator[Blobs]:
    opened = open_blobs("memory://")
    yield opened
    opened.close()


@pytest.fixture
def library(*, records: Records, blobs: Blobs, clock: FakeClock) -> Library:
    return Library(records, blobs, clock=clock)


@pytest.fixture
def put(png: Png) -> Callable[[Path, int], Path]:
    """Write picture ``seed`` to a path."""

    def put(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
        return path

    return put
