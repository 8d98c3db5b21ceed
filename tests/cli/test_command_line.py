"""What a person meets at the prompt: exit codes, sentences, stdout for results only."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

from lineside.cli import app
from lineside.cli.config import load_hub

EXAMPLES = Path(__file__).parents[2] / "examples" / "warehouse"


def lineside(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lineside", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100"},  # noqa: TID251  handed on to a child
    )


def test_help_comes_with_every_command_and_exit_code_0() -> None:
    done = lineside("--help")
    assert done.returncode == 0
    for command in ("demo", "check", "train", "hub", "edge", "simulate", "trace", "doctor"):
        assert command in done.stdout


def test_the_version_is_printed() -> None:
    done = lineside("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "lineside")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["edge"],
        ["check"],
        ["train", "--task", "surface"],
        ["demo", "--port", "99999"],
        ["demo", "--for", "-3"],
        ["simulate", "warehouse"],
        ["train", "--task", "wat"],
        ["hub"],
        ["dataset", "add", "rack"],
    ],
    ids=" ".join,
)
def test_wrong_words_are_exit_code_2_and_no_bug(words: list[str]) -> None:
    done = lineside(*words)
    assert done.returncode == 2
    assert "bug:" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Value error" not in done.stderr


def test_a_right_plant_file_has_no_faults() -> None:
    done = lineside("check", str(EXAMPLES / "plant.toml"), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"faults": []})


def test_every_fault_of_a_plant_file_is_reported_with_its_path(tmp_path: Path) -> None:
    plant = tmp_path / "plant.toml"
    plant.write_text(
        'schema = "lineside.plant/1"\nsite = "demo"\nsiet = "x"\n'
        '[[camera]]\nid = "rack"\nline = "nowhere"\nsource = "mqtt:i/cam"\n'
    )
    done = lineside("check", str(plant), "--json")
    faults = json.loads(done.stdout)["faults"]
    assert done.returncode == 2
    assert {fault["path"] for fault in faults} == {"$.siet", "$.camera[0].line"}
    assert all(fault["fix"] for fault in faults)


def test_broken_toml_is_named_by_line(tmp_path: Path) -> None:
    plant = tmp_path / "plant.toml"
    plant.write_text('schema = "lineside.plant/1"\nsite = = 3\n')
    done = lineside("check", str(plant))
    assert done.returncode == 2
    assert "line 2" in done.stdout


def test_a_missing_file_is_exit_code_3_with_a_fix() -> None:
    done = lineside("check", "/nonexistent/plant.toml")
    assert done.returncode == 3
    assert "fix:" in done.stderr


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    done = lineside(
        *("train", "--data", str(tmp_path), "--plant", str(EXAMPLES / "real.toml")),
        *("--out", str(tmp_path / "no" / "such" / "folder" / "x.lspkg")),
    )
    assert done.returncode == 3
    assert "no file can be written there" in done.stderr


def test_a_text_file_is_no_package(tmp_path: Path) -> None:
    text = tmp_path / "x.lspkg"
    text.write_text("hello")
    done = lineside("package", "show", str(text))
    assert done.returncode == 2
    assert str(text) in done.stderr


def test_every_setting_is_shown_with_its_origin(tmp_path: Path) -> None:
    config = tmp_path / "hub.toml"
    offered = '[[function]]\nname = "count"\nendpoint = "shelf"\nstore = "s3://me:geheim@bucket"\n'
    config.write_text(f'data_dir = "{tmp_path}"\nplant = "p.toml"\n{offered}')
    done = lineside("config", "show", "hub", "--config", str(config), "--json")
    rows = {row["key"]: row for row in json.loads(done.stdout)["settings"]}
    assert rows["plant"]["origin"] == str(config)
    assert rows["port"]["origin"] == "default"
    assert "'store': 's3://…@bucket'" in rows["function"]["value"]


def hub_file(folder: Path) -> Path:
    config = folder / "hub.toml"
    config.write_text(f'data_dir = "{folder / "hub"}"\nplant = "{EXAMPLES / "real.toml"}"\n')
    (folder / "hub").mkdir()
    return config


@pytest.mark.slow
def test_a_dataset_is_imported_shown_and_frozen(tmp_path: Path) -> None:
    import numpy as np

    from lineside.vision import encode_jpeg

    config = str(hub_file(tmp_path))
    source = tmp_path / "pictures"
    source.mkdir()
    rng = np.random.default_rng(1)
    for name in ("a.jpg", "b.jpg"):
        picture = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        (source / name).write_bytes(encode_jpeg(picture))
    (source / "rack.lst").write_text("1\t1\t0\t0\ta.jpg\n2\t0\t1\t0\tb.jpg\nbroken\n3\t0\t0\tc.jpg")
    done = lineside(
        *("dataset", "import", str(source), "--into", "rack", "--labels", "blue,red,white"),
        *("--config", config, "--json"),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["samples"] == 2
    assert len(told["skipped"]) == 2
    assert lineside("dataset", "list", "--config", config).stdout.split() == ["rack"]
    frozen = json.loads(lineside("dataset", "freeze", "rack", "--config", config, "--json").stdout)
    assert frozen["version"] == 1
    bad = lineside("dataset", "freeze", "rack", "--shares", "0.8,0.8", "--config", config)
    assert (bad.returncode, "three shares" in bad.stderr) == (2, True)
    parts = lineside(
        *("dataset", "freeze", "rack", "--shares", "0.5,0.5,0", "--config", config, "--json")
    )
    assert json.loads(parts.stdout)["splits"] == {"train": 1, "valid": 1}, parts.stderr
    shown = json.loads(lineside("dataset", "show", "rack", "--config", config, "--json").stdout)
    assert shown["version"] == 2
    leaks = json.loads(lineside("dataset", "leaks", "rack", "--config", config, "--json").stdout)
    assert (leaks["leaks"], leaks["check"]["looked_at"]) == ([], 2)


@pytest.mark.slow
def test_a_backup_restores_into_an_empty_hub_only(tmp_path: Path) -> None:
    config = str(hub_file(tmp_path))
    issued = lineside("hub", "key", "mes", "--config", config)
    assert "AWS_SECRET_ACCESS_KEY=" in issued.stdout
    assert lineside("trust", "init", "--config", config).returncode == 0
    archive = tmp_path / "all.tar"
    assert lineside("backup", "--to", str(archive), "--config", config).returncode == 0
    refused = lineside("restore", str(archive), "--config", config)
    assert refused.returncode != 0
    assert "bug:" not in refused.stderr
    (tmp_path / "second").mkdir()
    second = str(hub_file(tmp_path / "second"))
    assert lineside("restore", str(archive), "--config", second).returncode == 0
    shown = [lineside("trust", "show", "--config", one, "--json") for one in (config, second)]
    assert shown[1].returncode == 0, shown[1].stderr
    assert json.loads(shown[0].stdout)["roles"] == json.loads(shown[1].stdout)["roles"]
    folders = [load_hub(Path(one)).config for one in (config, second)]
    keys = [sorted((one.trust_folder / "online").iterdir()) for one in folders]
    assert [path.name for path in keys[0]] == [path.name for path in keys[1]]
    assert {path.stat().st_mode & 0o777 for path in keys[1]} == {0o600}
    assert folders[0].keys_folder.is_dir()
    assert not folders[1].keys_folder.exists(), "offline keys are in no backup"
    healthy = lineside("doctor", "--config", second, "--json")
    assert all(check["ok"] for check in json.loads(healthy.stdout)["checks"]), healthy.stdout


def test_a_trace_of_nothing_is_not_found(tmp_path: Path) -> None:
    done = lineside("trace", "evt_NOTHING", "--config", str(hub_file(tmp_path)))
    assert done.returncode == 3


def test_the_help_imports_no_module_of_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lineside", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    ours = {name for name in modules if name.partition(".")[0] == "lineside"}
    assert ours == {"lineside", "lineside.cli", "lineside.cli.app"}
    assert not modules & {"importlib.metadata", "msgspec", "numpy", "pydantic", "rich", "ssl"}


def test_the_lines_of_the_help_begin_the_words_of_each_command() -> None:
    folder = Path(app.__file__).parent
    rooms = {"demo", *(p.stem for p in folder.glob("*.py") if "\ndef register(" in p.read_text())}
    found = {}
    for room in rooms:
        part = typer.Typer()
        import_module(f"lineside.cli.{room}").register(part)
        for name, command in typer.main.get_group(part).commands.items():
            found[name] = (room, " ".join((command.help or "").split()))
    assert {name: room for name, (room, _) in app._COMMANDS.items()} == {
        name: room for name, (room, _) in found.items()
    }
    for name, (_, line) in app._COMMANDS.items():
        assert found[name][1].startswith(line.removesuffix("."))
        assert len(line) <= 57  # what the help has place for
