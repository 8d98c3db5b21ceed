"""The commands, end to end: a hub's repository, a stick, a device."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.app import _run
from lineside.core import SystemClock, load_plant
from lineside.hub import HubConfig
from lineside.models import build_package
from tests.hub.conftest import PLANT, open_hub
from tests.models.conftest import package_parts

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def archive() -> bytes:
    return build_package(*package_parts())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    path = tmp_path / "hub.toml"
    path.write_text(f'data_dir = "{tmp_path / "data"}"\nplant = "{tmp_path / "plant.toml"}"\n')
    (tmp_path / "data").mkdir()
    return path


@pytest.fixture
def command(config: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command on the hub; its exit code, and what it said on stdout and stderr."""

    def run(*words: str, hub: bool = True) -> tuple[int, str, str]:
        code = _run([*words, *(["--config", str(config)] if hub else [])])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def publish(config: Path, data: bytes, *, group: str = "discs") -> str:
    """A version approved and signed as the hub does it."""
    folder = config.parent / "data"
    hub = HubConfig(data_dir=str(folder), plant=str(config.parent / "plant.toml"))
    clock = SystemClock()
    with open_hub(hub, plant=load_plant(Path(hub.plant)), clock=clock) as services:
        digest = services.packages.add(data, by="anna").digest
        services.packages.use(digest, inspection="stock", by="anna", reason=group)
        target = services.releases.target_of(digest)
    assert target is not None
    return target.path


def check_shown(command: Command, package: Path, *, trust: str, signed: dict[str, object]) -> None:
    """``package show`` says who signed in the form of ``package verify``, where it is asked."""
    code, out, _ = command("package", "show", str(package), "--trust", trust, "--json", hub=False)
    assert (code, json.loads(out)["signed_by"]) == (0, [signed])
    code, out, _ = command("package", "show", str(package), "--json", hub=False)
    assert (code, json.loads(out)["signed_by"]) == (0, [])
    code, out, _ = command("package", "show", str(package), "--trust", trust, hub=False)
    assert "signed by default (key " in out


def test_a_package_travels_on_a_stick(
    command: Command,
    config: Path,
    archive: bytes,
    tmp_path: Path,
) -> None:
    code, _, said = command("trust", "init")
    assert code == 0
    assert "take them off this machine" in said
    path = publish(config, archive)
    package = tmp_path / "stock.lspkg"
    package.write_bytes(archive)

    trust = str(tmp_path / "data" / "trust")
    code, out, _ = command("package", "verify", str(package), "--trust", trust, "--json", hub=False)
    assert code == 0
    (signed,) = json.loads(out)["signed_by"]
    assert (signed["role"], signed["target"]) == ("default", path)
    assert signed["keys"]
    check_shown(command, package, trust=trust, signed=signed)

    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "lineside-1.0-py3-none-any.whl").write_bytes(b"wheel")
    stick = tmp_path / "site.lsbundle"
    code, out, _ = command(
        "package", "bundle", "direct-stock/1", "--out", str(stick),
        "--wheels", str(tmp_path / "wheels"), "--days", "30", "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(out)
    assert told["packages"] == [path]
    assert told["wheels"] == ["wheels/lineside-1.0-py3-none-any.whl"]

    assert command("trust", "root", str(tmp_path / "root.json"))[0] == 0
    device = tmp_path / "device"
    apply = ("package", "apply", str(stick), "--into", str(device))
    code, _, said = command(*apply, hub=False)
    assert code == 5
    assert "trusts no root yet" in said
    code, out, _ = command(*apply, "--root", str(tmp_path / "root.json"), "--json", hub=False)
    assert code == 0
    (applied,) = json.loads(out)["packages"]
    assert (applied["inspection"], applied["version"]) == ("stock", "1")
    assert applied["signed_by"] == [signed]
    assert len(list((device / "packages").glob("*.lspkg"))) == 1
    code, out, said = command(
        "package", "verify", str(package), "--trust", str(device / "trust"), "--json", hub=False
    )
    assert code == 0, said
    assert json.loads(out)["signed_by"] == [signed]


def test_an_unsigned_package_is_refused_where_somebody_asks(
    command: Command,
    archive: bytes,
    tmp_path: Path,
) -> None:
    command("trust", "init")
    package = tmp_path / "stock.lspkg"
    package.write_bytes(archive)
    code, _, said = command("package", "verify", str(package), hub=False)
    assert code == 0
    trust = str(tmp_path / "data" / "trust")
    code, _, said = command("package", "verify", str(package), "--trust", trust, hub=False)
    assert code == 5
    assert "nobody signed this file" in said
    code, _, said = command("package", "verify", str(package), "--trust", "/none", hub=False)
    assert code == 3


def test_keys_are_rotated_renewed_and_shown(command: Command, tmp_path: Path) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse\n")
    keys = tmp_path / "stick"
    code, _, _ = command(
        "trust", "init", "--keys", str(keys), "--root-keys", "2", "--threshold", "1",
        "--group", "line-a=tiles,rack", "--passphrase-file", str(phrase),
    )  # fmt: skip
    assert code == 0
    for role in ("root", "targets", "snapshot", "line-a"):
        words = ("trust", "rotate", role, "--keys", str(keys), "--passphrase-file", str(phrase))
        assert command(*words)[0] == 0, role
    for role in ("online", "root", "targets"):
        words = ("trust", "renew", role, "--keys", str(keys), "--passphrase-file", str(phrase))
        assert command(*words)[0] == 0, role
    words = ("trust", "group", "line-b", "--keys", str(keys), "--passphrase-file", str(phrase))
    assert command(*words)[0] == 0
    code, out, _ = command("trust", "show", "--json")
    roles = {role["role"]: role for role in json.loads(out)["roles"]}
    assert list(roles) == [
        "root", "targets", "snapshot", "timestamp", "line-a", "line-b", "default"
    ]  # fmt: skip
    assert roles["root"]["version"] == 5
    assert roles["line-a"]["paths"] == ["packages/tiles/*/*", "packages/rack/*/*"]
    code, out, _ = command("trust", "show")
    assert "line-b" in out
    lost = roles["root"]["keys"][0]
    words = ("trust", "rotate", "root", "--lost", lost[:12], "--keys", str(keys))
    code, _, said = command(*words)
    assert code == 5
    assert "--passphrase-file" in said


def test_what_is_signed_is_taken_back_and_ways_back_are_signed(
    command: Command,
    config: Path,
    archive: bytes,
    tmp_path: Path,
) -> None:
    command("trust", "init")
    publish(config, archive)
    code, _, _ = command("trust", "allow-rollback", "direct-stock/1", "--from-version", "2")
    assert code == 0
    code, _, said = command("trust", "allow-rollback", "direct-stock/1", "--from-version", "x")
    assert (code, "is no version" in said) == (2, True)
    assert command("trust", "withdraw", "direct-stock/1")[0] == 0
    code, _, said = command("trust", "withdraw", "direct-stock/1")
    assert (code, "nothing of this name is signed" in said) == (3, True)
    code, _, said = command("package", "bundle", "direct-stock/1", "--out", str(tmp_path / "x"))
    assert code == 3


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("trust", "show"), 3, "no update repository"),
        (("trust", "rotate", "root"), 3, "no update repository"),
        (("trust", "init", "--threshold", "4"), 2, "4 of 3 root keys cannot sign"),
        (("trust", "init", "--group", "a/b=c"), 2, "names no group of devices"),
        (("trust", "init", "--passphrase-file", "/none"), 3, "no file"),
    ],
)
def test_bad_input_gets_a_sentence(
    words: tuple[str, ...], code: int, sentence: str, command: Command
) -> None:
    found, _, said = command(*words)
    assert found == code, said
    assert sentence in said
    assert "fix:" in said


def test_bundles_and_folders_that_cannot_work_get_a_sentence(
    command: Command, tmp_path: Path
) -> None:
    for words, sentence in (
        (("package", "apply", "none", "--into", str(tmp_path / "d")), "no such bundle"),
        (("package", "apply", "none"), "one of --config and --into"),
    ):
        code, _, said = command(*words, hub=False)
        assert code in (2, 3)
        assert sentence in said
    short = tmp_path / "phrase"
    short.write_text("short")
    code, _, said = command("trust", "init", "--passphrase-file", str(short))
    assert (code, "a passphrase of 5 characters" in said) == (2, True)
    command("trust", "init")
    code, _, said = command("trust", "init")
    assert (code, "there is an update repository" in said) == (4, True)
    code, _, said = command(
        "package", "bundle", "x/1", "--out", str(tmp_path / "x"), "--wheels", str(tmp_path)
    )
    assert code == 3
    assert not list(tmp_path.glob("*.lsbundle"))
