"""Patterns found by topic, against looking at each of them."""

from hypothesis import given
from hypothesis import strategies as st

from lineside.links import topic_matches
from lineside.links.topic_index import PatternIndex, fixed_part

LEVEL = st.sampled_from(["a", "b", "", "$a", "ab"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
PATTERN = st.tuples(
    st.lists(LEVEL | st.just("+"), min_size=1, max_size=4), st.booleans()
).map(lambda one: "/".join([*one[0], *(["#"] if one[1] else [])])) | st.just("#")  # fmt: skip


@given(put=st.lists(PATTERN), gone=st.lists(PATTERN), topic=TOPIC)
def test_the_index_finds_what_matches_and_nothing_else(
    put: list[str], gone: list[str], topic: str
) -> None:
    index: PatternIndex[str] = PatternIndex()
    for pattern in put:
        index[pattern] = pattern
    for pattern in gone:
        index.pop(pattern, None)
    found = list(index.matching(topic))
    wanted = {one for one in put if one not in gone and topic_matches(one, topic)}
    assert sorted(found) == sorted((one, one) for one in wanted)


@given(put=st.lists(PATTERN))
def test_an_index_that_was_emptied_holds_nothing(put: list[str]) -> None:
    index: PatternIndex[int] = PatternIndex()
    index.update(dict.fromkeys(put, 1))
    assert set(index) == set(put)
    index.clear()
    assert not index._root.below
    assert not list(index.matching("a/b"))


@given(pattern=PATTERN, topic=TOPIC)
def test_topics_begin_with_the_fixed_part_of_their_patterns(pattern: str, topic: str) -> None:
    assert topic.startswith(fixed_part(pattern)) or not topic_matches(pattern, topic)
