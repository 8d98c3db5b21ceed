"""Passwords, tokens, sessions, wrong tries."""

from pathlib import Path

import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError
from lineside.edge import write_page_password
from lineside.edge.page.access import (
    SESSION_S,
    PageSignIn,
    hash_password,
    matches,
    read_password_line,
    read_token_line,
)
from lineside.testing import FakeClock

PASSWORD = "four words of Zürich"  # noqa: S105  of the tests
TOKEN = "0123456789abcdef0123"  # noqa: S105  likewise


@pytest.fixture(scope="module")
def line() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
def door(line: str, clock: FakeClock) -> PageSignIn:
    return PageSignIn(password=line, token=TOKEN, clock=clock)


def test_a_password_is_kept_as_something_else_and_known_again(line: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "page.password"
    write_page_password(PASSWORD, path=path)
    kept = read_password_line(path)
    assert kept != line  # another salt
    assert PASSWORD not in kept
    assert path.stat().st_mode & 0o777 == 0o600
    assert matches(kept, PASSWORD)
    assert matches(line, PASSWORD.replace("ü", "u\u0308"))  # another keyboard, the same letter
    assert not matches(kept, PASSWORD + " ")
    assert not matches(kept, "")


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "x" * 201])
def test_what_is_quickly_guessed_is_refused(password: str) -> None:
    with pytest.raises(InvalidError) as caught:
        hash_password(password)
    assert password not in str(caught.value) or not password


@pytest.mark.parametrize("content", ["", "hunter2", "scrypt$1$8$1$aa$bb", "scrypt$16384$8$1$aa"])
def test_a_file_that_holds_no_password_line_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(content)
    with pytest.raises(InvalidError) as caught:
        read_password_line(path)
    assert "page-password" in caught.value.fix


def test_files_that_are_not_there_say_how_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="page-password"):
        read_password_line(tmp_path / "none")
    with pytest.raises(NotFoundError, match="openssl"):
        read_token_line(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 32, "ü".encode() * 20])
def test_a_token_that_is_no_token_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(InvalidError):
        read_token_line(path)


def test_a_session_ends_by_itself_and_at_sign_out(door: PageSignIn, clock: FakeClock) -> None:
    one, two = (door.sign_in(PASSWORD, address="a") for _ in range(2))
    assert one != two
    assert door.knows(one)
    assert not door.knows("")
    assert not door.knows(one + "x")
    door.sign_out(two)
    assert not door.knows(two)
    clock.advance(SESSION_S + 1)
    assert not door.knows(one)


def test_wrong_tries_of_an_address_have_to_wait_others_do_not(
    door: PageSignIn, clock: FakeClock
) -> None:
    for _ in range(5):
        with pytest.raises(RefusedError):
            door.sign_in("wrong", address="a")
    with pytest.raises(UnavailableError, match="Wait"):
        door.sign_in(PASSWORD, address="a")
    assert door.knows(door.sign_in(PASSWORD, address="b"))
    clock.advance(61)
    assert door.knows(door.sign_in(PASSWORD, address="a"))


def test_many_addresses_together_have_to_wait(door: PageSignIn) -> None:
    for number in range(20):
        with pytest.raises(RefusedError):
            door.sign_in("wrong", address=f"a{number}")
    with pytest.raises(UnavailableError):
        door.sign_in(PASSWORD, address="fresh")


def test_sessions_are_few(door: PageSignIn) -> None:
    first = door.sign_in(PASSWORD, address="a")
    for _ in range(16):
        door.sign_in(PASSWORD, address="a")
    assert not door.knows(first)
    assert door.knows(door.sign_in(PASSWORD, address="a"))


def test_a_token_is_compared_whole(door: PageSignIn, clock: FakeClock) -> None:
    assert door.takes(TOKEN)
    assert not door.takes(TOKEN[:-1])
    assert not door.takes("")
    assert not PageSignIn(password="", clock=clock).takes("")
    assert PageSignIn(clock=clock).open
    assert not door.open


def test_without_a_password_nobody_signs_in(clock: FakeClock) -> None:
    door = PageSignIn(token=TOKEN, clock=clock)
    assert not door.takes_password
    with pytest.raises(RefusedError):
        door.sign_in("", address="a")
