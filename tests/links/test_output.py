import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lineside.core import InvalidError, LinesideError, RefusedError, SystemClock, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.core.outputs import PLANT_BUS, HandshakeConfig, MessageConfig, OutputConfig
from lineside.fleet import CertificateAuthority
from lineside.links import EmbeddedBroker, open_bus, set_bus_password
from lineside.links.output import OutputDriver, open_output
from lineside.testing.links import take
from tests.links.conftest import Mosquitto, free_port
from tests.links.modbus_plc import ModbusPlc, modbus_plc
from tests.links.output_peers import OpcuaPeer, opcua_peer, patient_outputs


def opened(url: str, *, switch: str = "coil/12", bus: str = "", **changes: object) -> OutputDriver:
    fields = {"id": "gate", "line": "belt", "switch": switch, "fail_safe": 1, **changes}
    config = OutputConfig(url=SecretUrl(url), **fields)  # type: ignore[arg-type]  # as the plant file has it
    return open_output(config, bus=bus, client_id="gate")


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(word in request.node.name for word in ("fails_in_time", "edge.crt")):
        patient_outputs(monkeypatch)


@pytest.fixture(scope="module")
def plc() -> Iterator[ModbusPlc]:
    with modbus_plc() as plc:
        yield plc


class TestModbus:
    def test_writes_coils_and_registers_by_their_address_on_the_wire(self, plc: ModbusPlc) -> None:
        driver = opened(plc.url)
        plc.writes.clear()
        for point, value in (("coil/12", 1), ("register/40", 65535), ("coil/12", 0)):
            driver.write(point, value)
        driver.close()
        assert [(point, value) for _, point, value in plc.writes] == [
            ("coil/12", 1), ("register/40", 65535), ("coil/12", 0),
        ]  # fmt: skip

    def test_what_the_server_refuses_is_named(self, plc: ModbusPlc) -> None:
        driver = opened(plc.url)
        with pytest.raises(RefusedError, match=r"refuses coil/9999 = 1 \(exception 2\)"):
            driver.write("coil/9999", 1)
        driver.write("coil/1", 1)  # the connection stands
        driver.close()

    def test_a_lost_connection_stays_lost_until_it_is_opened_anew(self) -> None:
        with modbus_plc() as plc:
            driver = opened(plc.url)
            driver.write("coil/1", 1)
            plc.switch_off()
            with pytest.raises(UnavailableError):
                driver.write("coil/1", 1)
            plc.switch_on()
            with pytest.raises(UnavailableError):
                driver.write("coil/1", 1)
            driver.close()
            assert not plc.writes

    def test_nobody_there_is_said_with_the_address(self) -> None:
        pytest.importorskip("pymodbus", reason="pymodbus of the extra modbus is not installed")
        plc = ModbusPlc()
        with pytest.raises(UnavailableError, match=f"no Modbus server answers at .*:{plc.port}"):
            opened(plc.url)

    def test_a_server_that_takes_the_connection_and_says_nothing_fails_in_time(self) -> None:
        pytest.importorskip("pymodbus", reason="pymodbus of the extra modbus is not installed")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            driver = opened(f"modbus://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(UnavailableError, match="no answer within"):
                driver.write("coil/1", 1)
            driver.close()


class TestGpio:
    def test_where_there_is_no_chip_the_error_says_so(self) -> None:
        pytest.importorskip("gpiod", reason="gpiod of the extra gpio is not installed")
        with pytest.raises(UnavailableError, match="/dev/null is no GPIO chip"):
            opened("gpio:///dev/null", switch="17")
        with pytest.raises(UnavailableError, match="/dev/gpiochip99 is no GPIO chip"):
            opened("gpio:///dev/gpiochip99", switch="17")


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


def hang_up(broker: socket.socket) -> None:
    """Answer CONNECT, and leave when the first message is there."""
    with broker.accept()[0] as connection:
        connection.recv(1000)
        connection.sendall(b"\x20\x02\x00\x00")  # CONNACK (MQTT 3.1.1, 3.2)
        connection.recv(1000)


WORDS = MessageConfig(on="OPEN", off="SHUT")


class TestMqtt:
    @pytest.mark.parametrize("retain", [True, False])
    def test_publishes_the_payload_of_a_value_and_keeps_it_where_that_is_wanted(
        self, broker: EmbeddedBroker, *, retain: bool
    ) -> None:
        message = MessageConfig(on="OPEN", off="SHUT", qos=0, retain=retain)
        topic, bus = f"west/{retain}", open_bus(broker.url, client_id="line", clock=SystemClock())
        heard = bus.subscribe((f"{topic}/#",))
        driver = opened(
            PLANT_BUS, bus=broker.url, switch=topic, message=message, heartbeat=f"{topic}/alive"
        )
        driver.write(topic, 1)
        driver.write(f"{topic}/alive", 1)
        driver.write(topic, 0)
        assert [(one.topic, one.payload) for one in take(heard, 3)] == [
            (topic, b"OPEN"), (f"{topic}/alive", b"1"), (topic, b"SHUT"),
        ]  # fmt: skip
        later = bus.subscribe((f"{topic}/#",))
        driver.write(topic, 1)
        assert take(later, 1)[0].payload == (b"SHUT" if retain else b"OPEN")
        driver.close()
        bus.close()

    @pytest.mark.parametrize("version", ["3.1.1", "5"])
    def test_the_broker_says_the_fail_safe_value_when_the_connection_ends(
        self, mosquitto: Mosquitto, version: str
    ) -> None:
        driver = opened(f"{mosquitto.url}?version={version}", switch="west/gate", message=WORDS)
        driver.write("west/gate", 0)
        bus = open_bus(mosquitto.url, client_id="line", clock=SystemClock())
        heard = bus.subscribe(("west/gate",))
        assert take(heard, 1)[0].payload == b"SHUT"
        driver.close()
        assert take(heard, 1)[0].payload == b"OPEN"
        bus.close()

    def test_a_lost_connection_is_not_waited_for_and_stays_lost(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as broker, ThreadPoolExecutor(1) as beside:
            beside.submit(hang_up, broker)
            port = broker.getsockname()[1]
            with closing(opened(f"mqtt://127.0.0.1:{port}", switch="west/gate")) as driver:
                for _ in ("while it waits", "with a broker that is there again"):
                    with pytest.raises(UnavailableError, match="the connection is closed"):
                        driver.write("west/gate", 1)

    def test_nobody_there_and_a_wrong_password_are_told_apart(self, tmp_path: Path) -> None:
        port = free_port()
        with pytest.raises(UnavailableError, match=f"the bus is away.*{port}"):
            opened(f"mqtt://127.0.0.1:{port}", switch="west/gate")
        set_bus_password(tmp_path / "passwords", name="line", password="geheim")  # noqa: S106  a test's own
        with EmbeddedBroker(password_file=tmp_path / "passwords") as broker:
            there = broker.url.removeprefix("mqtt://")
            opened(f"mqtt://line:geheim@{there}", switch="west/gate").close()
            with pytest.raises(RefusedError, match="the broker refused") as found:
                opened(f"mqtt://line:falsch@{there}", switch="west/gate")
            assert "falsch" not in str(found.value)

    def test_a_broker_that_takes_the_connection_and_says_nothing_fails_in_time(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            pytest.raises(UnavailableError, match="no answer within"),
        ):
            opened(f"mqtt://127.0.0.1:{silent.getsockname()[1]}", switch="west/gate")


@pytest.fixture(scope="module")
def ua_plc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpcuaPeer]:
    folder = tmp_path_factory.mktemp("opcua")
    authority = CertificateAuthority.create(folder / "authority", site="hall", clock=SystemClock())
    for name in ("plc", "edge"):
        pair = authority.issue_application(f"urn:hall:{name}", hosts=["127.0.0.1"])
        (folder / f"{name}.crt").write_bytes(pair.certificate)
        (folder / f"{name}.key").write_bytes(pair.key)
    with opcua_peer(folder) as server:
        yield server


def secured(plc: OpcuaPeer, user: str, *, server: str = "plc.crt") -> str:
    """Address of its encrypted endpoint, with the files of a client."""
    host, folder = plc.url.removeprefix("opc.tcp://"), plc.folder
    files = f"certificate={folder}/edge.crt&key={folder}/edge.key&server={folder}/{server}"
    return f"opc.tcp://{user}{host}?{files}"


class TestOpcua:
    @pytest.mark.parametrize(
        ("name", "value", "stands"),
        [("Gate", 1, True), ("State", 65535, 65535), ("Small", 7, 7), ("Share", 1, 1.0)],
    )
    def test_writes_booleans_and_numbers_in_the_type_of_their_node(
        self, ua_plc: OpcuaPeer, name: str, value: int, stands: float
    ) -> None:
        node = f"ns=2;s={name}"
        driver = opened(ua_plc.url, switch=node)
        driver.write(node, value)
        assert ua_plc.value(name) == stands
        assert type(ua_plc.value(name)) is type(stands)
        driver.write(node, 0)
        assert not ua_plc.value(name)
        driver.close()

    def test_reads_what_a_plc_says(self, ua_plc: OpcuaPeer) -> None:
        shake = HandshakeConfig(
            trigger="ns=2;s=Ready", acknowledge="ns=2;s=Locked", done="ns=2;s=Alive"
        )
        driver = opened(ua_plc.url, switch="ns=2;s=Gate", handshake=shake)
        assert [driver.read(shake.trigger), driver.read(shake.acknowledge)] == [True, False]
        driver.close()

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("Nobody", 1, "refuses ns=2;s=Nobody: .*BadNodeIdUnknown"),
            ("Name", 1, "ns=2;s=Name is of the type String"),
            ("Gate", 2, "ns=2;s=Gate is of the type Boolean and cannot be 2"),
            ("Locked", 1, "refuses ns=2;s=Locked = 1: .*BadUserAccessDenied"),
            ("Small", 256, "refuses ns=2;s=Small = 256"),
        ],
    )
    def test_a_node_that_cannot_take_the_value_is_named(
        self, ua_plc: OpcuaPeer, name: str, value: int, said: str
    ) -> None:
        node = f"ns=2;s={name}"

        def write() -> None:
            driver = opened(ua_plc.url, switch=node, fail_safe=value)
            try:
                driver.write(node, value)
            finally:
                driver.close()

        with pytest.raises(RefusedError, match=said):
            write()

    def test_a_lost_connection_stays_lost_until_it_is_opened_anew(self, ua_plc: OpcuaPeer) -> None:
        driver = opened(ua_plc.url, switch="ns=2;s=Gate")
        ua_plc.switch_off()
        with pytest.raises(UnavailableError):
            driver.write("ns=2;s=Gate", 1)
        with pytest.raises(UnavailableError, match="the OPC UA server is away"):
            opened(ua_plc.url, switch="ns=2;s=Gate")
        ua_plc.switch_on()
        with pytest.raises(UnavailableError):
            driver.write("ns=2;s=Gate", 1)
        driver.close()

    def test_a_server_that_takes_the_connection_and_says_nothing_fails_in_time(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            pytest.raises(UnavailableError, match="no answer within"),
        ):
            opened(f"opc.tcp://127.0.0.1:{silent.getsockname()[1]}", switch="i=1")

    def test_a_user_signs_in_over_an_encrypted_connection(self, ua_plc: OpcuaPeer) -> None:
        driver = opened(secured(ua_plc, "anna:geheim@"), switch="ns=2;s=Gate")
        driver.write("ns=2;s=Gate", 1)
        assert ua_plc.value("Gate") is True
        driver.close()

    @pytest.mark.parametrize(
        ("user", "server", "kind"),
        [
            ("anna:falsch@", "plc.crt", RefusedError),
            ("anna:geheim@", "edge.crt", LinesideError),  # another's than the server has
            ("anna:geheim@", "absent.crt", InvalidError),
            ("anna:geheim@", "plc.key", InvalidError),
        ],
    )
    def test_a_wrong_password_and_certificates_that_are_wrong_are_named(
        self, ua_plc: OpcuaPeer, user: str, server: str, kind: type[LinesideError]
    ) -> None:
        with pytest.raises(kind) as found:
            opened(secured(ua_plc, user, server=server), switch="ns=2;s=Gate")
        assert "falsch" not in str(found.value)
        assert "geheim" not in str(found.value)
