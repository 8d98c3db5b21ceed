"""The hub's own broker: which program it is, and what becomes of packets above the limit."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core import InvalidError, LinesideError, SystemClock, UnavailableError
from lineside.hub import HubConfig, running
from lineside.hub.broker import broker_program
from lineside.links import open_bus, set_bus_password
from lineside.testing.links import wait_until
from tests.links.conftest import MOSQUITTO

CLOCK = SystemClock()
FOUND = "/usr/sbin/mosquitto"
ARGON2 = "line:$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA\n"


class TestWhichProgram:
    @pytest.mark.parametrize(
        ("wanted", "found", "taken"),
        [
            ("auto", FOUND, FOUND),
            ("auto", None, None),
            ("mosquitto", FOUND, FOUND),
            ("amqtt", FOUND, None),
        ],
    )
    def test_is_said_by_settings_and_machine(
        self, config: HubConfig, wanted: str, found: str | None, taken: str | None
    ) -> None:
        settings = replace(config, bus_broker=wanted)  # type: ignore[arg-type]  # one of the table
        assert broker_program(settings, found=found) == taken

    def test_a_mosquitto_that_is_demanded_and_not_there_is_said(self, config: HubConfig) -> None:
        with pytest.raises(UnavailableError, match="no mosquitto"):
            broker_program(replace(config, bus_broker="mosquitto"), found=None)

    def test_passwords_that_mosquitto_cannot_check_choose_amqtt(
        self, config: HubConfig, tmp_path: Path
    ) -> None:
        file = tmp_path / "bus.passwords"
        file.write_text(ARGON2)
        settings = replace(config, bus_password_file=str(file))
        assert broker_program(settings, found=FOUND) is None
        with pytest.raises(InvalidError, match="argon2"):
            broker_program(replace(settings, bus_broker="mosquitto"), found=FOUND)
        set_bus_password(file, name="line", password=os.urandom(8).hex())
        assert broker_program(settings, found=FOUND) == FOUND


def test_the_hub_joins_a_new_mosquitto_once(
    config: HubConfig, absent: Callable[[str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    with running(replace(config, bus_broker="mosquitto"), clock=CLOCK) as hub:
        open_bus(hub.bus_url, client_id="camera", clock=CLOCK).close()
    assert not [one for one in caplog.messages if one.startswith("bus ")]


@pytest.mark.parametrize("program", ["mosquitto", "amqtt"])
def test_a_packet_above_the_limit_is_one_dead_letter_and_a_count(
    config: HubConfig, program: str, absent: Callable[[str, str], None]
) -> None:
    if program == "mosquitto" and MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    settings = replace(config, bus_broker=program)  # type: ignore[arg-type]  # one of the table
    with running(settings, clock=CLOCK) as hub:
        camera = open_bus(hub.bus_url, client_id="rack-camera", clock=CLOCK)
        with contextlib.suppress(LinesideError):
            camera.publish("i/cam", bytes(13_000_000), timeout_s=1)
        letters = hub.services.dead_letters
        wait_until(lambda: bool(letters.counts()))
        camera.close()
        (letter,) = letters.page()
        assert letter.reason == "too large"
        assert "rack-camera" in letter.detail
        assert "12000000" in letter.detail
        assert hub.services.stats.plain()["gauges"]["broker_packets_oversized"] >= 1
