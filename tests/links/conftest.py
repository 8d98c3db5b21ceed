"""Real brokers for the links tests."""

import secrets
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lineside.links import mqtt, mqtt_session
from lineside.testing.links import LONG_S, wait_until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


@pytest.fixture(autouse=True)
def patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait for a broker as long as a test does: both run on one loaded machine."""
    for module in (mqtt, mqtt_session):
        monkeypatch.setattr(module, "FIRST_ANSWER_S", LONG_S)
    monkeypatch.setattr(mqtt, "CONNECT_S", LONG_S)
    monkeypatch.setitem(vars(mqtt.MqttBus)["publish"].__kwdefaults__, "timeout_s", LONG_S)


def free_port() -> int:
    """A port below those that the system gives away itself, so that nobody gets it meanwhile."""
    while True:
        number = 10_000 + secrets.randbelow(20_000)  # random's seed is the same in each process
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", number))
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
    def is_up() -> bool:
        assert process.poll() is None, "mosquitto did not start"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_up)
