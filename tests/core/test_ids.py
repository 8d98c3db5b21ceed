from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import (
    InvalidError,
    digest_of,
    frame_id,
    new_id,
    parse_digest,
    short,
    stable_id,
)
from lineside.testing import FakeClock

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
BASE_32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_new_ids_differ_and_sort_by_birth(clock: FakeClock) -> None:
    ids = []
    for _ in range(200):
        ids.append(new_id("dev", clock=clock))
        clock.advance(0.001)
    assert ids == sorted(set(ids))
    assert {len(one) for one in ids} == {30}
    assert all(one.startswith("dev_") and set(one[4:]) <= set(BASE_32) for one in ids)


def test_ids_of_one_millisecond_differ(clock: FakeClock) -> None:
    assert len({new_id("evt", clock=clock) for _ in range(500)}) == 500


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_digest_is_the_contents_and_only_the_contents(one: bytes, other: bytes) -> None:
    assert (digest_of(one) == digest_of(other)) is (one == other)
    assert parse_digest(digest_of(one)) == digest_of(one)


def test_a_digest_is_sha_256() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_of(b"") == "sha256:" + empty


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha1:" + 64 * "a", "sha256:" + 63 * "a", "sha256:" + 65 * "a",
     "sha256:" + 64 * "A", "sha256:" + 32 * "a" + "g" + 31 * "a", 64 * "a",
     "sha256:" + 63 * "a" + "\n"],
)  # fmt: skip
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_digest(text, where="url")
    assert caught.value.where == "url"


def test_a_frame_is_named_alike_by_all_who_see_it() -> None:
    facts = {"camera": "rack", "captured_at": AT, "digest": digest_of(b"picture")}
    assert frame_id(**facts) == frame_id(**facts)  # type: ignore[arg-type]  # three facts as one table
    assert frame_id(**facts) == "frm_" + frame_id(**facts)[4:]  # type: ignore[arg-type]  # as above
    assert len(frame_id(**facts)) == 30  # type: ignore[arg-type]  # as above


@given(st.sampled_from(["camera", "captured_at", "digest"]))
def test_a_frame_differs_by_each_of_its_three_facts(fact: str) -> None:
    facts = {"camera": "rack", "captured_at": AT, "digest": digest_of(b"picture")}
    others = {
        "camera": "belt",
        "captured_at": AT + timedelta(milliseconds=1),
        "digest": digest_of(b"other"),
    }
    changed = {**facts, fact: others[fact]}
    assert frame_id(**facts) != frame_id(**changed)  # type: ignore[arg-type]  # facts as a table


def test_a_frames_name_forgets_what_the_wire_forgets() -> None:
    digest = digest_of(b"picture")
    one = frame_id(camera="rack", captured_at=AT, digest=digest)
    sooner = frame_id(camera="rack", captured_at=AT + timedelta(microseconds=900), digest=digest)
    assert one == sooner


@given(st.lists(st.text(alphabet="abc", max_size=3), max_size=4))
def test_a_stable_id_follows_from_its_parts(parts: list[str]) -> None:
    assert stable_id("evt", *parts) == stable_id("evt", *parts)
    assert stable_id("evt", *parts) != stable_id("evt", *parts, "more")
    assert len(stable_id("evt", *parts)) == 30


def test_people_read_out_six_characters() -> None:
    assert short("sha256:0123456789abcdef") == "012345"
    assert short("dev_01J9ZQABCDEFGH") == "CDEFGH"
