"""The embedded broker put together: one listener, and a second for devices where it is wished."""

from pathlib import Path

from amqtt.contexts import BrokerConfig, ListenerConfig

from lineside.links.amqtt_answers import Askers
from lineside.links.amqtt_bounded import LISTENER, BoundedBroker
from lineside.links.amqtt_named import DOOR, NamedBroker, door_config
from lineside.links.bus_passwords import read_bus_passwords
from lineside.links.device_door import DeviceDoor
from lineside.links.limits import BrokerLimits


def make_broker(
    *,
    host: str,
    port: int,
    password_file: Path | None,
    own_password: str,
    limits: BrokerLimits,
    answered: tuple[str, ...] = (),
    door: DeviceDoor | None = None,
) -> BoundedBroker:
    """A broker that does not listen yet; call it on the event loop it will run on."""
    passwords = read_bus_passwords(password_file) if password_file else {}
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    listeners = {LISTENER: ListenerConfig(bind=address, max_connections=limits.connections)}
    if door is not None:
        listeners[DOOR] = door_config(door, limits=limits)
    config = BrokerConfig(
        listeners=listeners,
        session_expiry_interval=limits.session_s,
        plugins={},
    )
    own, askers = own_password if password_file else None, Askers(answered)
    if door is None:
        return BoundedBroker(
            config, limits=limits, own_password=own, passwords=passwords, askers=askers
        )
    return NamedBroker(
        config, limits=limits, own_password=own, passwords=passwords, askers=askers, door=door
    )
