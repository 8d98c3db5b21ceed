"""Settings of the hub: one TOML file, then ``LINESIDE_HUB__<KEY>``, then flags.

Each key is described in ``docs/reference/configuration.md``.
"""

import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lineside.core import InvalidError, Plant
from lineside.core.config import LOOPBACK
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Retention
from lineside.core.topics import check_pattern, check_topic
from lineside.core.webhooks import EVENT_TYPE, ORDER_KEYS, WebhookConfig, is_order_key
from lineside.links.kafka import KafkaPlace
from lineside.links.opcua import opcua_address
from lineside.store import Logged
from lineside.streams import decode_event

_EVERY_ADDRESS = {"", "0.0.0.0", "[::]"}  # noqa: S104  compared, not listened at


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaBridgeConfig:
    """MQTT messages that go to Kafka as they are, keyed by their topic."""

    mqtt: str
    topic: str

    def __post_init__(self) -> None:
        check_pattern(self.mqtt)
        _check_name(self.topic, where="kafka.bridge.topic")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSendConfig:
    """Events of the log that go to a topic of Kafka.

    Attributes:
        types: which; ``*`` stands for anything.
        key: what keeps the order, as ``key_of`` takes it.
    """

    topic: str
    types: tuple[str, ...] = (EVENT_TYPE,)
    key: str = ""

    def __post_init__(self) -> None:
        _check_name(self.topic, where="kafka.send.topic")
        if not self.types or not all(self.types):
            raise InvalidError("a type of event", where="kafka.send.types", fix="Leave it out.")
        if not is_order_key(self.key):
            raise InvalidError(
                f"{self.key!r} is no key", where="kafka.send.key",
                fix=f"Write one of {', '.join(ORDER_KEYS)}, or data.<field>.",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTakeConfig:
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
    bridge: tuple[KafkaBridgeConfig, ...] = ()
    send: tuple[KafkaSendConfig, ...] = ()
    take: tuple[KafkaTakeConfig, ...] = ()

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """One function that clients of the function contract may invoke, and all it may read.

    Attributes:
        name: of the function.
        endpoint: which endpoint answers: an inspection's ``endpoint``, or its id.
        store: where the pictures are: ``file:///folder`` or ``s3://bucket/prefix?…``.
        bucket: what callers name as the store; empty: the last part of ``store``.
        prefix: of the pictures' names inside the store.
        records: of the names of the inventory records (JSON), inside the store; empty: none.
        ids: file of the numbers or names on offer, one a line or the column ``id`` of a CSV table;
            empty: every picture below ``prefix``.
    """

    name: str
    endpoint: str
    store: SecretUrl
    bucket: str = ""
    prefix: str = ""
    records: str = ""
    ids: str = ""

    @property
    def bucket_name(self) -> str:
        """The store's URL as callers name it."""
        return self.bucket or self.store.reveal().partition("?")[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainRule:
    """A new version of a dataset starts a run.

    Attributes:
        dataset: whose versions.
        task: what is learned; empty: the inspection's task.
        inspection: which one; empty: the only one of that task, else the whole picture.
        on_drift: whether drift of that inspection starts a run on the newest version as well.
        register_as: the group of models that the package becomes a version of; empty: none.
    """

    dataset: str
    task: str = ""
    inspection: str = ""
    on_drift: bool = False
    register_as: str = ""

    def __post_init__(self) -> None:
        if self.on_drift and not self.inspection:
            raise InvalidError(
                "drift is of an inspection, and none is named",
                where="retrain.inspection",
                fix='Add inspection = "…".',
            )


Contract = Literal["sagemaker", "iot-jobs", "s3", "open-inference"]
"""A contract of another system whose calls the hub can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """Everything the hub is told.

    Attributes:
        data_dir: folder of everything the hub keeps; made when absent.
        plant: path of the plant file.
        host, port: where pages and API listen; port 0 takes a free one.
        allowed_hosts: further host names under which browsers may reach it.
        bus: ``embedded``, or the URL of a broker.
        bus_broker: which program the embedded broker is; ``auto``: mosquitto where it is installed,
            amqtt otherwise.
        bus_host, bus_port: where the embedded broker listens; port 0 takes a free one.
        bus_password_file: lines of ``lineside hub bus-password``; needed when ``bus_host`` is not
            loopback.
        http_connections: how many connections pages and API take at a time; fewer where the process
            may open too few files.
        http_connections_per_address: of these, how many of one address; the machine itself has no
            limit of its own. Raise it where many people come through one proxy.
        bus_connections: how many clients the embedded broker takes at a time.
        bus_tls: host:port where the embedded broker listens for devices with certificates; empty:
            nowhere. Port 0 takes a free one.
        iot_jobs_tls: host:port where clients of AWS IoT Jobs that ask without subscribing connect
            with a device's certificate; empty: nowhere. Port 0 takes a free one.
        device_bus: URL of the bus as devices are told of it; ``{hub}`` stands for the host under
            which they reached the hub; empty: that of the embedded broker.
        device_here: start a device on this machine with the hub.
        most_devices: how many devices may report.
        device_silent_s: after how long without a message a device counts as silent.
        downloads: how many packages go out to devices at a time; others are asked to come again.
        public_url: how devices reach the hub; empty: ``http://host:port``.
        strays: also listen to unrouted topics, so that a mistyped topic becomes a dead letter
            instead of nothing; the key of hub files.
        records, blobs: URLs; empty: SQLite and a folder in ``data_dir``.
        mongo: URL of a MongoDB that gets the reference's documents; empty: none.
        mongo_picture: how a picture stands in its document there.
        kafka: a Kafka cluster and what goes to it and comes from it.
        webhook: URLs that events are posted to, beside those of the plant file.
        retention: what may age out, and when, unless the plant file says it.
        opcua: where an OPC UA server listens, ``opc.tcp://host:port``; empty: nowhere.
        opcua_anonymous: anybody may read from it, also without encryption.
        homeassistant: first level of Home Assistant's discovery topics; empty: none are said.
        otlp: address of an OpenTelemetry collector (OTLP over HTTP) that gets traces; empty: none.
        sparkplug: group id of Sparkplug B under which the hub is an edge node; empty: it is none.
        endpoint_calls: how many calls of one endpoint, function or model wait or run at a time.
        contracts: of other systems whose calls the hub answers.
        inference_grpc: host:port of the Open Inference Protocol by gRPC; empty: by HTTP only.
        trust: folder of the update repository; empty: ``data_dir/trust``.
        ingest_token_file: token of ``/mqttingest``; empty: ``data_dir/tokens/ingest.token``.
        tls: ``site``: HTTPS with a certificate of the site's own authority, renewed at a start.
        tls_cert, tls_key: files of another certificate, with its chain, and its key.
        time_zone: of the site's clock, for maintenance windows, such as ``Europe/Zurich``.
        single_person: whether who made a version of a model may approve it.
        session_hours: how long a sign-in lasts.
        max_body_bytes: largest request body; uploads of packages and pictures included.
        dead_letters: how many refused messages are kept.
        min_free_bytes: with less room on the disk of ``data_dir`` the hub is not ready.
        function: functions that read a picture from a store and answer it.
        retrain: which datasets start a run when a version of them is frozen.
    """

    data_dir: str
    plant: str
    host: str = "127.0.0.1"
    port: int = 8080
    http_connections: int = 2000
    http_connections_per_address: int = 200
    allowed_hosts: tuple[str, ...] = ()
    bus: SecretUrl = SecretUrl("embedded")
    bus_broker: Literal["auto", "mosquitto", "amqtt"] = "auto"
    bus_host: str = "127.0.0.1"
    bus_port: int = 1883
    bus_password_file: str = ""
    bus_connections: int = 2000
    bus_tls: str = ""
    iot_jobs_tls: str = ""
    device_bus: SecretUrl = SecretUrl("")
    device_here: bool = False
    most_devices: int = 20_000
    device_silent_s: float = 60.0
    downloads: int = 64
    public_url: str = ""
    strays: bool = True
    records: SecretUrl = SecretUrl("")
    blobs: SecretUrl = SecretUrl("")
    mongo: SecretUrl = SecretUrl("")
    mongo_picture: Literal["text", "binary", "digest"] = "text"
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    webhook: tuple[WebhookConfig, ...] = ()
    opcua: str = ""
    opcua_anonymous: bool = False
    homeassistant: str = ""
    sparkplug: str = ""
    otlp: SecretUrl = SecretUrl("")
    retention: Retention = field(default_factory=Retention)
    endpoint_calls: int = 64
    contracts: tuple[Contract, ...] = get_args(Contract)
    inference_grpc: str = ""
    trust: str = ""
    ingest_token_file: str = ""
    tls: Literal["", "site"] = ""
    tls_cert: str = ""
    tls_key: str = ""
    time_zone: str = "UTC"
    single_person: bool = False
    session_hours: float = 12.0
    max_body_bytes: int = 256_000_000
    dead_letters: int = 1000
    min_free_bytes: int = 1_000_000_000
    function: tuple[FunctionConfig, ...] = ()
    retrain: tuple[RetrainRule, ...] = ()

    def __post_init__(self) -> None:
        for where, named in (("function", self.function), ("webhook", self.webhook)):
            names = [one.name for one in named]
            if len(set(names)) != len(names) or not all(names):
                raise InvalidError("a name of its own", where=where, fix="Name each differently.")
        if not 0 <= self.port <= 65535 or not 0 <= self.bus_port <= 65535:
            raise InvalidError("a port from 0 to 65535", where="port", fix="Choose another port.")
        if self.session_hours <= 0:
            raise InvalidError("above 0", where="session_hours", fix="Write session_hours = 12.")
        for name in (
            "bus_connections", "downloads", "endpoint_calls", "http_connections",
            "http_connections_per_address",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise InvalidError("above 0", where=name, fix=f"Write {name} = 64.")
        for name, contract in (("inference_grpc", "open-inference"), ("iot_jobs_tls", "iot-jobs")):
            if getattr(self, name) and contract not in self.contracts:
                raise InvalidError(
                    "a port for a contract that contracts leaves out",
                    where=name,
                    fix=f'Add "{contract}" to contracts, or leave {name} out.',
                )
        if self.opcua:
            opcua_address(self.opcua)
        _check_topics(self)
        _check_devices(self)
        _check_tls(self)
        _check_zone(self.time_zone)

    @property
    def folder(self) -> Path:
        """``data_dir`` as an absolute path."""
        return Path(self.data_dir).absolute()

    @property
    def free_bytes(self) -> int:
        """Room on the disk of ``data_dir``, or of the nearest folder above that is there."""
        folder = next(one for one in (self.folder, *self.folder.absolute().parents) if one.exists())
        return shutil.disk_usage(folder).free

    @property
    def records_url(self) -> SecretUrl:
        """Where records stand."""
        return self.records or SecretUrl(f"sqlite:///{self.folder / 'records.db'}")

    @property
    def blobs_url(self) -> SecretUrl:
        """Where pictures and packages stand."""
        return self.blobs or SecretUrl(f"file://{self.folder / 'blobs'}")

    @property
    def ingest_token_path(self) -> Path:
        """The file of the token of ``/mqttingest``."""
        return Path(self.ingest_token_file or self.folder / "tokens" / "ingest.token")

    @property
    def trust_folder(self) -> Path:
        """Where the update repository stands."""
        return Path(self.trust).absolute() if self.trust else self.folder / "trust"

    @property
    def keys_folder(self) -> Path:
        """Where the update repository's offline keys are made, until they are taken away."""
        return self.folder / "keys"

    @property
    def secrets_folder(self) -> Path:
        """Where the files stand that webhooks of the plant file name, in a folder of each host."""
        return self.folder / "secrets"

    @property
    def ca_folder(self) -> Path:
        """Where the site's certificate authority stands."""
        return self.folder / "authority"

    @property
    def secure(self) -> bool:
        """True if pages and interface are served by HTTPS."""
        return bool(self.tls or self.tls_cert)

    @property
    def loopback_only(self) -> bool:
        """True if nobody outside this machine can reach the pages."""
        return self.host in LOOPBACK


def webhooks_in_force(config: HubConfig, plant: Plant) -> tuple[WebhookConfig, ...]:
    """Return the webhooks of the plant file, and those of the settings under other names."""
    declared = [one.in_folder(config.secrets_folder) for one in plant.webhook]
    names = {one.name for one in declared}
    return (*declared, *(one for one in config.webhook if one.name not in names))


def _check_devices(config: HubConfig) -> None:
    if config.min_free_bytes < 0:
        raise InvalidError("below 0", where="min_free_bytes", fix="Give bytes, or 0 for no limit.")
    if config.most_devices < 1 or config.device_silent_s <= 0:
        raise InvalidError("above 0", where="most_devices, device_silent_s", fix="Leave them out.")
    for name in ("bus_tls", "iot_jobs_tls"):
        address = getattr(config, name)
        port = address.rpartition(":")[2]
        if address and not (port.isdigit() and int(port) <= 65535):
            raise InvalidError("host:port", where=name, fix=f'Write {name} = "0.0.0.0:8883".')
    (host, _, port), (other, _, same) = (
        one.rpartition(":") for one in (config.bus_tls, config.iot_jobs_tls)
    )
    if port == same not in {"", "0"} and (host == other or {host, other} & _EVERY_ADDRESS):
        raise InvalidError(
            "a port of its own, bus_tls has this one", where="iot_jobs_tls",
            fix='Write iot_jobs_tls = "0.0.0.0:8884".',
        )  # fmt: skip
    if config.bus_tls and config.bus != "embedded":
        raise InvalidError(
            "only the embedded broker listens here", where="bus_tls",
            fix="Configure the other one: lineside hub mosquitto-config.",
        )  # fmt: skip


def _check_tls(config: HubConfig) -> None:
    if bool(config.tls_cert) != bool(config.tls_key):
        raise InvalidError(
            "a certificate and its key", where="tls_cert, tls_key", fix="Name both files."
        )
    if config.tls and config.tls_cert:
        raise InvalidError(
            "one certificate", where="tls", fix='Leave out tls = "site", or tls_cert and tls_key.'
        )


def _check_topics(config: HubConfig) -> None:
    for prefix in filter(None, (config.homeassistant, config.sparkplug)):
        check_topic(prefix)
    if "/" in config.sparkplug:
        raise InvalidError(
            "one level of a topic", where="sparkplug", fix='Write sparkplug = "Plant1", say.'
        )


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidError(
            f"{name!r} is no time zone of this machine",
            where="time_zone",
            fix='Write time_zone = "Europe/Zurich"; where no zone is known, install tzdata.',
        ) from error


def key_of(logged: Logged, wanted: str) -> str:
    """Return the key whose events keep their order.

    Args:
        logged: the event.
        wanted: "" for source and subject, one of ``ORDER_KEYS``, or ``data.<field>``; a field
            that the event lacks, or that is no plain value, leaves source and subject.
    """
    entry = logged.entry
    usual = f"{entry.source} {entry.subject}".rstrip()
    if not wanted:
        return usual
    if not wanted.startswith("data."):
        return str(getattr(entry, wanted))
    event = decode_event(entry.body, where=entry.id)
    found = event.data.get(wanted.removeprefix("data."))
    return usual if found is None or isinstance(found, dict | list) else str(found)


def own_places(config: HubConfig) -> str:
    """Return a pattern that finds the hub's own folders, files and stores in a sentence.

    Of a folder or file it takes what stands before the name, so that the name stays.
    """
    functions = config.function
    stores = (config.records_url, config.blobs_url, config.mongo, *(one.store for one in functions))
    files = (
        config.plant, config.bus_password_file, config.ingest_token_file, config.tls_cert,
        config.tls_key, *(one.ids for one in functions),
    )  # fmt: skip
    whole = [one.reveal() for one in stores if "://" in one]
    texts = {str(SecretUrl(one)) for one in whole} | {one.partition("?")[0] for one in whole}
    texts |= {found for one in whole for found in re.findall(r"https?://[^/?&#]+", unquote(one))}
    texts |= {found for one in whole for found in re.findall(r"[^/@?]+:\d+", one)}
    stored = (one.removeprefix("file://") for one in whole if one.startswith("file:///"))
    patterns = [re.escape(one) for one in texts]
    patterns += [
        rf"{re.escape(str(one))}(?:/|(?![\w.-]))"
        for folder in (config.folder, config.trust_folder, *map(Path, stored))
        for one in (folder, folder.resolve())
    ]
    patterns += [
        rf"{re.escape(str(one.parent))}/(?={re.escape(one.name)})"
        for one in (Path(name).absolute() for name in files if name)
    ]
    return "|".join(sorted(set(patterns), key=len, reverse=True))
