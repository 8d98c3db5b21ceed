import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.fleet import newer, version_key

ORDERED = ("1", "1.0.1", "1.9", "1.10", "2", "9", "10")
DOTTED = st.lists(st.integers(0, 999_999), min_size=1, max_size=6).map(
    lambda numbers: ".".join(map(str, numbers))
)


@given(st.permutations(ORDERED))
def test_versions_stand_in_their_order(mixed: list[str]) -> None:
    assert sorted(mixed, key=version_key) == list(ORDERED)


@pytest.mark.parametrize(("one", "other"), [("4", "4"), ("1.0", "1.0.0"), ("01", "1")])
def test_equal_versions_are_not_newer(one: str, other: str) -> None:
    assert not newer(one, than=other)
    assert not newer(other, than=one)


@given(DOTTED, DOTTED)
def test_of_two_versions_one_is_newer_or_they_are_equal(one: str, other: str) -> None:
    assert (
        newer(one, than=other) + newer(other, than=one) + (version_key(one) == version_key(other))
        == 1
    )


@pytest.mark.parametrize("wrong", ["", "v1", "1.", "1..2", "1.0-rc1", "-1", "1e3", "٣"])
def test_what_is_no_version_gets_a_sentence(wrong: str) -> None:
    with pytest.raises(InvalidError, match="is no version"):
        version_key(wrong)
