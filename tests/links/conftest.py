"""Real brokers for the links tests."""

import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@dataclass
class Mosquitto:
    """A mosquitto of one test, with settings of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    settings: tuple[str, ...] = ("allow_anonymous true",)
    whole: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert MOSQUITTO is not None
        lines = (
            f"listener {self.port} 127.0.0.1",
            "user root",
            "persistence false",
            "set_tcp_nodelay true",
            "max_queued_messages 100000",
            *self.settings,
        )
        config = self.folder / "mosquitto.conf"
        config.write_text(self.whole or "\n".join(lines) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            command = [MOSQUITTO, "-c", str(config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_port(self.port, self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    pause = threading.Event()
    for _ in range(200):
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)
    pytest.fail("mosquitto did not start")
