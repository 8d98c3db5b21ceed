"""Codes, what uses them up, keys and proofs, and what is known of a device."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, NotFoundError, RefusedError
from lineside.fleet import (
    CertificateAuthority,
    EnrolledDevice,
    Inventory,
    NewInvitation,
    Presence,
    device_request,
)
from lineside.fleet.enrolment import (
    ClockOffset,
    Invitation,
    check_groups,
    fingerprint_of,
    presence,
    read_code,
    renewal_message,
    secret_digest,
    use_invitation,
    write_code,
)
from lineside.fleet.trust.certificates import (
    check_proof,
    new_device_key,
    requested_key_digest,
    sign_as_device,
)
from lineside.store import open_records
from lineside.testing import FakeClock

SECRETS = st.binary(min_size=10, max_size=10)
PRINTS = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(SECRETS, PRINTS)
def test_a_code_comes_back_as_it_was_written(secret: bytes, fingerprint: str) -> None:
    code = write_code(secret, fingerprint=fingerprint)
    read = read_code(code)
    assert (read.secret, read.fingerprint) == (secret.hex(), fingerprint)
    sloppy = f"  {code.lower().replace('-', ' ').replace('o', '0').replace('i', '1')} "
    assert read_code(sloppy) == read


@given(SECRETS, PRINTS, st.integers(0, 54), st.sampled_from("ABCDEFGHJ234567"))
def test_one_wrong_letter_is_noticed(
    secret: bytes, fingerprint: str, place: int, letter: str
) -> None:
    code = write_code(secret, fingerprint=fingerprint)
    wrong = code[:place] + letter + code[place + 1 :]
    if wrong == code or code[place] == "-":
        return
    with pytest.raises(InvalidError, match="code"):
        read_code(wrong)


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "A" * 48, "A" * 10_000, "-" * 50, "\x00"])
def test_what_is_no_code_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidError, match="code") as caught:
        read_code(text)
    assert "lineside device invite" in caught.value.fix


def invitation(clock: FakeClock) -> Invitation:
    now = clock.now()
    return Invitation(
        device="edge-1", groups=(), lines=("a",), invited_at=now, invited_by="anna",
        ends_at=now + timedelta(hours=1),
    )  # fmt: skip


def test_a_code_is_used_up_by_the_first_key(clock: FakeClock) -> None:
    first = use_invitation(invitation(clock), key="k1", now=clock.now())
    clock.advance(60)
    assert use_invitation(first, key="k1", now=clock.now()) == first
    with pytest.raises(RefusedError, match="used already"):
        use_invitation(first, key="k2", now=clock.now())
    clock.advance(3600)
    with pytest.raises(RefusedError, match="good until"):
        use_invitation(first, key="k1", now=clock.now())


def test_how_long_a_code_works_is_bounded() -> None:
    for hours in (0.0, -1.0, 400.0, float("nan")):
        with pytest.raises(InvalidError, match="hours"):
            NewInvitation(hours=hours)


def test_secrets_are_kept_by_digest() -> None:
    assert secret_digest("ab") != secret_digest("ac")
    assert "ab" * 10 not in secret_digest("ab" * 10)


def test_a_key_is_recognised_in_request_and_certificate(tmp_path: object, clock: FakeClock) -> None:
    from pathlib import Path

    authority = CertificateAuthority.create(Path(str(tmp_path)) / "ca", site="hall", clock=clock)
    key = new_device_key()
    request = device_request(key, device="edge-1")
    certificate = authority.sign_device(request, device="edge-1")
    others = device_request(new_device_key(), device="edge-1")
    digest = requested_key_digest(request, device="edge-1")
    assert requested_key_digest(device_request(key, device="edge-1"), device="edge-1") == digest
    assert requested_key_digest(others, device="edge-1") != digest
    assert authority.certificate_of(authority.check(certificate).serial) == certificate
    assert len(fingerprint_of(authority.certificate)) == 32
    message = renewal_message(request)
    check_proof(certificate, message=message, proof=sign_as_device(key, message=message))
    stranger = sign_as_device(new_device_key(), message=message)
    for proof in (stranger, b"", b"x" * 70, sign_as_device(key, message=b"another")):
        with pytest.raises(RefusedError, match="not signed by the key"):
            check_proof(certificate, message=message, proof=proof)
    with pytest.raises(NotFoundError):
        authority.certificate_of("abc")
    assert authority.revoked() == frozenset()
    authority.revoke("edge-1", reason="stolen")
    assert len(authority.revoked()) == 1


def test_what_is_no_key_or_certificate_is_refused() -> None:
    for raw in (b"", b"nothing", new_device_key()[:40]):
        with pytest.raises(InvalidError):
            device_request(raw, device="edge-1")
        with pytest.raises(InvalidError):
            fingerprint_of(raw)


def row(clock: FakeClock, device: str = "edge-1") -> EnrolledDevice:
    now = clock.now()
    return EnrolledDevice(
        device=device, lines=("a",), enrolled_at=now, enrolled_by="anna", serial="ab",
        ends_at=now + timedelta(days=365), key="k",
    )  # fmt: skip


def test_a_device_is_a_thing_from_enrolment_to_revocation(clock: FakeClock) -> None:
    with open_records("memory://", clock=clock) as records:
        inventory = Inventory(records)
        inventory.enrol(row(clock), groups=("line-a", "canary"))
        assert inventory.things.members("canary") == ["edge-1"]
        inventory.set_groups("edge-1", ("line-a",))
        assert inventory.things.members("canary") == []
        gone = inventory.revoke("edge-1", by="anna", reason="stolen", at=clock.now())
        assert not gone.active
        assert inventory.find("edge-1") == gone
        assert inventory.things.things() == []
        assert [one.device for one in inventory.all()] == ["edge-1"]
        for call in (lambda: inventory.one("edge-2"), lambda: inventory.set_groups("edge-1", ())):
            with pytest.raises(NotFoundError):
                call()
    with pytest.raises(InvalidError, match="name of a group"):
        check_groups(("a/b",))


@given(st.floats(-1e6, 1e6), st.lists(st.floats(0, 5), min_size=1, max_size=8))
def test_the_offset_is_that_of_the_message_that_was_delayed_least(
    offset_s: float, delays_s: list[float]
) -> None:
    clock, measured = FakeClock(), ClockOffset()
    assert measured.seconds is None
    for delay_s in delays_s:
        said = clock.now() + timedelta(seconds=offset_s)
        clock.advance(delay_s)
        measured.note(moment=said, heard=clock.now())
    assert measured.seconds == pytest.approx(offset_s - min(delays_s), abs=1e-3)


def test_presence_is_by_what_was_told_and_when(clock: FakeClock) -> None:
    heard = clock.now()

    def seen(told: str, after_s: float) -> Presence:
        now = heard + timedelta(seconds=after_s)
        return presence(told, heard_at=heard, now=now, silent_after_s=30)

    assert seen("online", 30) is Presence.ONLINE
    assert seen("online", 31) is Presence.SILENT
    assert seen("offline", 31) is Presence.OFFLINE
    assert presence("", heard_at=None, now=heard, silent_after_s=30) is Presence.NEVER
