"""``lineside edge page-password``."""

import subprocess
import sys
from pathlib import Path

from lineside.edge.page.door import matches, read_password_line

PASSWORD = "four words of nobody"  # noqa: S105  of the tests


def said(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lineside", "edge", "page-password", *words],
        input=given, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_password_is_kept_where_the_settings_say_or_beside_the_spool(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    head = f'device = "e"\nbus = "mqtt://h"\nplant = "p"\ndata_dir = "{tmp_path}/edge"\n'
    file.write_text(head)
    done = said("--config", str(file), "--password-file", "-", given=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert matches(read_password_line(tmp_path / "edge" / "page.password"), PASSWORD)
    named = tmp_path / "elsewhere" / "password"
    file.write_text(head + f'[page]\nlisten = "0.0.0.0:8080"\npassword_file = "{named}"\n')
    assert said("--config", str(file), "--password-file", "-", given=PASSWORD).returncode == 0
    assert matches(read_password_line(named), PASSWORD)
    assert str(named) in said("--out", str(named), "--password-file", "-", given=PASSWORD).stderr


def test_what_cannot_be_kept_is_refused_with_a_sentence(tmp_path: Path) -> None:
    out = str(tmp_path / "password")
    short = said("--out", out, "--password-file", "-", given="short\n")
    assert short.returncode == 2
    assert "12 to 200" in short.stderr
    assert not Path(out).exists()
    assert said("--password-file", "-", given=PASSWORD).returncode == 2
    assert (
        said("--out", "/proc/none/password", "--password-file", "-", given=PASSWORD).returncode == 6
    )
