"""Settings of the hub: one TOML file, then ``LINESIDE_HUB__<KEY>``, then flags.

What is said of each attribute here is its row in ``docs/reference/configuration.md``, to which
links are relative.
"""

import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lineside.core import InvalidError, Plant, Task
from lineside.core.config import LOOPBACK
from lineside.core.drivers import SecretUrl, check_learner, resolve_backbone
from lineside.core.errors import Fault
from lineside.core.plant import Retention
from lineside.core.topics import check_pattern, check_topic
from lineside.core.webhooks import EVENT_TYPE, ORDER_KEYS, WebhookConfig, is_order_key
from lineside.links.kafka import KafkaPlace
from lineside.links.opcua import opcua_address
from lineside.models.versions import check_group
from lineside.store import Logged
from lineside.streams import decode_event

_EVERY_ADDRESS = {"", "0.0.0.0", "[::]"}  # noqa: S104  compared, not listened at


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaBridgeConfig:
    """MQTT messages that go to Kafka as they are, keyed by their topic.

    Attributes:
        mqtt: pattern of MQTT topics, such as ``"sockfound"``.
        topic: topic of Kafka, such as ``"data_mqtt"``.
    """

    mqtt: str
    topic: str

    def __post_init__(self) -> None:
        check_pattern(self.mqtt)
        _check_name(self.topic, where="kafka.bridge.topic")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSendConfig:
    """Events of the log that go to a topic of Kafka.

    Attributes:
        topic: each topic once.
        types: types of [events](messages.md#event-sources-and-chains); ``lineside.verdict.v1`` for
            [verdicts](messages.md#verdict-event); ``*`` stands for anything.
        key: what keeps the order: empty for source and subject, or ``id``, ``source``, ``subject``,
            ``type``, ``data.<field>``.
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
        topic: each topic once; a new group begins at its start, unless ``options`` say
            ``"auto.offset.reset" = "latest"``.
        route: the MQTT topic they count as; a route of the plant file says what they are. No
            images.
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
        brokers: ``host:port`` of some brokers, with commas between; empty: no Kafka.
        group: the consumer group: hubs of one group share the partitions of ``take``.
        dead: topic of records that cannot be taken, with the reason in ``lineside_reason``,
            ``lineside_detail``, ``lineside_place``; empty: they stand among the hub's dead letters
            alone.
        options: [librdkafka's
            settings](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md),
            handed on: ``"security.protocol" = "SASL_SSL"``, ``"sasl.mechanism" = "SCRAM-SHA-512"``,
            ``"ssl.ca.location" = "/etc/…"``. Secrets are refused here, as is what delivery rests on
            (``acks``, ``enable.idempotence``, ``enable.auto.commit``).
        secret_files: options whose value is a secret, and its file: ``"sasl.password" =
            "/etc/lineside/kafka.password"``; a newline at the end does not count.
        bridge: tables ``[[kafka.bridge]]``: MQTT messages that go to Kafka, bytes unchanged, their
            MQTT topic as key.
        send: tables ``[[kafka.send]]``: events that go to Kafka as CloudEvents, from the moment on
            when the table was first there.
        take: tables ``[[kafka.take]]``: topics whose records become messages of the plant.
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
        name: of the function, under ``/2015-03-31/functions/<name>/invocations``.
        endpoint: which endpoint answers: an inspection's ``endpoint``, or its id.
        store: where the images are: ``file:///folder`` or ``s3://bucket/prefix?…`` as of ``blobs``;
            nothing else can be read through the function.
        bucket: what callers name as the store; empty: the last part of ``store``.
        prefix: of the images' names inside the store, such as ``bin-images/``.
        records: of the inventory records' names inside the store, such as ``metadata/``:
            ``<records>/<stem>.json`` with ``EXPECTED_QUANTITY``; empty: none.
        ids: file of the numbers or names on offer, one a line or the column ``id`` of a CSV table;
            empty: every image below ``prefix``, at most 20,000.
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
        dataset: whose new versions.
        task: what is learned: ``classify``, ``anomaly``, …; empty: the inspection's task.
        inspection: an inspection of the plant file; empty: the only one of that task, else the
            whole image of the dataset.
        on_drift: drift of that inspection ([event](messages.md)) starts a run on the newest version
            as well.
        register_as: the group of models that the package becomes the next version of; empty: none.
        backbone: a name of ``[backbones]`` that is learned on; empty: the one that comes with
            lineside.
    """

    dataset: str
    task: str = ""
    inspection: str = ""
    on_drift: bool = False
    register_as: str = ""
    backbone: str = ""

    def __post_init__(self) -> None:
        if self.on_drift and not self.inspection:
            raise InvalidError(
                "drift is of an inspection, and none is named",
                where="retrain.inspection",
                fix='Add inspection = "…".',
            )
        if self.task and self.task not in set(Task):
            raise InvalidError(
                f"no task {self.task!r}",
                where="retrain.task",
                fix=f"Known: {', '.join(Task)}.",
            )
        if self.register_as:
            check_group(self.register_as)


Contract = Literal["sagemaker", "iot-jobs", "s3", "open-inference"]
"""A contract of another system whose calls the hub can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """Everything the hub is told.

    Attributes:
        data_dir: folder of everything the hub keeps; made with mode 0700; one hub a folder, also
            where [several](../how-to/several-hubs.md) share the rest.
        plant: path of the plant file.
        host: address of pages and API; anything else can be reached from outside: set ``tls``.
        port: 0 to 65535; 0 takes a free one, and ``data_dir/hub.json`` says which.
        allowed_hosts: names under which the hub is reached, besides that of ``public_url``; where
            there are some, and on loopback, every other name is refused.
        public_url: how others reach the hub, for the packages devices fetch and for sign-in links;
            needed when ``host`` is ``0.0.0.0``; empty: ``http://host:port``.
        bus: the embedded broker, or the URL of one: ``mqtt://``, ``mqtts://``; [what it should
            keep](messages.md#what-the-brokers-acknowledgement-means) while the hub is away.
        contracts: contracts of other systems whose calls the hub answers: ``"sagemaker"``
            (endpoints, functions and ``/ping``), ``"iot-jobs"`` (AWS IoT's job service by HTTP, and
            the calls by which the edge-manager sample starts), ``"s3"`` (the [bucket](http.md)),
            ``"open-inference"`` ([serving](serving.md)). ``[]`` answers none; the hub's own API,
            pages and bus need none of them. Jobs whose document asks for presigned links need
            ``"s3"``, and so do jobs of devices with ``unsigned = "allowed"``.
        iot_jobs_tls: ``host:port`` where clients of AWS IoT Jobs that ask without subscribing
            connect by mutual TLS ([jobs](jobs.md#what-a-device-is-told)); needs ``lineside hub
            init``. Empty: nowhere.
        inference_grpc: ``host:port`` of the Open Inference Protocol by gRPC
            ([serving](serving.md)), port 0 takes a free one; empty: by HTTP alone. Beyond loopback
            it needs ``tls``.
        bus_broker: which program the embedded broker is: ``"mosquitto"``, ``"amqtt"``, or
            ``"auto"``: a mosquitto of version 2 or newer where one is on the ``PATH`` or in
            ``/usr/sbin``, amqtt otherwise ([what each promises](messages.md#the-hubs-own-broker)).
        endpoint_calls: how many calls of one endpoint, function or model wait or run at a time; a
            further one is [refused with 429](http.md#too-many-calls) and counted
            (``lineside_inference_refused_total``; ``lineside_inference_waiting`` says how many
            wait); 1 or more.
        bus_host: where the embedded broker listens.
        bus_port: its port, 0 to 65535; 0 takes a free one.
        bus_password_file: lines written by [``lineside hub bus-password
            NAME``](../how-to/real-camera.md#the-agent-on-another-machine), read on start; needed
            when ``bus_host`` is not loopback. The hub itself needs no line. Lines with an argon2
            hash, as earlier versions asked for, are read by amqtt only: ``"auto"`` takes amqtt
            then.
        bus_tls: ``host:port`` where the embedded broker listens for devices by mutual TLS, such as
            ``"0.0.0.0:8883"``; needs ``lineside hub init``. The certificate is the name, and a
            device publishes and subscribes to its own topics only
            ([fleet](fleet.md#who-may-publish-and-subscribe-to-what)).
        device_bus: URL of the bus as devices are told of it at enrolment; ``{hub}`` stands for the
            host under which they reached the hub; empty: that of the embedded broker.
        device_here: start a [device on this machine](fleet.md#the-device-on-the-hubs-machine) with
            the hub, as ``--with-device`` does.
        most_devices: how many devices may report; a further one is a refused message; 1 or more.
        http_connections: how many connections pages and API take at a time, at most a quarter of
            the files that the process may open; further ones are closed at once, counted
            (``lineside_http_connections_refused_total``) and said in the log once a minute. A
            request whose head takes over 10 s, or whose body brings less than 16 kB in 30 s, is
            closed too (``lineside_http_connections_too_slow_total``). 1 or more.
        http_connections_per_address: how many of these one address may have; the machine itself has
            no limit of its own. Raise it where many people come through one proxy. 1 or more.
        bus_connections: how many clients the embedded broker takes at a time; a further one is cut
            off; 1 or more.
        downloads: how many packages go out to devices at a time; others are answered 503 with
            ``Retry-After``; 1 or more.
        device_silent_s: after how long without a message a device that did not say goodbye counts
            as silent; above 0.
        strays: listen to the branches of the routed topics too, so that a mistyped topic becomes a
            dead letter; switch it off on a broker with much other traffic below the same branches.
        records: ``sqlite:////abs/file.db`` or ``postgresql://user@host/db``; empty: SQLite in
            ``data_dir``.
        blobs: ``file:///abs/dir`` or ``s3://bucket/prefix?endpoint=…&region=…``; empty: a folder in
            ``data_dir``.
        mongo: ``mongodb://…``: also write the [reference](glossary.md)'s documents there, and place
            orders written there.
        mongo_picture: how an image is in its document: ``text`` (base64), ``binary`` or ``digest``.
        kafka: a table, ``[kafka]``, [as below](#kafka).
        webhook: tables ``[[webhook]]``: URLs that events are posted to, [as below](#webhooks); the
            [plant file](plant-file.md#webhook) takes them too, and of two with one name that one
            runs.
        opcua: ``opc.tcp://host:port`` of an [OPC UA server](opcua.md), such as
            ``"opc.tcp://127.0.0.1:4840"``; empty: none.
        opcua_anonymous: anybody may read from it, also without encryption.
        homeassistant: first level of the topics of [Home Assistant's
            discovery](../how-to/bus-tools.md#home-assistant), as it is set up there, usually
            ``"homeassistant"``; empty: none, and those that were said are removed.
        otlp: address of an OpenTelemetry collector, such as ``"http://127.0.0.1:4318"``, that gets
            [traces](metrics.md#traces); empty: none.
        sparkplug: group id of [Sparkplug B](../how-to/bus-tools.md#sparkplug-b-ignition) under
            which the hub is an edge node, such as ``"Plant1"``; empty: none.
        retention: a table with the two keys below; what may age out, and when, unless the [plant
            file](plant-file.md#retention) has the table.
        trust: folder of the [update repository](trust.md); empty: ``trust`` in ``data_dir``.
        ingest_token_file: token of ``POST /mqttingest``; empty: ``data_dir/tokens/ingest.token``.
        tls: ``"site"``: pages and interface by HTTPS, with a certificate of the site's own
            authority ([``lineside hub init``](commands.md)), renewed at a start when a third of its
            time is left.
        tls_cert, tls_key: files (PEM) of another certificate with its chain, and of its key without
            a password.
        time_zone: of the site's clock, such as ``"Europe/Zurich"``: maintenance windows of model
            groups are its times.
        single_person: whether who made a version of a model may
            [approve](users.md#approval-by-another-person) it; page and event say when that
            happened.
        session_hours: how long a sign-in lasts; above 0.
        max_body_bytes: largest upload (a package, an import); other paths have smaller limits of
            their own.
        min_free_bytes: with less room on the disk of ``data_dir``, ``/readyz`` answers 503 and
            ``doctor`` says so; 0: no limit.
        dead_letters: refused messages kept with their bytes; the oldest go first.
        function: tables ``[[function]]``, the functions that clients of the function contract and
            the page [Count](pages.md) may use; keys below.
        retrain: tables ``[[retrain]]``: a new version of a dataset starts a training run, unless it
            was frozen for one (``"freeze":true``); while another runs it waits, and what it makes
            awaits approval.
        training_device: where training runs learn whose task teaches a network (not ``anomaly``,
            ``multilabel``): ``cpu``, ``cuda``, or ``auto``: a
            [GPU](../how-to/gpu.md#7-train-on-a-gpu) where there is one, else the CPU.
        backbones: a table, ``[backbones]``: each [backbone](../how-to/backbone.md#at-a-hub) that
            who starts a training may choose beside the usual one, by a short name:
            ``dinov2-small = "/srv/dinov2-small.onnx"``, or the name of an installed torch network.
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
    training_device: Literal["auto", "cpu", "cuda"] = "cpu"
    backbones: dict[str, str] = field(default_factory=dict)

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
        _check_backbones(self)

    def plant_faults(self, plant: Plant) -> list[Fault]:
        """Return why a hub of these settings could not work with a plant file."""
        names = {name for one in plant.inspection for name in (one.id, one.endpoint)}
        faults = [
            Fault(
                path="$.inspection", value=repr(one.endpoint),
                expected="an inspection of this id or endpoint: [[function]] of the hub's settings"
                " names it",
                fix="Keep it, or change the hub's settings first.",
            )
            for one in self.function if one.endpoint not in names
        ]  # fmt: skip
        tasks = {one.id: one.task for one in plant.inspection}
        for rule in self.retrain:
            try:
                if rule.inspection in tasks:
                    _check_rule(rule, tasks[rule.inspection], backbones=self.backbones)
            except InvalidError as error:
                faults.append(
                    Fault(
                        path="$.inspection", value=repr(rule.inspection),
                        expected="an inspection that [[retrain]] of the hub's settings can train:"
                        f" {error.message}",
                        fix=f"Change the hub's settings first. {error.fix}",
                    )
                )  # fmt: skip
        return faults

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


_BACKBONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _check_backbones(config: HubConfig) -> None:
    for name, named in config.backbones.items():
        if not (_BACKBONE.fullmatch(name) and named.strip()):
            raise InvalidError(
                f"{name[:80]!r} = {named[:80]!r} is no name and what it stands for",
                where="backbones",
                fix='Write dinov2-small = "/srv/dinov2-small.onnx", say. A name has letters,'
                " digits, '.', '_' and '-', a letter or digit first, at most 63.",
            )
    for rule in config.retrain:
        if rule.backbone and rule.backbone not in config.backbones:
            raise InvalidError(
                f"{rule.backbone!r} is no name of [backbones]", where="retrain.backbone",
                fix="Add it there, or leave it out.",
            )  # fmt: skip
        if rule.task:
            _check_rule(rule, rule.task, backbones=config.backbones)


def _check_rule(rule: RetrainRule, task: str, *, backbones: Mapping[str, str]) -> None:
    """Refuse a rule that could train no inspection of that task."""
    if rule.task not in ("", task):
        raise InvalidError(
            f"inspection {rule.inspection} is of task {task}, and a rule trains {rule.task}",
            where="retrain.task",
            fix=f"Write {task}, or leave the task out.",
        )
    try:
        check_learner(
            task, settings={}, backbone=resolve_backbone(backbones.get(rule.backbone, ""))
        )
    except InvalidError as error:
        raise InvalidError(error.message, where="retrain.backbone", fix=error.fix) from error


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
