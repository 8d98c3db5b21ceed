"""``deploy/``: every path, setting, port and command that its files name is there."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import load_plant
from lineside.core.config import load_config
from lineside.hub import HubConfig

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()


def hub_of(path: Path) -> HubConfig:
    return load_config(HubConfig, program="hub", path=path, environ={}, flags={}).config


def check_command(words: list[str]) -> None:
    """The command line knows these words."""
    command: Any = get_command(app)
    command.commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False)


@pytest.mark.parametrize(
    ("noun", "folder"), [("hub", "/etc/lineside"), ("edge", "/var/lib/lineside")]
)
def test_units_are_those_that_the_commands_print(noun: str, folder: str) -> None:
    settings = DEPLOY / "systemd" / f"{noun}.toml"
    printed = CliRunner().invoke(app, [noun, "unit", "--config", str(settings)]).stdout
    command, there = (
        f"{noun} --config",
        (DEPLOY / "systemd" / f"lineside-{noun}.service").read_text(),
    )
    printed = re.sub(
        rf"(?m)^ExecStart=.* {command} .*$",
        f"ExecStart=/opt/lineside/bin/lineside {command} {folder}/{noun}.toml",
        printed,
    )
    printed = re.sub(r"(?m)^WorkingDirectory=.*$", f"WorkingDirectory={folder}", printed)
    assert there == printed
    check_command([noun, "--config", f"{folder}/{noun}.toml"])


@pytest.mark.parametrize("noun", ["hub", "edge"])
def test_systemd_finds_no_fault_in_a_unit_and_rates_it_as_little_exposed(
    noun: str, tmp_path: Path, absent: Callable[[str, str], NoReturn]
) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        absent("service", "systemd-analyze is not installed")
    text = (DEPLOY / "systemd" / f"lineside-{noun}.service").read_text()
    unit = tmp_path / f"lineside-{noun}.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text))
    for check in (["security", "--offline=true", "--threshold=30"], ["verify"]):
        done = subprocess.run(
            [program, *check, str(unit)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-500:] + done.stderr
        assert unit.name not in done.stderr


def test_the_compose_file_names_what_is_there() -> None:
    document = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    guide = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
    hub = hub_of(COMPOSE / "hub.toml")
    load_plant(COMPOSE / "plant" / "plant.toml")
    for name, service in document["services"].items():
        mounted = {}
        for volume in service["volumes"]:
            source, target = volume.split(":")[:2]
            mounted[target] = source
            if source.startswith("."):
                assert (COMPOSE / source).exists(), source
            else:
                assert source in document["volumes"], source
        secrets = {f"/run/secrets/{one}" for one in service.get("secrets", ())}
        assert secrets <= {f"/run/secrets/{one}" for one in document["secrets"]}
        settings = {"hub": "hub.toml", "prometheus": "prometheus.yml"}.get(name)
        if settings:
            named = set(re.findall(r"/run/secrets/[\w.]+", (COMPOSE / settings).read_text()))
            assert named == secrets, name
        if "build" in service:
            assert re.search(
                rf"^FROM \w+ AS {service['build']['target']}$", CONTAINERFILE, re.MULTILINE
            )
            check_command(service["command"])
            # The device's are written by its enrolment, in the folder of its data.
            assert {service["command"][2], str(Path(service["command"][2]).parent)} & {*mounted}
            assert service["read_only"]
    assert {hub.data_dir, str(Path(hub.plant).parent)} <= {
        one.split(":")[1] for one in document["services"]["hub"]["volumes"]
    }
    for one in document["secrets"].values():
        assert Path(one["file"]).name in guide
    assert (hub.bus, hub.public_url) == ("embedded", f"https://hub:{hub.port}")
    ports = (f"{hub.port}", hub.bus_tls.partition(":")[2], f"127.0.0.1:{hub.bus_port}")
    assert document["services"]["hub"]["ports"] == [f"{one}:{one[-4:]}" for one in ports]
    assert f"--hub {hub.public_url} " in guide
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    assert scraped["rule_files"] == ["alerts.yml"]
    (job,) = scraped["scrape_configs"]
    assert (job["job_name"], job["scheme"], job["static_configs"]) == (
        "lineside",
        "https",
        [{"targets": [f"hub:{hub.port}"]}],
    )


def test_the_containerfile_names_what_is_there() -> None:
    for sources in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", CONTAINERFILE):
        assert all((ROOT / source).exists() for source in sources.split()), sources
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r'"\.\[([\w,]+)\]"', CONTAINERFILE):
        assert {*extras.split(",")} <= {*known}
    for words in re.findall(r'(?m)^ *CMD \[(?!"python)(?:"lineside", )?(.*)\]$', CONTAINERFILE):
        check_command(re.findall(r'"([^"]*)"', words))
    (page,) = re.findall(r"LINESIDE_EDGE__PAGE__LISTEN=(\S+)", CONTAINERFILE)
    assert f"'http://{page}/health'" in CONTAINERFILE
    assert re.search(r"(?m)^USER 10001$", CONTAINERFILE)
