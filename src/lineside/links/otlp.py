"""Spans of OpenTelemetry, sent by OTLP over HTTP to a collector.

1. Spans are made when their times are known; a name, a start and an end are all that is said.
2. They wait in the library's own queue (2,048 spans) and go by its thread. What a collector does
   not take is dropped by it: tracing never holds up an image or an event, and the end of the
   program for three seconds at most; the library itself would wait for each batch.
3. A collector that takes none is logged once, and its return; the library's own lines are not, as
   there would be several every ten seconds for as long as it is away.
4. The context crosses the bus as ``traceparent`` of W3C Trace Context, version 00, in the event.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any, cast

from lineside.core import InvalidError, need
from lineside.core.drivers import SecretUrl
from lineside.core.worker import Worker

logger = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | bool]
_CLOSE_S = 3.0


class Tracing:
    """Spans of one program; closed by who made it.

    Raises:
        InvalidError: no address of a collector.
        MissingExtraError: the library is not installed.
    """

    def __init__(self, endpoint: str, *, service: str, instance: str) -> None:
        """Begin; ``endpoint`` is the collector's address, such as ``http://127.0.0.1:4318``."""
        shown = SecretUrl(endpoint)
        if not shown.startswith(("http://", "https://")):
            raise InvalidError(
                f"{shown!r} is no http or https address", where="otlp",
                fix='Write otlp = "http://127.0.0.1:4318", say.',
            )  # fmt: skip
        exporters = need("opentelemetry.exporter.otlp.proto.http.trace_exporter", extra="otel")
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        about = {
            "service.name": service, "service.instance.id": instance,
            "service.version": version("lineside"),
        }  # fmt: skip
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        logging.getLogger(exporters.__name__).setLevel(logging.CRITICAL)  # rule 3
        exporter = exporters.OTLPSpanExporter(endpoint=f"{shown.reveal().rstrip('/')}/v1/traces")
        self._exporter = _LoggingExporter(exporter, where=shown)
        self._provider.add_span_processor(BatchSpanProcessor(cast("Any", self._exporter)))
        self._tracer = self._provider.get_tracer("lineside", version("lineside"))

    def span(
        self, name: str, *, start: datetime, end: datetime, attributes: Attributes,
        parent: str = "",
    ) -> str:  # fmt: skip
        """Say a span that is over; return its ``traceparent``.

        Args:
            name: of the step.
            start: when it began.
            end: when it ended.
            attributes: of the span.
            parent: ``traceparent`` of the step before; "": it is the first one.
        """
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({"traceparent": parent})
        span = self._tracer.start_span(
            name, context=context, attributes=attributes, start_time=_nanoseconds(start)
        )
        span.end(_nanoseconds(max(start, end)))
        made = span.get_span_context()
        return f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}"

    def close(self) -> None:
        """Send what waits, for three seconds at most, and end."""
        ending = Worker("tracing-end", self._provider.shutdown, every_s=None)
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive:
            self._exporter.shutdown()


class _LoggingExporter:
    """An exporter of the library that logs when its collector goes away, and when it is back."""

    def __init__(self, exporter: Any, *, where: str) -> None:  # noqa: ANN401  untyped library
        self._exporter = exporter
        self._where = where
        self._is_away = False
        self.shutdown = exporter.shutdown
        self.force_flush = exporter.force_flush

    def export(self, spans: object) -> object:
        """Send a batch; returns the library's own result."""
        result = self._exporter.export(spans)
        was_away, self._is_away = self._is_away, result.name != "SUCCESS"
        if self._is_away and not was_away:
            logger.warning("the collector takes no spans, they are dropped url=%s", self._where)
        elif was_away and not self._is_away:
            logger.info("the collector takes spans again url=%s", self._where)
        return result


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
