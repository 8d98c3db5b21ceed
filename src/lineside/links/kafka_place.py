"""Where a Kafka is and how it is spoken to: settings that are passed on, secrets from files.

1. Options are librdkafka's own names, handed on as they are
   (https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md), but for those that the
   promises of this adapter rest on, which are refused.
2. A secret is never a value: its option is named with the file that holds it, and the file is read
   each time a client is made, so that a renewed one counts from then on.
3. A client's failures are told apart: away (try again), refused (credentials, authorisation,
   unknown authority), hopeless (an option that cannot be).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lineside.core import (
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    need,
)

OURS = (
    "acks", "bootstrap.servers", "client.id", "enable.auto.commit", "enable.auto.offset.store",
    "enable.gapless.guarantee", "enable.idempotence", "group.id", "metadata.broker.list",
    "plugin.library.paths", "request.required.acks",
)  # fmt: skip
_SECRET = re.compile(r"(password|secret|\.pem$|jaas|^sasl\.username$|assertion)")
_SECRET_BUT_NAMES = ("ssl.ca.pem", "ssl.certificate.pem")
_MOST_SECRET_BYTES = 65_536
_REFUSED = (
    "_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "TOPIC_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "_SSL",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
)  # fmt: skip
_NEVER = (
    "MSG_SIZE_TOO_LARGE", "INVALID_MSG", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD",
    "TOPIC_EXCEPTION", "_INVALID_ARG",
)  # fmt: skip


class KafkaFault(Protocol):
    """What is used of ``confluent_kafka.KafkaError``."""

    def name(self) -> str: ...
    def str(self) -> str: ...
    def fatal(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaPlace:
    """A cluster and how it is spoken to.

    Attributes:
        brokers: ``host:port`` of some of its brokers, with commas between.
        options: further settings of the client library.
        secret_files: of options whose value is a secret: the file it stands in.
    """

    brokers: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.options, *self.secret_files):
            if name in OURS or name.endswith("_cb"):
                raise InvalidError(
                    f"{name!r} is set by lineside itself", where=f"kafka.options.{name}",
                    fix="Leave it out.",
                )  # fmt: skip
        for name in self.options:
            if _SECRET.search(name) and name not in _SECRET_BUT_NAMES:
                raise InvalidError(
                    f"{name!r} is a secret, and secrets stand in files",
                    where=f"kafka.options.{name}",
                    fix=f'Write "{name}" = "/path/of/its/file" under secret_files.',
                )

    def settings(self) -> dict[str, Any]:
        """Everything the client library is told, secrets read.

        Raises:
            NotFoundError: a secret's file cannot be read.
        """
        told: dict[str, Any] = {"bootstrap.servers": self.brokers, **self.options}
        told |= {name: _secret(Path(path)) for name, path in self.secret_files.items()}
        return told


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            text = opened.read(_MOST_SECRET_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            "the secret cannot be read", where=str(path), fix="Name a text file that is there."
        ) from error
    return text.removesuffix("\n")


def make_client(kind: str, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401  of the library
    """A ``Producer``, ``Consumer`` … of the client library.

    Raises:
        MissingExtraError: it is not installed.
        InvalidError: an option that it does not know, or a value it cannot have.
    """
    library = need("confluent_kafka", extra="kafka")
    try:
        # What the library would write to stderr at each try is said once, by the adapters.
        return getattr(library, kind)({"log_level": 0, **settings})
    except library.KafkaException as error:
        raise InvalidError(
            f"the Kafka client refuses its settings: {error.args[0].str()}",
            where="kafka.options", fix="Mend or leave out the option it names.",
        ) from error  # fmt: skip
    except (TypeError, ValueError) as error:
        raise InvalidError(
            f"the Kafka client refuses its settings: {error}",
            where="kafka.options", fix="Write options as text.",
        ) from error  # fmt: skip


def can_never_be_taken(fault: KafkaFault) -> bool:
    """Whether this record will be refused as often as it is sent."""
    return fault.name() in _NEVER


def failure_of(fault: KafkaFault, *, where: str) -> LinesideError:
    """A fault of the library as one of the six."""
    name = fault.name()
    if name in _REFUSED:
        return RefusedError(
            f"Kafka refuses: {fault.str()}", where=where,
            fix="Check user, password, authority and the access list of the cluster.",
        )  # fmt: skip
    if name in _NEVER:
        return InvalidError(
            f"Kafka can not take this: {fault.str()}", where=where,
            fix="Make it smaller, or raise message.max.bytes on the topic.",
        )  # fmt: skip
    return UnavailableError(
        f"Kafka is away: {fault.str()}", where=where, fix="Nothing: it is tried again."
    )


def probe_kafka(place: KafkaPlace, *, timeout_s: float = 5.0) -> int:
    """How many brokers answer.

    Raises:
        UnavailableError, RefusedError, InvalidError, MissingExtraError: see the module.
    """
    library = need("confluent_kafka", extra="kafka")
    told: list[KafkaFault] = []
    client = make_client("Producer", {**place.settings(), "error_cb": told.append})
    try:
        brokers = client.list_topics(timeout=timeout_s).brokers
    except library.KafkaException as error:
        client.poll(0)
        refused = [fault for fault in told if fault.name() in _REFUSED]
        raise failure_of((refused or [error.args[0]])[0], where=place.brokers) from error
    return len(brokers)
