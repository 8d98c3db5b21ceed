"""When the hub was heard, and how far its clock is off."""

import pytest

from lineside.core import encode
from lineside.edge.agent import Contact, stamp_of
from lineside.testing import FakeClock


def test_an_answer_tells_the_offset_and_an_acknowledgement_the_moment(clock: FakeClock) -> None:
    contact = Contact(clock)
    assert (contact.heard_at, contact.offset_s) == (None, None)
    contact.heard()
    assert (contact.heard_at, contact.offset_s) == (clock.now(), None)
    clock.advance(0.7)
    contact.heard(encode({"timestamp": int(clock.now().timestamp()) + 3}))
    assert contact.offset_s == 3
    assert contact.heard_at == clock.now()
    contact.heard()  # says nothing of time
    assert contact.offset_s == 3


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"7", b'{"timestamp":"7"}', b'{"timestamp":true}', b'{"timestamp":-1}',
     b'{"timestamp":1e300}', b'{"timestamp":null}', b'{"timestamp":7}' + b" " * 300_000],
)  # fmt: skip
def test_what_tells_no_time_tells_none(payload: bytes) -> None:
    assert stamp_of(payload) is None
