"""Placeholders for links in a job's document: what is refused, and when a link is made."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.fleet import JobQuery, JobService, NewJob, ThingDirectory
from lineside.fleet.jobs.settings import MOST_LINKS, asks_for_links, check_links, with_links
from lineside.store import open_records
from lineside.testing import FakeClock
from tests.fleet.jobs.conftest import Desk


class Numbered:
    """``ObjectLinks`` that numbers what it makes, and knows bucket ``b`` only."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []

    def check(self, url: str) -> None:
        if "/b/" not in f"/{url}":
            raise InvalidError(f"no bucket of {url}", where="document", fix="Use b.")

    def link(self, url: str, *, seconds: int) -> str:
        self.made.append((url, seconds))
        return f"{url}?signed={len(self.made)};"


def placeholder(url: str, *, kind: str = "s3-presigned-url") -> str:
    return f"${{aws:iot:{kind}:{url}}}"


@pytest.fixture
def links() -> Numbered:
    return Numbered()


@pytest.fixture
def linked(clock: FakeClock, links: Numbered) -> Iterator[Desk]:
    with open_records("memory://", clock=clock) as records:
        directory = ThingDirectory(records)
        directory.add("t")
        service = JobService(records, clock=clock, directory=directory, links=links)
        desk = Desk(service=service, directory=directory, clock=clock)
        service.deliver = desk.hear
        yield desk


def test_a_link_is_made_anew_each_time_a_device_gets_the_document(
    linked: Desk, links: Numbered
) -> None:
    document = {"files": [{"url": placeholder("https://s3.eu.amazonaws.com/b/k")}], "n": 1}
    linked.create("job1", document=document, presignedUrlConfig={"expiresInSec": 60})
    assert linked.notices()["notify-next"]["execution"]["jobDocument"]["n"] == 1
    first = linked.ask("start-next")["execution"]["jobDocument"]["files"][0]["url"]
    second = linked.ask("job1/get")["execution"]["jobDocument"]["files"][0]["url"]
    third = linked.ask("job1/update", status="IN_PROGRESS", includeJobDocument=True)
    assert first != second
    assert third["jobDocument"]["files"][0]["url"].startswith("https://s3.eu.amazonaws.com/b/k?")
    assert set(links.made) == {("https://s3.eu.amazonaws.com/b/k", 60)}
    assert linked.service.look("job1")[0].document == document


def test_without_a_word_about_it_a_link_lives_for_an_hour(linked: Desk, links: Numbered) -> None:
    linked.create("job1", document={"url": placeholder("b/k", kind="s3-presigned-url-v2")})
    assert links.made == [("b/k", 3600)]


def test_no_link_is_made_where_the_document_stays_away(linked: Desk, links: Numbered) -> None:
    linked.create("job1", document={"url": placeholder("b/k")})
    links.made.clear()
    linked.ask("job1/get", includeJobDocument=False)
    linked.ask("get")
    linked.ask("job1/update", status="SUCCEEDED")
    assert links.made == []


@pytest.mark.parametrize("seconds", [60, 3600])
def test_the_bounds_of_a_link_s_life_are_aws_own(
    linked: Desk, links: Numbered, seconds: int
) -> None:
    linked.create(
        "job1", document={"url": placeholder("b/k")}, presignedUrlConfig={"expiresInSec": seconds}
    )
    assert links.made == [("b/k", seconds)]


@pytest.mark.parametrize("seconds", [59, 3601, -1, 0])
def test_outside_the_bounds_no_job_is_made(linked: Desk, seconds: int) -> None:
    with pytest.raises(InvalidError, match="out of range"):
        linked.create("job1", presignedUrlConfig={"expiresInSec": seconds})


def deep(levels: int) -> object:
    value: object = placeholder("b/k")
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (placeholder("c/k"), "no bucket"),
        ("${aws:iot:s3-presigned-url:}", "without an object"),
        ("${aws:iot:s3-presigned-url:b/a b}", "without an object"),
        ("${aws:iot:s3-presigned-url:b/k", "without an object"),
        ("${aws:iot:s3-presigned-url-v3:b/k}", "without an object"),
        (placeholder("b/k") + "${aws:iot:s3-presigned-url}", "without an object"),
        ([placeholder(f"b/{n}") for n in range(MOST_LINKS + 1)], "33 presigned links"),
        (deep(80), "too deep"),
    ],
)
def test_what_can_never_be_a_link_makes_no_job(linked: Desk, value: object, said: str) -> None:
    with pytest.raises(InvalidError, match=said) as refused:
        linked.create("job1", document={"a": value})
    assert refused.value.fix
    assert linked.service.jobs(JobQuery()).items == ()


def test_a_document_without_placeholders_may_be_as_deep_as_it_likes(linked: Desk) -> None:
    value: object = "$"
    for _ in range(300):
        value = [value]
    linked.create("job1", document={"a": value})
    assert linked.ask("start-next")["execution"]["jobDocument"] == {"a": value}


def test_the_same_job_again_does_not_look_for_its_objects_again(
    linked: Desk, links: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published may be withdrawn; the job that is there stays what it is."""
    asked = NewJob(job_id="job1", targets=("t",), document={"a": placeholder("b/k")})
    linked.service.create(asked)

    def gone(url: str) -> None:
        raise InvalidError("gone", where=url)

    monkeypatch.setattr(links, "check", gone)
    assert linked.service.create(asked).job_id == "job1"


TEXT = st.one_of(st.text(max_size=8), st.sampled_from(["$", "${", "${aws:iot:x}", "}"]))
TREE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT | st.just(placeholder("b/k")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(TEXT, TREE, max_size=4))
def test_only_placeholders_change(document: dict[str, Any]) -> None:
    check_links(document, Numbered())
    made = with_links(document, Numbered(), seconds=60)
    assert not asks_for_links(made)
    whole = json.dumps(document)
    assert asks_for_links(document) == (json.dumps(placeholder("b/k")) in _values(document))
    for number in range(1, whole.count(placeholder("b/k")) + 1):
        text = json.dumps(made).replace(f"b/k?signed={number};", placeholder("b/k"))
        made = json.loads(text)
    assert made == document


def _values(value: object) -> list[str]:
    match value:
        case dict():
            return [text for inner in value.values() for text in _values(inner)]
        case list():
            return [text for inner in value for text in _values(inner)]
        case _:
            return [json.dumps(value)]
