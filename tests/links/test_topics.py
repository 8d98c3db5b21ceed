"""Topics, patterns and mailboxes by themselves."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from lineside.core import InvalidError
from lineside.core.topics import check_pattern, check_topic, topic_matches, topics_meet
from lineside.links import Message
from lineside.links.contract import BoundedMailbox

LEVEL = st.sampled_from(["", "a", "b", "$SYS", "$aws", "long level"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)
PATTERN = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


@given(PATTERN, TOPIC)
def test_patterns_match_as_the_reference_client_says(pattern: str, topic: str) -> None:
    check_pattern(pattern)
    check_topic(topic)
    assert topic_matches(pattern, topic) == topic_matches_sub(pattern, topic)


@given(TOPIC)
def test_everything_matches_itself_and_all_but_dollar_topics_match_all(topic: str) -> None:
    assert topic_matches(topic, topic)
    assert topic_matches("#", topic) != topic.startswith("$")


@given(PATTERN, PATTERN, TOPIC)
def test_patterns_that_share_a_topic_meet(one: str, other: str, topic: str) -> None:
    if topic_matches(one, topic) and topic_matches(other, topic):
        assert topics_meet(one, other)


def test_patterns_with_a_leading_wildcard_do_not_meet_dollar_topics() -> None:
    assert not topics_meet("#", "$SYS/broker")
    assert not topics_meet("$SYS/+", "+/broker")


@given(st.text(max_size=20))
def test_a_pattern_that_passes_the_check_never_fails_to_match(text: str) -> None:
    try:
        check_pattern(text)
    except InvalidError:
        return
    assert topic_matches(text, "a/b") in (True, False)


def message(number: int) -> Message:
    return Message(topic="t", payload=str(number).encode())


@given(st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=60), st.integers(1, 6))
def test_a_mailbox_is_the_newest_of_what_was_put(steps: list[int | None], size: int) -> None:
    mailbox = BoundedMailbox(size=size)
    model: list[bytes] = []
    put = dropped = taken = 0
    for step in steps:
        if step is None:
            mailbox.put(message(put))
            model.append(str(put).encode())
            put += 1
            dropped += max(0, len(model) - size)
            model = model[-size:]
        else:
            found = [each.payload for each in mailbox.get_many(most=step, timeout_s=0)]
            assert found == model[:step]
            taken += len(found)
            model = model[step:]
    figures = mailbox.figures()
    assert (figures.received, figures.dropped) == (put, dropped)
    assert (figures.handed_out, figures.waiting) == (taken, len(model))


def test_a_mailbox_wakes_its_reader_and_takes_nothing_after_close() -> None:
    mailbox = BoundedMailbox(size=1)
    threading.Timer(0.05, mailbox.put, (message(1),)).start()
    assert mailbox.get(timeout_s=5) == message(1)
    assert mailbox.get(timeout_s=0.01) is None
    mailbox.put(message(2))
    mailbox.close()
    mailbox.close()
    mailbox.put(message(3))
    assert [mailbox.get(timeout_s=None), mailbox.get(timeout_s=None)] == [message(2), None]


def test_a_mailbox_holds_at_least_one_message() -> None:
    with pytest.raises(InvalidError):
        BoundedMailbox(size=0)
