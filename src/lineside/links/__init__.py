"""Live connections: message buses and cameras, whichever protocol carries them.

Main names: ``open_bus``, ``open_session``, ``open_camera``, ``Bus``, ``BusSession``, ``Mailbox``,
``Message``, ``Delivery``, ``Will``, ``Camera``, ``Shot``, ``EmbeddedBroker``, ``MosquittoBroker``,
``DeviceListener`` and ``TopicAccess`` (who may say and hear what), ``MongoSink``, ``KafkaSender``,
``KafkaReceiver``, ``WebhookSender``, ``OpcuaServer``.
Not here: deciding anything about what a message or picture says.
"""

from lineside.links.broker import EmbeddedBroker
from lineside.links.broker_contract import AuthenticatedDevice, BrokerLimits, DeviceListener
from lineside.links.bus_access import device_access, set_bus_password
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
    Shot,
    Will,
)
from lineside.links.opening import open_bus, open_camera, open_session

__all__ = [
    "AuthenticatedDevice",
    "BrokerLimits",
    "Bus",
    "BusSession",
    "Camera",
    "Delivery",
    "DeviceListener",
    "EmbeddedBroker",
    "FrameMessage",
    "Mailbox",
    "MailboxFigures",
    "Message",
    "Qos",
    "Shot",
    "Will",
    "device_access",
    "open_bus",
    "open_camera",
    "open_session",
    "set_bus_password",
]
