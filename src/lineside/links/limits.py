"""Limits and figures of the embedded broker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """What one client, and all of them together, may cost.

    Attributes:
        packet_bytes: a longer packet ends the connection; a picture of 8 MB as base64 fits.
        outbox_bytes, outbox_messages: what may wait for one client.
        inbox_messages: what of one client may wait to be passed on.
        in_flight: messages sent to one client and not yet acknowledged.
        stalled_s: a client that takes none of its messages for so long is cut off.
        connect_s: from the connection to a whole CONNECT packet.
        session_s: how long an absent persistent session is kept.
        connections, retained_topics, retained_bytes: of the whole broker.
    """

    packet_bytes: int = 12_000_000
    outbox_bytes: int = 48_000_000
    outbox_messages: int = 20_000
    inbox_messages: int = 64
    in_flight: int = 64
    stalled_s: float = 10.0
    connect_s: float = 10.0
    session_s: int = 3600
    connections: int = 500
    retained_topics: int = 10_000
    retained_bytes: int = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFigures:
    """Counts since the broker was started, and what it holds now."""

    clients: int
    sessions: int
    retained: int
    waiting_messages: int
    waiting_bytes: int
    received: int
    delivered: int
    dropped: int
    cut_off: int
    refused: int
