"""What one client of our OPC UA server may ask for, in asyncua's words.

1. A publishing interval below ``FASTEST_MS`` is revised to it (OPC 10000-4, 5.14.2.2: the server
   may); asyncua would otherwise publish in a loop without a pause.
2. A session has ``MOST_SUBSCRIPTIONS``, all sessions together ``MOST_ITEMS`` monitored items, and
   an item a queue of ``MOST_QUEUED``: what one client does not fetch costs no more than that.
"""

from typing import Any

from lineside.core import need

FASTEST_MS = 20.0
SLOWEST_MS = 3_600_000.0
MOST_SUBSCRIPTIONS = 20
MOST_ITEMS = 50_000
MOST_QUEUED = 1000
_MOST_CLIENTS = 100
_MOST_UNACKED = 500


def bound(server: Any) -> None:  # noqa: ANN401  of the library
    """Set the limits; before the server's ``init``."""
    inner = server.iserver
    inner.max_connections = _MOST_CLIENTS
    inner.max_subscriptions = _MOST_CLIENTS * MOST_SUBSCRIPTIONS
    inner.max_monitored_item_queue_size = MOST_QUEUED
    inner.max_unacked_messages_per_subscription = _MOST_UNACKED
    inner.subscription_service = _bounded_service(inner)
    inner.isession.subscription_service = inner.subscription_service


def _bounded_service(inner: Any) -> Any:  # noqa: ANN401  of the library
    library = need("asyncua.server.subscription_service", extra="opcua")
    ua = need("asyncua", extra="opcua").ua
    refused = need("asyncua.common.utils", extra="opcua").ServiceError

    class Bounded(library.SubscriptionService):  # type: ignore[misc, name-defined]  # a class found when it runs
        async def create_subscription(self, params: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401  handed on
            _, session_id = args
            mine = (sub.session_id == session_id for sub in self.subscriptions.values())
            if sum(mine) >= MOST_SUBSCRIPTIONS:
                raise refused(ua.StatusCodes.BadTooManySubscriptions)
            asked_ms = max(FASTEST_MS, params.RequestedPublishingInterval)  # in this order: NaN
            params.RequestedPublishingInterval = min(asked_ms, SLOWEST_MS)
            return await super().create_subscription(params, *args, **more)

        async def create_monitored_items(self, params: Any) -> Any:  # noqa: ANN401
            asked = len(params.ItemsToCreate)
            if asked + sum(map(_items, self.subscriptions.values())) > MOST_ITEMS:
                raise refused(ua.StatusCodes.BadTooManyMonitoredItems)
            return await super().create_monitored_items(params)

        def modify_monitored_items(self, params: Any) -> Any:  # noqa: ANN401
            for item in params.ItemsToModify:
                wanted = item.RequestedParameters
                wanted.QueueSize = min(wanted.QueueSize or MOST_QUEUED, MOST_QUEUED)
            return super().modify_monitored_items(params)

    return Bounded(inner.aspace, iserver=inner)


def _items(subscription: Any) -> int:  # noqa: ANN401  of the library
    return len(subscription.monitored_item_srv._monitored_items)  # noqa: SLF001  nothing else tells
