"""``lineside edge page-password``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import InvalidError, UnavailableError
from lineside.edge.page.access import matches, read_password_line

PASSWORD = "four words of nobody"  # noqa: S105  of the tests


def said(*words: str, given: str) -> tuple[BaseException | None, str]:
    asked = ["edge", "page-password", *words, "--password-file", "-"]
    done = CliRunner().invoke(app, asked, input=given)
    return done.exception, done.output


def test_the_password_is_kept_where_the_settings_say_or_beside_the_spool(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    head = f'device = "e"\nbus = "mqtt://h"\nplant = "p"\ndata_dir = "{tmp_path}/edge"\n'
    file.write_text(head)
    error, output = said("--config", str(file), given=PASSWORD + "\n")
    assert error is None
    assert PASSWORD not in output
    assert matches(read_password_line(tmp_path / "edge" / "page.password"), PASSWORD)
    named = tmp_path / "elsewhere" / "password"
    file.write_text(head + f'[page]\nlisten = "0.0.0.0:8080"\npassword_file = "{named}"\n')
    error, output = said("--config", str(file), given=PASSWORD)
    assert error is None
    assert str(named) in output
    assert matches(read_password_line(named), PASSWORD)


@pytest.mark.parametrize(
    ("words", "given", "kind"),
    [
        (("--out", "{folder}/password"), "short\n", InvalidError),
        ((), PASSWORD, InvalidError),
        (("--out", "/proc/none/password"), PASSWORD, UnavailableError),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_sentence(
    words: tuple[str, ...], given: str, kind: type[Exception], tmp_path: Path
) -> None:
    error, _ = said(*(word.format(folder=tmp_path) for word in words), given=given)
    assert isinstance(error, kind)
    assert not (tmp_path / "password").exists()
