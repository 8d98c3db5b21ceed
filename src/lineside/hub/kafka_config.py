"""What the hub is told about Kafka: the table ``[kafka]`` of its settings."""

from collections import Counter
from dataclasses import dataclass, field

from lineside.core import InvalidError
from lineside.hub.order_keys import check_key
from lineside.links import KafkaPlace, check_pattern, check_topic
from lineside.streams import EVENT_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaBridged:
    """MQTT messages that go to Kafka as they are, keyed by their topic."""

    mqtt: str
    topic: str

    def __post_init__(self) -> None:
        check_pattern(self.mqtt)
        _check_name(self.topic, where="kafka.bridge.topic")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSent:
    """Events of the log that go to a topic of Kafka.

    Attributes:
        types: which; ``*`` stands for anything.
        key: what keeps the order, as ``order_keys.key_of`` takes it.
    """

    topic: str
    types: tuple[str, ...] = (EVENT_TYPE,)
    key: str = ""

    def __post_init__(self) -> None:
        _check_name(self.topic, where="kafka.send.topic")
        if not self.types or not all(self.types):
            raise InvalidError("a type of event", where="kafka.send.types", fix="Leave it out.")
        check_key(self.key, where="kafka.send.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRead:
    """A topic of Kafka whose records are messages of the plant.

    Attributes:
        route: the MQTT topic they count as; the plant file's routes say what they are.
    """

    topic: str
    route: str

    def __post_init__(self) -> None:
        _check_name(self.topic, where="kafka.take.topic")
        check_topic(self.route)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConfig:
    """All of it; ``brokers`` empty: no Kafka.

    Attributes:
        brokers: ``host:port``, with commas between.
        group: the consumer group; hubs of one group share the work.
        dead: topic of the records that cannot be taken; empty: they stand in the hub alone.
        options: of the client library, such as ``security.protocol``.
        secret_files: of options whose value is a secret: the file it stands in.
    """

    brokers: str = ""
    group: str = "lineside"
    dead: str = ""
    options: dict[str, str] = field(default_factory=dict)
    secret_files: dict[str, str] = field(default_factory=dict)
    bridge: tuple[KafkaBridged, ...] = ()
    send: tuple[KafkaSent, ...] = ()
    take: tuple[KafkaRead, ...] = ()

    def __post_init__(self) -> None:
        _ = self.place  # checks the options
        if not self.brokers and (self.bridge or self.send or self.take):
            raise InvalidError(
                "topics, and no cluster", where="kafka.brokers", fix='Add brokers = "host:9092".'
            )
        for name, topics in (("send", self.send), ("take", self.take)):
            double = [t for t, n in Counter(one.topic for one in topics).items() if n > 1]
            if double:
                raise InvalidError(
                    f"{double[0]!r} is named twice", where=f"kafka.{name}", fix="Name it once."
                )
        if self.dead:
            _check_name(self.dead, where="kafka.dead")
        if not self.group:
            raise InvalidError("a name", where="kafka.group", fix="Leave it out.")

    @property
    def place(self) -> KafkaPlace:
        """As the links speak to it."""
        return KafkaPlace(
            brokers=self.brokers, options=self.options, secret_files=self.secret_files
        )


def _check_name(topic: str, *, where: str) -> None:
    """Kafka's own rule for names of topics."""
    fits = topic.isascii() and all(letter.isalnum() or letter in "._-" for letter in topic)
    if not (topic and fits and len(topic) <= 249 and topic not in {".", ".."}):
        raise InvalidError(
            f"{topic!r} is no topic of Kafka", where=where,
            fix="Write letters, digits, '.', '_' and '-', at most 249.",
        )  # fmt: skip
