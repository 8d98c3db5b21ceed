"""The mosquitto that a hub starts: who comes in when, what survives whose death, what it says."""

import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import InvalidError, RefusedError, SystemClock, UnavailableError
from lineside.links import BrokerLimits, Bus, BusSession, open_bus, open_session, set_bus_password
from lineside.links.broker_contract import OversizedPacket
from lineside.links.bus_access import check_bus_password, mosquitto_reads
from lineside.links.mosquitto import MosquittoBroker, MosquittoListener, mosquitto_config
from lineside.testing.links import LONG_S, numbers, store_from, wait_until
from tests.links.conftest import MOSQUITTO, free_port, wait_for_port

CLOCK = SystemClock()
TOPICS = ("line/#",)


def join(url: str, client_id: str) -> Bus:
    return open_bus(url, client_id=client_id, clock=CLOCK)


def read(url: str) -> BusSession:
    """The hub's session."""
    return open_session(url, client_id="hub", patterns=TOPICS, clock=CLOCK)


@pytest.fixture
def folder(tmp_path: Path, absent: Callable[[str, str], None]) -> Path:
    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    return tmp_path / "bus"


def made(folder: Path, **settings: object) -> MosquittoBroker:
    assert MOSQUITTO is not None
    return MosquittoBroker(MOSQUITTO, folder=folder, **settings)  # type: ignore[arg-type]


def pid_of(broker: MosquittoBroker) -> int:
    assert broker._process.pid
    return broker._process.pid


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_burst_of_quality_two_that_is_acknowledged_is_delivered(folder: Path) -> None:
    """After a cut paho sends at once all that waits in it."""
    done: list[int] = []
    with made(folder, topics=TOPICS) as broker:
        hub = read(broker.own_url)
        broker.admit_clients()
        camera = paho.Client(CallbackAPIVersion.VERSION2, client_id="camera", clean_session=False)
        camera.on_publish = lambda *given: done.append(given[2])
        camera.max_inflight_messages_set(0)
        for number in range(800):
            camera.publish("line/a", str(number), qos=2)
        camera.connect("127.0.0.1", broker.port)
        camera.loop_start()
        assert sorted(numbers(store_from(hub, 800))) == list(range(800))
        wait_until(lambda: len(done) == 800)
        camera.disconnect()
        camera.loop_stop()
        hub.close()


class TestWhoComesIn:
    def test_others_come_in_when_the_hub_has_subscribed(self, folder: Path) -> None:
        with made(folder, topics=TOPICS) as broker:
            hub = read(broker.own_url)
            assert not is_open(broker.port)
            broker.admit_clients()
            camera = join(broker.url, "camera")
            camera.publish("line/a", b"1")
            assert numbers(store_from(hub, 1)) == [1]
            camera.close()
            hub.close()

    def test_after_a_restart_the_saved_session_takes_what_comes_before_the_hub(
        self, folder: Path
    ) -> None:
        broker = made(folder, topics=TOPICS)
        with broker:
            hub = read(broker.own_url)
            broker.admit_clients()
            hub.close()
        with broker:
            camera = join(broker.url, "camera")
            camera.publish("line/a", b"1", timeout_s=LONG_S)
            back = read(broker.own_url)
            assert numbers(store_from(back, 1)) == [1]
            camera.close()
            back.close()

    def test_other_topics_hold_the_others_back_again(self, folder: Path) -> None:
        with made(folder, topics=TOPICS) as broker:
            broker.admit_clients()
        with made(folder, topics=("other/#",)) as broker:
            assert not is_open(broker.port)
            broker.admit_clients()
            assert is_open(broker.port)

    def test_a_password_file_lets_in_who_knows_it(self, folder: Path, tmp_path: Path) -> None:
        passwords = tmp_path / "bus.passwords"
        set_bus_password(passwords, name="line", password="geheim")  # noqa: S106  a test's own
        with made(folder, password_file=passwords) as broker:
            known = join(f"mqtt://line:geheim@127.0.0.1:{broker.port}", "known")
            known.close()
            own = join(broker.own_url, "own")
            own.close()
            for who in ("line:falsch@", "other:geheim@", ""):
                with pytest.raises(RefusedError):
                    join(f"mqtt://{who}127.0.0.1:{broker.port}", "unknown")

    def test_outside_addresses_need_a_password_file(self, folder: Path) -> None:
        with pytest.raises(InvalidError, match="password file"):
            made(folder, host="0.0.0.0")  # noqa: S104  refused is what is tested


class TestItsDeath:
    def test_it_is_started_again_and_sessions_go_on(self, folder: Path) -> None:
        with made(folder) as broker:
            hub = read(broker.own_url)
            camera = join(broker.url, "camera")
            os.kill(pid_of(broker), signal.SIGKILL)
            wait_until(lambda: hub.connections() > 1 and camera.connections() > 1)
            camera.publish("line/a", b"1", timeout_s=LONG_S)
            assert numbers(store_from(hub, 1)) == [1]
            camera.close()
            hub.close()

    def test_what_waited_two_seconds_survives_kill_9(self, folder: Path) -> None:
        with made(folder) as broker:
            read(broker.own_url).close()
            camera = join(broker.url, "camera")
            for number in range(20):
                camera.publish(f"line/{number}", str(number).encode())
            saved = folder / "mosquitto.db"
            wait_until(lambda: saved.exists() and b"line/19" in saved.read_bytes())
            os.kill(pid_of(broker), signal.SIGKILL)
            back = read(broker.own_url)
            assert numbers(store_from(back, 20)) == list(range(20))
            camera.close()
            back.close()

    def test_it_ends_with_a_hub_that_is_killed(self, folder: Path) -> None:
        code = (
            "import sys, threading; from pathlib import Path\n"
            "from lineside.links.mosquitto import MosquittoBroker\n"
            "broker = MosquittoBroker(sys.argv[1], folder=Path(sys.argv[2])); broker.start()\n"
            "print(broker.port, flush=True); threading.Event().wait()\n"
        )
        command = [sys.executable, "-c", code, str(MOSQUITTO), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as hub:
            assert hub.stdout is not None
            port = int(hub.stdout.readline())
            # Mosquitto forgets a signal that comes before its loop runs; then it serves a client.
            join(f"mqtt://127.0.0.1:{port}", "camera").close()
            hub.kill()
            hub.wait()
        wait_until(lambda: not is_open(port))
        with made(folder, port=port) as broker:
            assert is_open(broker.port)

    def test_one_that_is_left_over_is_ended_first(self, folder: Path) -> None:
        broker = made(folder)
        with broker:
            pass
        left = subprocess.Popen(
            [str(MOSQUITTO), "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL
        )
        wait_for_port(broker.port, left)
        (folder / "mosquitto.pid").write_text(str(left.pid))
        reaper = threading.Thread(target=left.wait)
        reaper.start()
        with broker:
            reaper.join(LONG_S)
            assert left.returncode is not None
            join(broker.url, "camera").close()

    def test_a_number_that_another_program_has_now_is_left_alone(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "mosquitto.pid").write_text(str(os.getpid()))
        with made(folder) as broker:
            join(broker.url, "camera").close()

    def test_a_port_in_use_says_so(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(UnavailableError, match=r"did not start.*in use"):
                made(folder, port=port).start()


def test_a_packet_above_the_limit_is_told_once_and_counted_each_time(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[OversizedPacket] = []
    limits = BrokerLimits(packet_bytes=1000)
    with (
        caplog.at_level(logging.WARNING, logger="lineside.links.mosquitto"),
        made(folder, limits=limits, oversized=told.append) as broker,
    ):
        camera = join(broker.url, "camera")
        with pytest.raises(UnavailableError):
            camera.publish("line/a", bytes(5000), timeout_s=2)
        wait_until(lambda: broker.figures().oversized >= 2)
        camera.close()
    assert [one.client_id for one in told] == ["camera"]
    assert len([one for one in caplog.records if "above the limit" in one.message]) == 1


def test_an_interrupt_of_the_terminal_does_not_reach_it(folder: Path) -> None:
    with made(folder) as broker:
        assert os.getpgid(pid_of(broker)) != os.getpgrp()


@pytest.mark.slow
def test_its_own_figures_are_read(folder: Path) -> None:
    with made(folder) as broker:
        broker.figures()
        camera = join(broker.url, "camera")
        wait_until(lambda: broker.figures().clients >= 2)
        camera.close()


class TestPasswords:
    def test_a_line_takes_the_place_of_the_earlier_one(self, tmp_path: Path) -> None:
        file = tmp_path / "p"
        file.write_text("# comment\nother:$7$1$x$y\n")
        for password in ("first", "second"):
            set_bus_password(file, name="line", password=password)
        lines = [line for line in file.read_text().splitlines() if line.startswith("line:")]
        assert len(lines) == 1
        hashed = lines[0].partition(":")[2]
        assert check_bus_password("second", hashed)
        assert not check_bus_password("first", hashed)
        assert "# comment" in file.read_text()
        assert mosquitto_reads(file)

    @pytest.mark.parametrize("hashed", ["", "x", "$7$1$x", "$7$x$y$z", "$6$1$eA==$eA=="])
    def test_what_is_no_hash_fits_nothing(self, hashed: str) -> None:
        assert not check_bus_password("", hashed)

    def test_a_file_for_amqtt_alone_is_known(self, tmp_path: Path) -> None:
        file = tmp_path / "p"
        file.write_text("line:$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA\n")
        assert not mosquitto_reads(file)

    @pytest.mark.parametrize("name", ["", "a:b", "a\nb", "#a"])
    def test_a_name_that_would_break_the_file_is_refused(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InvalidError, match="without colon"):
            set_bus_password(tmp_path / "p", name=name, password="x")  # noqa: S106  a test's own


@contextmanager
def owned(name: str) -> Iterator[Path]:
    """A folder of another user, where that user can reach it."""
    with tempfile.TemporaryDirectory() as made_here:
        folder = Path(made_here)
        folder.chmod(0o700)
        shutil.chown(folder, name)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_started_as_root_it_gives_up_its_rights_and_still_reads_its_files(folder: Path) -> None:
    del folder  # says that there is a mosquitto
    name = pwd.getpwnam("nobody").pw_name
    with owned(name) as home:
        passwords, port = home / "passwords", free_port()
        set_bus_password(passwords, name="line", password="geheim")  # noqa: S106  a test's own
        listeners = (MosquittoListener(host="127.0.0.1", port=port, passwords=passwords),)
        text = mosquitto_config(listeners, folder=home, user=name, limits=BrokerLimits())
        (home / "mosquitto.conf").write_text(text)
        for path in home.iterdir():
            path.chmod(0o600)
            shutil.chown(path, name)
        command = [str(MOSQUITTO), "-c", str(home / "mosquitto.conf")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for_port(port, process)
                assert Path(f"/proc/{process.pid}").owner() == name
                join(f"mqtt://line:geheim@127.0.0.1:{port}", "line").close()
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(LONG_S)
        assert (home / "mosquitto.db").exists()
