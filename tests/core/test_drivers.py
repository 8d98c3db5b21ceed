import logging
import sys
from copy import copy
from importlib.metadata import EntryPoint

import pytest

from lineside.core import InvalidError, encode, need
from lineside.core import drivers as module
from lineside.core.drivers import SecretUrl, find_driver, without_secrets
from lineside.core.errors import MissingExtraError

TABLE = {"memory": "lineside.core.drivers:SecretUrl", "sqlite": "json:loads"}


def test_the_rooms_own_table_comes_first() -> None:
    assert find_driver("bus", "memory://name", table=TABLE) is SecretUrl


def test_an_installed_entry_point_is_found_by_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def installed(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [
            EntryPoint(name="other", value="json:dumps", group=group),
            EntryPoint(name="nats", value="json:loads", group=group),
            EntryPoint(name="nats", value="json:load", group=group),
        ]

    monkeypatch.setattr(module, "entry_points", installed)
    import json

    assert find_driver("bus", "nats://host", table=TABLE) is json.loads
    assert asked == ["lineside.bus"]
    with pytest.raises(InvalidError, match="Known schemes: memory, nats, other, sqlite"):
        find_driver("bus", "redis://host", table=TABLE)


@pytest.mark.parametrize("url", ["gopher://user:word@host/x", "plain", "", "http://[::1"])
def test_an_unknown_scheme_is_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(InvalidError) as caught:
        find_driver("bus", url, table=TABLE)
    assert "word" not in str(caught.value)
    assert caught.value.fix


def test_known_schemes_are_listed() -> None:
    with pytest.raises(InvalidError, match="Known schemes: memory, sqlite"):
        find_driver("bus", "redis://host", table=TABLE)


def test_a_missing_library_names_the_command_that_installs_it() -> None:
    with pytest.raises(MissingExtraError) as caught:
        need("surely_not_installed.inner", extra="mongo")
    assert caught.value.fix == 'pip install "lineside[mongo]"'


def test_an_installed_library_is_handed_over() -> None:
    assert need("json", extra="hub") is sys.modules["json"]


def test_a_library_that_itself_lacks_something_keeps_its_own_error(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "lacking_driver.py").write_text("import lack\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ModuleNotFoundError, match="No module named 'lack'"):
        need("lacking_driver", extra="hub")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://user:pass@host:1883", "mqtt://…@host:1883"),
        ("mqtt://u:p@ss/w#o?rd@host/x?key=1", "mqtt://…@host/x…"),
        ("rtsp://cam:554/user=admin_password=pass_channel=1.sdp", "rtsp://cam:554/…"),
        ("HTTPS://hooks.mes/services/key", "HTTPS://hooks.mes/…"),
        ("http://host/", "http://host/"),
        ("s3://bucket/images?secret_access_key=pass", "s3://bucket/images…"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("http://[::1", "http://[::1"),
        ("folder:in?moved=out", "folder:in?moved=out"),
    ],
)
def test_an_address_is_shown_and_sent_without_its_secrets(url: str, shown: str) -> None:
    secret = SecretUrl(url)
    line = logging.LogRecord("a", 20, "a", 1, "at %s", (secret,), None).getMessage()
    document = (encode(secret), encode({"a": [secret]}), repr(secret), f"{secret}", line)
    assert document == (
        f'"{shown}"'.encode(), f'{{"a":["{shown}"]}}'.encode(), repr(shown), shown, f"at {shown}",
    )  # fmt: skip
    assert (secret.reveal(), copy(secret).reveal(), SecretUrl(secret).reveal()) == (url,) * 3


def test_addresses_are_equal_only_with_the_same_secret() -> None:
    made = {SecretUrl(url) for url in ("mqtt://a:b@host", "mqtt://a:c@host", "mqtt://a:b@host")}
    assert len(made) == 2
    assert SecretUrl("mqtt://a:b@host") != SecretUrl("mqtt://a:c@host")


def test_an_address_whose_host_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(InvalidError, match="not a URL") as caught:
        find_driver("bus", "mqtt://eve:secret@bro\u2100ker", table={"mqtt": "json:loads"})
    assert "secret" not in str(caught.value)
    assert caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://h/user=admin_password=S3cret_channel=1",
        "http://camera/cgi?usr=a&pwd=S3cret&x=1", "http://camera/cgi?passwd=S3cret",
        "http://h/x?api_key=S3cret", "https://h/x?se=2026&sig=S3cret%3D", "?Signature=S3cret",
        "rtsp://u:S3cret@h/x", 'password = "two S3cret"', "key = 'a S3cret'", "pass=S3cret",
        '{"password": "a \\"S3cret"}', '"{\\"token\\": \\"S3cret\\"}"', "X-Api-Key: S3cret",
        "{'sasl.password': 'S3cret'}", "Authorization: Bearer S3cret", "bearer S3cret",
        "authorization: Basic S3cret", "Cookie: lineside_session=x; a=S3cret",
        '[[webhook]]\nurl = "https://h/services/S3cret"', '"url": "https://h?S3cret"',
        'headers = { X-Line = "}S3cret" }', "[{'headers': {'X-Line': 'S3cret', 'Y': '1'}}]",
        'headers.X-Line = "S3cret"', '[webhook.headers]\nX-Line = "1"\nY = "S3cret"\n[[line]]',
    ],
)  # fmt: skip
def test_no_form_of_a_secret_stays_in_a_text(text: str) -> None:
    assert "S3cret" not in without_secrets(text)
    assert "…" in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"key": "data_dir", "value": "/var/lib/lineside", "origin": "file"}',
        'secret_file = "mes.secret"', "exit code: 1", '"tokens": 3', 'source = "rtsp://10.0.0.7/a"',
        "[webhook.headers]\n…\n[[line]]", 'author = "anna"', 'url = "https://mes.lan"',
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert without_secrets(text) == text
