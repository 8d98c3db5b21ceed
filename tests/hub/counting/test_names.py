"""Whatever a caller names, a function reads inside its prefix or says why not."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineside.core import LinesideError
from lineside.core.drivers import SecretUrl
from lineside.hub.config import FunctionConfig, HubConfig
from lineside.hub.inference.functions import FunctionRequest, Functions, PictureStore, reply_to
from lineside.testing import FakeClock
from tests.hub.counting.squares import write_store

T = TypeVar("T")

PARTS = ["..", ".", "", "bin-images", "metadata", "00004.jpg", "4", "secret.txt", "\\", "~", "%2e"]
NAMES = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PARTS)).map("/".join))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> PictureStore:
    folder = tmp_path_factory.mktemp("names")
    (folder / "secret.txt").write_text("secret")
    store = write_store(folder / "store")
    (store / "secret.txt").write_text("secret")
    function = FunctionConfig(
        name="f",
        endpoint="e",
        store=SecretUrl(store.as_uri()),
        prefix="bin-images/",
        records="metadata/",
    )
    return PictureStore(function, clock=FakeClock())


def outcome(call: Callable[[str], T], name: str) -> tuple[int, T | None]:
    """Status and value, the value None for a refusal."""
    try:
        return 200, call(name)
    except LinesideError as error:
        return error.http_status, None


@given(NAMES)
@example("../secret.txt")
@example("../../secret.txt")
@example("/etc/hostname")
@example("00004.jpg\0")
@example("00004.jpg/../../secret.txt")
@example("a" * 300)
def test_nothing_outside_the_prefix_is_ever_read(shelf: PictureStore, name: str) -> None:
    status, read = outcome(shelf.read, name)
    assert status in {200, 400, 403, 404}
    if status == 200:
        folder = Path(shelf._objects._root) / "bin-images"  # type: ignore[attr-defined]  # a folder here
        assert read in [path.read_bytes() for path in folder.iterdir()]


@given(NAMES)
def test_what_is_offered_is_on_the_list(shelf: PictureStore, name: str) -> None:
    status, offered = outcome(shelf.offered, name)
    assert status == 403 or offered in shelf.names()


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


class NoFunctions(Functions):
    """Fails if it is called: nothing random is a whole request."""

    def __init__(self) -> None:
        """Nothing is opened."""

    def call(self, name: str, request: FunctionRequest) -> None:  # type: ignore[override]  # never returns
        pytest.fail(f"{request} was taken for {name}")


@given(json_like)
def test_any_document_is_answered_with_a_status_and_a_sentence(document: object) -> None:
    reply = reply_to(
        NoFunctions(), "f", document=document, config=HubConfig(data_dir="data", plant="plant.toml")
    )
    assert reply.failed
    assert reply.document["statusCode"] == 400
    assert reply.document["body"]["error"]
