"""What is live: message buses and cameras, whichever protocol carries them.

Main names: ``open_bus``, ``open_camera``, ``Bus``, ``Mailbox``, ``Message``, ``Will``, ``Camera``,
``Shot``, ``EmbeddedBroker``, ``MongoSink``.
Not here: deciding anything about what a message or picture says.
"""

from lineside.links.broker import EmbeddedBroker
from lineside.links.contract import (
    Bus,
    Camera,
    Mailbox,
    MailboxFigures,
    Message,
    Qos,
    Refused,
    Shot,
    Will,
)
from lineside.links.frames import FrameMessage
from lineside.links.limits import BrokerFigures, BrokerLimits
from lineside.links.mailbox import BoundedMailbox
from lineside.links.mongo import MongoSink
from lineside.links.opening import BUSES, CAMERAS, open_bus, open_camera
from lineside.links.topics import check_pattern, check_topic, topic_matches

__all__ = [
    "BUSES",
    "CAMERAS",
    "BoundedMailbox",
    "BrokerFigures",
    "BrokerLimits",
    "Bus",
    "Camera",
    "EmbeddedBroker",
    "FrameMessage",
    "Mailbox",
    "MailboxFigures",
    "Message",
    "MongoSink",
    "Qos",
    "Refused",
    "Shot",
    "Will",
    "check_pattern",
    "check_topic",
    "open_bus",
    "open_camera",
    "topic_matches",
]
