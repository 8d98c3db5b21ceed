"""Names under which packages are loaded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.fleet import identifier_of
from lineside.fleet.contract import check_distinct, check_identifier


@pytest.mark.parametrize(
    ("name", "version", "identifier"),
    [
        ("img-classification", "4", "img-classification-4"),
        ("unet", "1.2", "unet-1-2"),
        ("unet", "1-2", "unet-1-2"),
        ("a", "1.10.0", "a-1-10-0"),
    ],
)
def test_a_version_of_a_model_has_one_identifier(name: str, version: str, identifier: str) -> None:
    assert identifier_of(name, version) == identifier


@pytest.mark.parametrize(
    "name", ["", "-", "-a", "a-", "a.b", "a_b", "a b", "a/b", "../a", "a\n", "é", "a" * 201]
)
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidError, match="no name of a model") as refused:
        check_identifier(name, where="name")
    assert "letters, digits and inner dashes" in refused.value.fix


@pytest.mark.parametrize("name", ["a", "7", "a-b", "a--b", "A-0", "a" * 200])
def test_names_that_follow_it_are_taken(name: str) -> None:
    assert check_identifier(name, where="name") == name


def test_two_versions_that_meet_are_refused_by_name() -> None:
    with pytest.raises(InvalidError, match=r"unet 1\.2 and unet 1-2 are both unet-1-2"):
        check_distinct([("unet", "1.2"), ("img", "1"), ("unet", "1-2")])


def test_a_long_name_of_dashes_is_judged_at_once() -> None:
    with pytest.raises(InvalidError):
        check_identifier("a" + "-" * 199, where="name")


@given(st.from_regex(r"[a-z0-9](-*[a-z0-9]){0,5}", fullmatch=True), st.integers(0, 99))
def test_what_is_made_of_a_name_that_follows_the_rule_follows_it(name: str, number: int) -> None:
    check_identifier(identifier_of(name, f"{number}.{number}"), where="name")
