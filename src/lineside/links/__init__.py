"""What is live: message buses and cameras, whichever protocol carries them.

Main names: ``open_bus``, ``Bus``, ``Mailbox``, ``Message``, ``Will``, ``EmbeddedBroker``,
``topic_matches``. Not here: deciding anything about what a message or picture says.
"""

from lineside.links.broker import EmbeddedBroker
from lineside.links.contract import Bus, Camera, Mailbox, MailboxFigures, Message, Qos, Will
from lineside.links.limits import BrokerFigures, BrokerLimits
from lineside.links.mailbox import BoundedMailbox
from lineside.links.opening import BUSES, open_bus
from lineside.links.topics import check_pattern, check_topic, topic_matches

__all__ = [
    "BUSES",
    "BoundedMailbox",
    "BrokerFigures",
    "BrokerLimits",
    "Bus",
    "Camera",
    "EmbeddedBroker",
    "Mailbox",
    "MailboxFigures",
    "Message",
    "Qos",
    "Will",
    "check_pattern",
    "check_topic",
    "open_bus",
    "topic_matches",
]
