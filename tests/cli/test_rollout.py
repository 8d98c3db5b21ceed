"""``lineside rollout`` against a running hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.app import _run
from lineside.cli.rollout import _figures
from lineside.core import SystemClock, encode
from lineside.hub import HubConfig, Services, running
from lineside.hub.models.model_service import Registration
from lineside.models import build_package
from lineside.testing.links import wait_until
from tests.hub.conftest import PLANT
from tests.models.conftest import package_parts

FILE = "hub.toml"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Services]:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    plant, data = str(tmp_path / "plant.toml"), str(tmp_path / "data")
    (tmp_path / FILE).write_text(f'data_dir = "{data}"\nplant = "{plant}"\n')
    config = HubConfig(data_dir=data, plant=plant, port=0, bus_port=0)
    with running(config, clock=SystemClock()) as opened:
        services = opened.services
        digest = services.packages.add(build_package(*package_parts()), by="ada").digest
        services.models.register("discs", Registration(package=digest), by="ada")
        services.models.approve("discs", 1, by="eve", reason="good")
        yield services


def told(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401  JSON
    assert _run(["rollout", *words, "--config", str(folder / FILE), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_roll_out_is_started_looked_at_and_ordered_about(
    hub: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.things.add("edge-1", groups=("hall",))
    plan = tmp_path / "plan.json"
    plan.write_bytes(encode({"steps": [{"percent": 100}]}))
    words = [
        "start",
        "discs/1",
        "--plan",
        str(plan),
        "--group",
        "hall",
        "--frames",
        "20",
        "--rollback",
    ]
    hub_file = str(tmp_path / FILE)
    assert _run(["rollout", *words, "--preview", "--config", hub_file]) == 0
    text = capsys.readouterr().out
    assert text.startswith("preview: discs/1\n")
    assert "rol_" not in text  # nothing is kept under such an id
    made = told(words, tmp_path, capsys)
    name = made["id"]
    assert (made["plan"]["group"], made["plan"]["limits"]["frames"]) == ("hall", 20)
    assert hub.rollouts.one(name).rollback
    # The hub may be amid its own look, which asks the device after it has noted the job.
    wait_until(lambda: [one.status for one in hub.rollouts.view(name).devices] == ["QUEUED"])
    shown = told(["status", name], tmp_path, capsys)
    assert shown["job"] == f"{name}-1"
    assert [(one["id"], one["status"], one["package"]) for one in shown["devices"]] == [
        ("edge-1", "QUEUED", "")
    ]
    assert told(["status"], tmp_path, capsys)["rollouts"][0]["id"] == name
    for order, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        after = told([order, name, "--reason", "drill"], tmp_path, capsys)
        assert (after["state"], after["why"]) == (state, "drill")
    assert _run(["rollout", "status", name, "--config", hub_file]) == 0
    text = capsys.readouterr().out
    assert f"{name} discs/1 aborted: drill" in text
    assert _run(["rollout", "status", "--config", hub_file]) == 0
    assert name in capsys.readouterr().out


def test_an_approved_version_is_taken_into_use(
    hub: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model", "use", "discs/1", "--reason", "first day", "--config", str(tmp_path / FILE)]
    assert _run(words) == 0
    assert capsys.readouterr().out == "discs/1 is in use for stock\n"
    assert hub.packages.in_use("stock") == hub.models.one("discs", 1).digest
    assert _run([*words, "--inspection", "lid"]) == 2
    assert "lid" in capsys.readouterr().err


def test_what_cannot_be_is_refused_with_an_exit_code_and_a_sentence(
    hub: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hub.rollouts.all() == ()
    config = ["--config", str(tmp_path / FILE)]
    for words, code, sentence in (
        (["start", "discs"], 2, "is no version"),
        (["start", "discs/9"], 3, "no version 9"),
        (["start", "discs/1", "--plan", str(tmp_path / "none.json")], 3, "no such file"),
        (["start", "discs/1", "--canary", "-1"], 2, "not one choice of devices"),
        (["status", "rol_none"], 3, "no rollout 'rol_none'"),
        (["rollback", "rol_none"], 3, "no rollout 'rol_none'"),
    ):
        assert _run(["rollout", *words, *config]) == code
        assert sentence in capsys.readouterr().err
    assert _run(["rollout", "status", *config]) == 0
    assert "no rollout yet" in capsys.readouterr().out


def test_without_a_running_hub_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE).write_text(f'data_dir = "{tmp_path}"\nplant = "plant.toml"\n')
    assert _run(["rollout", "status", "--config", str(tmp_path / FILE)]) == 6
    assert "no hub runs on this data folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "counts", "words"),
    [
        ("", (0, 0, 0), "no frame yet; nothing ran before, so nothing is compared"),
        ("", (9, 0, 1), "9 frames seen; nothing ran before, so nothing is compared, 1 crashes"),
        ("sha256:a", (0, 0, 0), "no frame yet"),
        ("sha256:a", (9, 2, 0), "2 of 9 frames decided otherwise"),
    ],
)
def test_evidence_says_whether_anything_was_compared(
    old: str, counts: tuple[int, int, int], words: str
) -> None:
    found = dict(zip(("frames", "changed", "crashes"), counts, strict=True))
    assert _figures({"report": {"old": old, "evidence": found}}) == words
    assert _figures({"report": None}) == ""


def test_the_help_names_defaults_and_who_is_recorded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(["rollout", "start", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("docs/reference/rollouts.md", "without one 200", "the token's name"):
        assert words in text
    assert _run(["rollout", "rollback", "--help"]) == 0
    assert "the token's name" in " ".join(capsys.readouterr().out.split())
