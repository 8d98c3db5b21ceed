"""librdkafka's mock cluster, by its public C interface (``rdkafka_mock.h``).

Its brokers listen on loopback in this process. What the Python wrapper cannot do is done here: a
group forms without the usual three seconds, and a broker can be away for a while.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

_PRODUCER = 0
_PRODUCE = 0
_GROUP_MS = 300


class MockKafka:
    """One cluster of one broker; forgets everything at its end."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        said = ctypes.create_string_buffer(512)
        conf = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(ctypes.c_void_p(conf), b"log_level", b"0", said, 512)
        self._client = library.rd_kafka_new(_PRODUCER, ctypes.c_void_p(conf), said, 512)
        assert self._client, said.value
        self._cluster = library.rd_kafka_mock_cluster_new(ctypes.c_void_p(self._client), 1)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(
            ctypes.c_void_p(self._cluster), _GROUP_MS
        )
        self.brokers = library.rd_kafka_mock_cluster_bootstraps(
            ctypes.c_void_p(self._cluster)
        ).decode()

    def go_away(self) -> None:
        """The broker leaves its clients and takes no more."""
        self._library.rd_kafka_mock_broker_set_down(ctypes.c_void_p(self._cluster), 1)

    def come_back(self) -> None:
        """It is there again, with what it had."""
        self._library.rd_kafka_mock_broker_set_up(ctypes.c_void_p(self._cluster), 1)

    def answer_produce(self, *errors: int) -> None:
        """The next records sent are answered by these error codes (Kafka protocol, 0: taken)."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            ctypes.c_void_p(self._cluster), ctypes.c_int16(_PRODUCE), ctypes.c_size_t(len(errors)),
            codes,
        )  # fmt: skip

    def produce_with_header(self, topic: str, *, name: bytes) -> None:
        """A record whose header has a name that the Python client would not send."""
        library, said = self._library, ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(library.rd_kafka_conf_new())
        library.rd_kafka_conf_set(conf, b"bootstrap.servers", self.brokers.encode(), said, 512)
        client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, said, 512))
        failed = library.rd_kafka_producev(
            client, 1, ctypes.c_char_p(topic.encode()),  # RD_KAFKA_V_TOPIC
            4, ctypes.c_char_p(b"{}"), ctypes.c_size_t(2),  # RD_KAFKA_V_VALUE
            9, ctypes.c_char_p(name), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1),  # …_V_HEADER
            7, ctypes.c_int(2), 0,  # RD_KAFKA_V_MSGFLAGS, a copy; RD_KAFKA_V_END
        )  # fmt: skip
        assert not failed
        library.rd_kafka_flush(client, 60_000)
        library.rd_kafka_destroy(client)

    def close(self) -> None:
        """End it."""
        self._library.rd_kafka_mock_cluster_destroy(ctypes.c_void_p(self._cluster))
        self._library.rd_kafka_destroy(ctypes.c_void_p(self._client))


@contextmanager
def mock_cluster() -> Iterator[MockKafka]:
    """A cluster for the length of a ``with``."""
    folder = Path(confluent_kafka.__file__).parent
    beside = sorted(folder.parent.glob("confluent_kafka.libs/librdkafka*"))
    library = ctypes.CDLL(str(beside[0]) if beside else "librdkafka.so.1")
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    cluster = MockKafka(library)
    yield cluster
    cluster.close()
