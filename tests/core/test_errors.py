import pytest

from lineside.core import (
    ConflictError,
    Fault,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.core.errors import MissingExtraError, StaleError, retry_stale

SIX = [
    (InvalidError, 2, 400),
    (NotFoundError, 3, 404),
    (ConflictError, 4, 409),
    (RefusedError, 5, 403),
    (UnavailableError, 6, 503),
    (MissingExtraError, 7, 501),
]


@pytest.mark.parametrize(("kind", "code", "status"), SIX)
def test_each_error_has_its_exit_code_and_status(
    kind: type[LinesideError], code: int, status: int
) -> None:
    assert (kind.exit_code, kind.http_status) == (code, status)
    assert kind.title
    assert issubclass(kind, LinesideError)


def test_the_six_are_all_there_are() -> None:
    assert set(LinesideError.__subclasses__()) >= {kind for kind, _, _ in SIX}
    assert len({code for _, code, _ in SIX} | {LinesideError.exit_code}) == 7


def test_an_error_says_what_where_and_how_to_mend_it() -> None:
    error = InvalidError("label 'x' is unknown", where="labels.json:14", fix="Known: dent.")
    assert str(error) == "label 'x' is unknown (labels.json:14) fix: Known: dent."
    assert str(InvalidError("plain")) == "plain"


def test_a_fault_reads_as_a_sentence() -> None:
    fault = Fault(path="$.a", value="3", expected="text", fix="Write text.")
    assert str(fault) == "$.a: 3 is not text. Write text."


@pytest.mark.parametrize(
    ("error", "tries", "raised"),
    [(StaleError, 16, UnavailableError), (ConflictError, 1, ConflictError)],
)
def test_a_stale_write_is_done_again_until_it_is_given_up_with_an_error(
    error: type[ConflictError], tries: int, raised: type[LinesideError]
) -> None:
    others: list[int] = []

    @retry_stale
    def write(free: int) -> str:
        others.append(free)
        if len(others) < free:
            raise error(f"at version {len(others)}")
        return "written"

    assert write(1) == "written"
    with pytest.raises(raised, match=f"at version {tries + 1}"):
        write(1000)
    assert write(1) == "written"
