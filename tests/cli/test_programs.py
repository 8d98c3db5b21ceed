"""Programs that a person starts: how they end, and that nothing of them is left."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from lineside.cli.app import _run
from lineside.cli.demo.stage import Programs
from lineside.cli.output import stop_on_signal
from lineside.core import ConflictError, InvalidError, UnavailableError
from lineside.core.processes import end_with_parent, unit_file
from lineside.hub import HubConfig
from lineside.testing.links import LONG_S, wait_until

STUBBORN = """
import os, signal, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
threading.Event().wait(60)
"""

PARENT = """
import subprocess, sys
from lineside.core.processes import end_with_parent
subprocess.Popen(end_with_parent(sys.argv[1:])).wait()
"""

DEMO = """
import subprocess, sys
from pathlib import Path
from lineside.cli.demo.command import _ends_are_interrupts
from lineside.cli.demo.stage import Program, Programs
with _ends_are_interrupts(), Programs(Path(".")) as programs:
    process = subprocess.Popen(sys.argv[1:])
    programs._running.append(Program(name="stubborn", process=process, log=Path("log")))
    process.wait()
"""


def content(path: Path) -> str:
    wait_until(lambda: path.exists() and path.read_text())
    return path.read_text()


def ends(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(timeout=LONG_S)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def interrupted(error: Exception | None = None) -> None:
    with stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(LONG_S)
        if error is not None:
            raise error


def test_a_signal_ends_the_wait_and_ctrl_c_leaves_with_its_own_code() -> None:
    with stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(LONG_S)
    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_signal_that_another_thread_received_ends_the_wait() -> None:
    def receive() -> None:
        threading.Event().wait(0.3)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    receiver = threading.Thread(target=receive)
    with stop_on_signal() as stop:
        receiver.start()
        assert stop.wait()
    receiver.join()


def test_a_signal_that_meets_a_look_at_the_stop_event_ends_the_program() -> None:
    with stop_on_signal() as stop:
        with stop._cond:  # type: ignore[attr-defined]  # as within ``wait``
            signal.raise_signal(signal.SIGTERM)
        assert stop.wait(LONG_S)


def test_a_cancelled_program_says_why_and_leaves_with_the_code_of_ctrl_c(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(ConflictError("cancelled", fix="Start it again."))
    assert "cancelled" in capsys.readouterr().err
    with pytest.raises(ConflictError), stop_on_signal():
        raise ConflictError("cancelled")


def test_the_collector_of_a_hub_rests_until_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub.toml").write_text('data_dir = "data"\nplant = "plant.toml"\n')
    seen: list[tuple[bool, bool]] = []
    before = gc.get_freeze_count()

    def run(_: HubConfig, *, announce: Callable[[str], None], **_more: object) -> None:
        seen.append((gc.isenabled(), gc.get_freeze_count() > before))
        announce("bus mqtt://127.0.0.1:1883")
        seen.append((gc.isenabled(), gc.get_freeze_count() > before))

    monkeypatch.setattr("lineside.hub.run.run", run)
    try:
        assert _run(["hub", "--config", str(tmp_path / "hub.toml")]) == 0
    finally:
        gc.unfreeze()
    assert seen == [(False, False), (True, True)]
    assert gc.isenabled()


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    patient = STUBBORN.replace("SIG_IGN", "SIG_DFL")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, sys.executable, "-c", patient, str(told)]
    )
    pid = int(content(told))
    parent.kill()
    parent.wait()
    assert ends(pid)


def test_a_child_gives_its_own_exit_code() -> None:
    command = end_with_parent([sys.executable, "-c", "import sys; sys.exit(7)"])
    assert subprocess.run(command, check=False).returncode == 7


def test_a_second_ctrl_c_kills_what_does_not_end(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    demo = subprocess.Popen(
        [sys.executable, "-c", DEMO, sys.executable, "-c", STUBBORN, str(told)],
        stderr=subprocess.DEVNULL,
    )
    pid, pause = int(content(told)), threading.Event()
    while demo.poll() is None:
        demo.send_signal(signal.SIGINT)
        pause.wait(0.3)
    assert ends(pid)


@pytest.mark.slow
def test_a_program_without_progress_is_given_up_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Programs(tmp_path) as programs:
        programs.wait(programs.start("help", "--help"))
        monkeypatch.setattr("lineside.cli.demo.stage._QUIET_S", 3.0)
        quiet = programs.start("line", "simulate", "bins", "--bus=mqtt://127.0.0.1:1")
        with pytest.raises(UnavailableError, match="no progress"):
            programs.wait(quiet)
    assert ends(quiet.process.pid)


def test_a_unit_names_absolute_paths_and_refuses_what_cannot_stand_in_one(tmp_path: Path) -> None:
    text = unit_file(
        "edge agent", command=["/opt/bin/lineside", "edge"], working=tmp_path,
        writable=[tmp_path / "data", Path("/var/lib/edge")], user="edge", own={"WatchdogSec": "60"},
    )  # fmt: skip
    lines = text.splitlines()
    assert "ExecStart=/opt/bin/lineside edge" in lines
    assert {f"WorkingDirectory={tmp_path}", f"ReadWritePaths={tmp_path}/data"} <= set(lines)
    assert {"StateDirectory=edge", "WatchdogSec=60", "User=edge"} <= set(lines)
    for bad in ("a b.toml", "a\n[x].toml", "a%i.toml", ""):
        with pytest.raises(InvalidError):
            unit_file("x", command=["/x", bad], working=tmp_path, writable=[tmp_path], user="x")
    with pytest.raises(InvalidError, match="absolute"):
        unit_file("x", command=["lineside"], working=tmp_path, writable=[tmp_path], user="x")


PLANT = """
schema = "lineside.plant/1"
site = "hall"
name = "Hall"
[[line]]
id = "belt"
name = "Belt"
[[camera]]
id = "top"
line = "belt"
source = "folder:pictures"
[[inspection]]
id = "parts"
camera = "top"
task = "classify"
labels = ["good", "bad"]
"""
EDGE = 'device = "edge-1"\nbus = "mqtt://127.0.0.1:1"\nplant = "plant.toml"\ndata_dir = "data"\n'
HUB = 'plant = "plant.toml"\ndata_dir = "data"\nport = 0\nbus = "embedded"\nbus_port = 0\n'


@pytest.mark.slow
@pytest.mark.parametrize(("noun", "settings"), [("edge", EDGE), ("hub", HUB)])
def test_a_printed_unit_starts_from_anywhere(tmp_path: Path, noun: str, settings: str) -> None:
    (tmp_path / "plant.toml").write_text(PLANT)
    (tmp_path / f"{noun}.toml").write_text(settings)
    (tmp_path / "pictures").mkdir()
    printed = subprocess.run(
        [sys.executable, "-m", "lineside", noun, "unit", "--config", f"{noun}.toml"],
        cwd=tmp_path, capture_output=True, check=True, text=True, timeout=LONG_S,
    )  # fmt: skip
    unit = dict(line.split("=", 1) for line in printed.stdout.splitlines() if "=" in line)
    assert f"install -d -m 700 -o lineside {tmp_path}/data" in printed.stderr
    written = [tmp_path / "data", *([tmp_path] if noun == "hub" else [])]  # pages write the plant
    assert unit["ReadWritePaths"].split() == [str(folder) for folder in written]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LONG_S)
        program = subprocess.Popen(
            unit["ExecStart"].split(), cwd=unit["WorkingDirectory"],
            env={"NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert b"READY=1" in systemd.recv(4096)
        program.send_signal(signal.SIGINT)
        assert program.wait(LONG_S) == 130


@pytest.mark.slow
def test_a_hub_with_few_descriptors_outlives_idle_connections_without_a_flood_of_log(
    tmp_path: Path,
) -> None:
    (tmp_path / "plant.toml").write_text(PLANT)
    (tmp_path / "hub.toml").write_text(HUB)
    log = tmp_path / "hub.log"
    with log.open("wb") as output:
        hub = subprocess.Popen(
            ["sh", "-c", f"ulimit -n 256; exec {sys.executable} -m lineside hub --config hub.toml"],  # noqa: S607
            cwd=tmp_path, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        url = json.loads(content(tmp_path / "data" / "hub.json"))["url"]
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with ExitStack() as stack:
            for _ in range(400):
                stack.enter_context(socket.create_connection(address))

            def answers() -> bool:
                with suppress(OSError):
                    return bool(urlopen(f"{url}/healthz", timeout=5).status == 200)  # noqa: S310  ours
                return False

            wait_until(answers)
    finally:
        hub.terminate()
        assert hub.wait(LONG_S) == 0
    assert log.stat().st_size < 100_000
