"""Live connections: message buses and cameras, whichever protocol carries them.

Main names: ``open_bus``, ``open_session``, ``open_camera``, ``Bus``, ``BusSession``, ``Mailbox``,
``Message``, ``Delivery``, ``Will``, ``Camera``, ``Shot``, ``EmbeddedBroker``, ``MosquittoBroker``,
``DeviceListener`` and ``TopicAccess`` (who may say and hear what), ``MongoSink``, ``KafkaSender``,
``KafkaReceiver``, ``WebhookSender``, ``OpcuaServer``.
Not here: deciding anything about what a message or picture says.
"""

from lineside.core.topics import check_pattern, check_topic, topic_matches
from lineside.links.broker import EmbeddedBroker
from lineside.links.broker_contract import (
    AuthenticatedDevice,
    AuthenticateDevice,
    BrokerFigures,
    BrokerLimits,
    DeviceListener,
    OversizedPacket,
)
from lineside.links.bus_access import (
    TopicAccess,
    access_list,
    device_access,
    is_identity,
    mosquitto_reads,
    set_bus_password,
)
from lineside.links.camera_mqtt import FrameMessage
from lineside.links.contract import (
    Bus,
    BusSession,
    Camera,
    Delivery,
    Mailbox,
    MailboxFigures,
    Message,
    Qos,
    Refused,
    Shot,
    Will,
)
from lineside.links.kafka import (
    KafkaPlace,
    KafkaReceiver,
    KafkaRecord,
    KafkaRefusal,
    KafkaSender,
    ReceivedRecord,
    probe_kafka,
)
from lineside.links.mailbox import BoundedMailbox
from lineside.links.mongo import MongoSink
from lineside.links.mosquitto import (
    MosquittoBroker,
    MosquittoFiles,
    MosquittoListener,
    find_mosquitto,
    mosquitto_config,
    owner_of,
)
from lineside.links.opcua import (
    Kind,
    OpcuaEvent,
    OpcuaNode,
    OpcuaServer,
    OpcuaSettings,
    OpcuaValue,
    Quality,
    opcua_address,
)
from lineside.links.opening import BUSES, CAMERAS, SESSIONS, open_bus, open_camera, open_session
from lineside.links.webhook import WebhookAnswer, WebhookSender, WebhookTarget

__all__ = [
    "BUSES",
    "CAMERAS",
    "SESSIONS",
    "AuthenticateDevice",
    "AuthenticatedDevice",
    "BoundedMailbox",
    "BrokerFigures",
    "BrokerLimits",
    "Bus",
    "BusSession",
    "Camera",
    "Delivery",
    "DeviceListener",
    "EmbeddedBroker",
    "FrameMessage",
    "KafkaPlace",
    "KafkaReceiver",
    "KafkaRecord",
    "KafkaRefusal",
    "KafkaSender",
    "Kind",
    "Mailbox",
    "MailboxFigures",
    "Message",
    "MongoSink",
    "MosquittoBroker",
    "MosquittoFiles",
    "MosquittoListener",
    "OpcuaEvent",
    "OpcuaNode",
    "OpcuaServer",
    "OpcuaSettings",
    "OpcuaValue",
    "OversizedPacket",
    "Qos",
    "Quality",
    "ReceivedRecord",
    "Refused",
    "Shot",
    "TopicAccess",
    "WebhookAnswer",
    "WebhookSender",
    "WebhookTarget",
    "Will",
    "access_list",
    "check_pattern",
    "check_topic",
    "device_access",
    "find_mosquitto",
    "is_identity",
    "mosquitto_config",
    "mosquitto_reads",
    "opcua_address",
    "open_bus",
    "open_camera",
    "open_session",
    "owner_of",
    "probe_kafka",
    "set_bus_password",
    "topic_matches",
]
