"""Where a page may stand, and that nobody shows one to others by accident."""

from pathlib import Path

import pytest

from lineside.core import InvalidError
from lineside.core.config import load_config
from lineside.edge import EdgeConfig
from lineside.edge.config import PageConfig, parse_listen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),  # noqa: S104  parsed only
        ("edge-1.plant.lan:443", ("edge-1.plant.lan", 443)),
    ],
)
def test_an_address_is_a_host_and_a_port_and_a_port_alone_is_this_machine_s(
    text: str, address: tuple[str, int]
) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["host", "host:", ":8080", "host:65536", "host:-1", "host:٣", "http://h:1", "a b:1"]
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        PageConfig(listen=text, password_file="p")  # noqa: S106  a file
    assert '"127.0.0.1:8080"' in caught.value.fix


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.168.1.4:80", "edge-1:8080"])
def test_a_page_that_others_reach_needs_a_sign_in(listen: str) -> None:
    with pytest.raises(InvalidError) as caught:
        PageConfig(listen=listen)
    assert "sign-in" in str(caught.value)
    assert "page-password" in str(caught.value)
    assert PageConfig(listen=listen, password_file="p").guarded  # noqa: S106  a file
    assert PageConfig(listen=listen, token_file="t").guarded  # noqa: S106  a file


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_cert": "a.pem"},
        {"tls_key": "a.pem"},
        {"most_viewers": 0},
        {"most_viewers": 17},
        {"width_px": 10},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        PageConfig(**settings)  # type: ignore[arg-type]  # one at a time


def test_the_agent_s_file_says_what_is_wrong_with_its_page(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    head = 'device = "e"\nbus = "mqtt://h"\nplant = "p"\ndata_dir = "d"\n[page]\n'
    file.write_text(head + 'listen = "0.0.0.0:8080"\n')
    with pytest.raises(InvalidError) as caught:
        load_config(EdgeConfig, program="edge", path=file, environ={}, flags={})
    assert "page" in str(caught.value)
    assert "sign-in" in str(caught.value)
    file.write_text(head + 'listen = "8080"\n')
    found = load_config(EdgeConfig, program="edge", path=file, environ={}, flags={}).config
    assert found.page.address == ("127.0.0.1", 8080)


def test_without_settings_there_is_no_page() -> None:
    assert not PageConfig().listen
