"""Open a bus by URL."""

from typing import cast

from lineside.core import Clock, find_driver
from lineside.links.contract import Bus, Will

BUSES = {
    "memory": "lineside.links.memory:open_memory",
    "mqtt": "lineside.links.mqtt:open_mqtt",
    "mqtts": "lineside.links.mqtt:open_mqtt",
}


def open_bus(
    url: str, *, client_id: str, clock: Clock, will: Will | None = None, persistent: bool = False
) -> Bus:
    """Join a message bus; the caller closes it.

    Args:
        url: ``mqtt://user:password@host:1883``, ``mqtts://…``, ``memory://name``.
        client_id: one per client and broker; a second of the same name throws out the first.
        clock: gives ``Message.arrived_s``.
        will: what the broker says for us when we vanish.
        persistent: the broker keeps our QoS 1 and 2 messages while we are away for a short time.

    Raises:
        InvalidError: the address can never work.
        RefusedError: the broker refuses the credentials.
        MissingExtraError: the client library is not installed.
    """
    opener = find_driver("bus", url, table=BUSES)
    return cast(
        "Bus", opener(url, client_id=client_id, clock=clock, will=will, persistent=persistent)
    )
