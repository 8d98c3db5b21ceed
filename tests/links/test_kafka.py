"""The Kafka link on librdkafka's mock cluster, and on a real one where one is named.

The mock is there for wiring: it forgets all when it ends and knows no credentials.
"""

import os
import tomllib
from contextlib import suppress
from pathlib import Path

import confluent_kafka
import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, SystemClock, UnavailableError
from lineside.fleet import CertificateAuthority
from lineside.links.kafka import (
    KafkaPlace,
    KafkaReceiver,
    KafkaRecord,
    KafkaSender,
    failure_of,
    probe_kafka,
)
from lineside.testing.kafka import KafkaContract, received
from lineside.testing.links import wait_until
from tests.links.mock_kafka import mock_cluster
from tests.links.tls_listener import API_VERSIONS, tls_listener

_URL = os.environ.get("LINESIDE_TEST_KAFKA", "")  # noqa: TID251  the tests' own switch
_OPTIONS = os.environ.get("LINESIDE_TEST_KAFKA_OPTIONS", "")  # noqa: TID251  the same
NOBODY = "127.0.0.1:9"


class TestMockCluster(KafkaContract):
    @pytest.fixture
    def place(self, mock_kafka: str) -> KafkaPlace:
        soon = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "300"}
        return KafkaPlace(brokers=mock_kafka, options=soon)


@pytest.mark.service
class TestCluster(KafkaContract):
    @pytest.fixture
    def place(self) -> KafkaPlace:
        if not _URL:
            pytest.skip("LINESIDE_TEST_KAFKA names no cluster")
        told = tomllib.loads(Path(_OPTIONS).read_text()) if _OPTIONS else {}
        options = {"session.timeout.ms": "6000", **told.get("options", {})}
        return KafkaPlace(brokers=_URL, options=options, secret_files=told.get("secret_files", {}))


def test_a_cluster_that_is_away_is_unavailable() -> None:
    place = KafkaPlace(brokers=NOBODY, options={"message.timeout.ms": "200"})
    sender = KafkaSender(place, client_id="test")
    with pytest.raises(UnavailableError, match="away"):
        sender.send([KafkaRecord(topic="a", value=b"1")])
    with pytest.raises(UnavailableError, match="away"):
        probe_kafka(place, timeout_s=0.3)
    sender.close()
    with pytest.raises(UnavailableError, match="closed"):
        sender.send([])


def test_a_receiver_waits_for_a_cluster_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    receiver = KafkaReceiver(KafkaPlace(brokers=NOBODY), topics=["a"], group="g", client_id="test")

    def is_lost() -> bool:
        assert receiver.take(most=1, timeout_s=0.5) == []
        return "kafka lost" in caplog.text

    wait_until(is_lost)
    assert receiver.take(most=1, timeout_s=0.5) == []
    assert [r.message for r in caplog.records if "kafka lost" in r.message] == [
        f"kafka lost group=g brokers={NOBODY}"
    ]
    receiver.close()
    receiver.close()


@pytest.mark.slow
def test_a_cluster_that_comes_back_is_gone_on_with(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with mock_cluster() as cluster:
        quick = {"reconnect.backoff.max.ms": "200"}
        place = KafkaPlace(brokers=cluster.brokers, options=quick)
        sender = KafkaSender(place, client_id="test")
        soon = KafkaPlace(brokers=cluster.brokers, options={**quick, "message.timeout.ms": "1000"})
        impatient = KafkaSender(soon, client_id="impatient")
        receiver = KafkaReceiver(place, topics=["a"], group="g", client_id="test")
        sender.send([KafkaRecord(topic="a", value=b"0")])
        assert [one.value for one in received(receiver, 1)] == [b"0"]
        cluster.go_away()
        with pytest.raises(UnavailableError):
            impatient.send([KafkaRecord(topic="a", value=b"1")])
        impatient.close()
        wait_until(lambda: receiver.take(most=1, timeout_s=0.1) or "kafka lost" in caplog.text)
        cluster.come_back()
        assert sender.send([KafkaRecord(topic="a", value=b"2")]) == []
        assert received(receiver, 1)[-1].value == b"2"
        for said in ("kafka lost", "kafka back"):
            assert caplog.text.count(said) == 1
        receiver.close()
        sender.close()


def test_a_topic_we_may_not_write_to_is_refused_and_tried_again() -> None:
    with mock_cluster() as cluster:
        sender = KafkaSender(KafkaPlace(brokers=cluster.brokers), client_id="test")
        sender.send([KafkaRecord(topic="a", value=b"0")])
        cluster.answer_produce(confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED)
        with pytest.raises(RefusedError, match="access list"):
            sender.send([KafkaRecord(topic="a", value=b"1")])
        assert sender.send([KafkaRecord(topic="a", value=b"1")]) == []
        sender.close()


def test_what_the_brokers_ask_to_send_again_stands_there_once() -> None:
    again = (
        confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION,
        confluent_kafka.KafkaError.NOT_ENOUGH_REPLICAS,
    )
    with mock_cluster() as cluster:
        place = KafkaPlace(brokers=cluster.brokers)
        sender = KafkaSender(place, client_id="test")
        sender.send([KafkaRecord(topic="a", value=b"0", key=b"k")])
        cluster.answer_produce(*again)
        for number in (1, 2):  # one at a time: the mock does not look at sequence numbers
            assert sender.send([KafkaRecord(topic="a", value=b"%d" % number, key=b"k")]) == []
        receiver = KafkaReceiver(place, topics=["a"], group="g", client_id="test")
        assert [int(one.value or b"") for one in received(receiver, 3)] == [0, 1, 2]
        assert receiver.take(most=1, timeout_s=0.3) == []
        receiver.close()
        sender.close()


def test_no_record_is_so_odd_that_others_are_lost_with_it() -> None:
    """Times of another age, headers that are no text or nothing, keys of any bytes."""
    with mock_cluster() as cluster:
        place = KafkaPlace(brokers=cluster.brokers)
        sender = KafkaSender(place, client_id="test")
        sender.send([KafkaRecord(topic="a", value=b"first", key=b"k")])
        odd = confluent_kafka.Producer({"bootstrap.servers": cluster.brokers})
        for at_ms in (1, 2**62):
            odd.produce("a", value=b"{}", key=b"\xff\x00", timestamp=at_ms, headers=[("", None)])
        odd.produce("a", value=None, key=b"k" * 5000, headers=[("n", b"\xff")] * 200)
        assert not odd.flush(60)
        cluster.produce_with_header("a", name=b"\xff\xfe")
        sender.send([KafkaRecord(topic="a", value=b"last", key=b"k")])
        receiver = KafkaReceiver(place, topics=["a"], group="g", client_id="test")
        came = received(receiver, 6)
        assert {one.value for one in came} == {b"first", b"{}", None, b"last"}
        assert len(came) == 6
        years = sorted(one.at.year for one in came if one.key == b"\xff\x00")
        assert years == [1970, 9999]
        receiver.close()
        sender.close()


@pytest.mark.parametrize(
    ("options", "secrets", "words"),
    [
        ({"sasl.password": "open"}, {}, "secrets stand in files"),
        ({"ssl.key.pem": "open"}, {}, "secrets stand in files"),
        ({"acks": "0"}, {}, "set by lineside"),
        ({"enable.idempotence": "false"}, {}, "set by lineside"),
        ({"plugin.library.paths": "x.so"}, {}, "set by lineside"),
        ({"error_cb": "x"}, {}, "set by lineside"),
        ({}, {"group.id": "x"}, "set by lineside"),
    ],
)
def test_options_that_would_break_a_promise_are_refused(
    options: dict[str, str], secrets: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidError, match=words) as raised:
        KafkaPlace(brokers=NOBODY, options=options, secret_files=secrets)
    assert "open" not in str(raised.value)


@pytest.mark.parametrize("options", [{"no.such.option": "1"}, {"security.protocol": "maybe"}])
def test_options_the_library_does_not_know_are_refused(options: dict[str, str]) -> None:
    sender = KafkaSender(KafkaPlace(brokers=NOBODY, options=options), client_id="test")
    with pytest.raises(InvalidError, match="refuses its settings"):
        sender.send([KafkaRecord(topic="a", value=b"1")])
    sender.close()


# ---- who we say we are, as far as it can be tried without a cluster that knows credentials


def probe_refused(place: KafkaPlace) -> None:
    """Ask until somebody has refused: within a second nobody may have answered yet."""

    def is_answered() -> bool:
        with suppress(UnavailableError):
            probe_kafka(place, timeout_s=1)
        return False

    wait_until(is_answered)


@pytest.fixture
def user(tmp_path: Path) -> dict[str, str]:
    for name, said in (("sasl.username", "anna"), ("sasl.password", "geheim")):
        (tmp_path / name).write_text(said + "\n")
    return {name: str(tmp_path / name) for name in ("sasl.username", "sasl.password")}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_broker_that_knows_no_credentials_is_asked_for_them_and_refuses(
    mock_kafka: str, user: dict[str, str], mechanism: str
) -> None:
    """The mock answers which requests it knows; the client begins to sign in, and ends there."""
    options = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism}
    place = KafkaPlace(brokers=mock_kafka, options=options, secret_files=user)
    with pytest.raises(RefusedError, match=f"required by mechanism {mechanism}") as raised:
        probe_refused(place)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("mechanism", "secrets", "words"),
    [
        ("PLAIN", False, "sasl.username and sasl.password must be set"),
        ("SCRAM-SHA-512", False, "sasl.username and sasl.password must be set"),
        ("NTLM", True, "Unsupported SASL mechanism"),
        ("GSSAPI", True, "No provider for SASL mechanism"),
    ],
)
def test_a_way_to_sign_in_that_cannot_be_is_refused_before_anybody_is_asked(
    user: dict[str, str], mechanism: str, words: str, *, secrets: bool
) -> None:
    options = {"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism}
    place = KafkaPlace(brokers=NOBODY, options=options, secret_files=user if secrets else {})
    with pytest.raises(InvalidError, match=words):
        probe_kafka(place)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "authority", site="hall", clock=SystemClock())


def certificate(authority: CertificateAuthority, folder: Path, name: str) -> tuple[str, str]:
    """Of one who asks and is asked."""
    pair = authority.issue_application(f"urn:test:{name}", hosts=[name])
    files = folder / f"{name}.crt", folder / f"{name}.key"
    for path, content in zip(files, (pair.certificate, pair.key), strict=True):
        path.write_bytes(content)
    return str(files[0]), str(files[1])


def test_the_way_is_encrypted_by_the_authority_that_is_named_and_both_show_who_they_are(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    root = str(tmp_path / "authority" / "authority.crt")
    ours, key = certificate(authority, tmp_path, "localhost")
    options = {
        "security.protocol": "SSL", "ssl.ca.location": root, "ssl.certificate.location": ours,
        "ssl.key.location": key,
    }  # fmt: skip
    with tls_listener(certificate(authority, tmp_path, "127.0.0.1"), trusted=root) as told:
        place = KafkaPlace(brokers=told.address, options=options)

        def is_asked() -> bool:
            with pytest.raises(UnavailableError):
                probe_kafka(place, timeout_s=1)
            return bool(told.requests)

        wait_until(is_asked)
    assert told.requests[0][:2] == (0, API_VERSIONS)
    assert "localhost" in told.peers[0]
    with tls_listener(certificate(authority, tmp_path, "127.0.0.1")) as told:
        plain = {"security.protocol": "SSL"}  # the machine's own authorities
        with pytest.raises(RefusedError, match=r"[Cc]ertificate|CERTIFICATE"):
            probe_refused(KafkaPlace(brokers=told.address, options=plain))
        assert told.requests == []


def test_the_name_in_the_certificate_is_looked_at(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    root = str(tmp_path / "authority" / "authority.crt")
    options = {"security.protocol": "SSL", "ssl.ca.location": root}
    with tls_listener(certificate(authority, tmp_path, "another.host")) as told:
        with pytest.raises(RefusedError, match=r"[Cc]ertificate|CERTIFICATE"):
            probe_refused(KafkaPlace(brokers=told.address, options=options))
        assert told.requests == []


def test_secrets_are_read_from_their_files_each_time(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    place = KafkaPlace(brokers=NOBODY, secret_files={"sasl.password": str(secret)})
    with pytest.raises(NotFoundError, match="cannot be read"):
        place.settings()
    for said in ("first", "second"):
        secret.write_text(said + "\n")
        assert place.settings()["sasl.password"] == said
    secret.write_bytes(b"\xff")
    with pytest.raises(NotFoundError):
        place.settings()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (confluent_kafka.KafkaError._AUTHENTICATION, RefusedError),
        (confluent_kafka.KafkaError._SSL, RefusedError),
        (confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError),
        (confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED, RefusedError),
        (confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE, InvalidError),
        (confluent_kafka.KafkaError._TRANSPORT, UnavailableError),
        (confluent_kafka.KafkaError._MSG_TIMED_OUT, UnavailableError),
        (confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION, UnavailableError),
    ],
)
def test_faults_are_told_apart_by_what_can_be_done(code: int, kind: type) -> None:
    assert type(failure_of(confluent_kafka.KafkaError(code), where="here")) is kind
