"""Spans of OpenTelemetry, where the collector does not take them."""

import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lineside.links import otlp
from lineside.testing.links import LONG_S

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed"
)
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Overloaded(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def test_a_collector_that_takes_nothing_holds_up_the_end_for_the_limit_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "_CLOSE_S", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    with ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="collector")
        thread.start()
        tracing = otlp.Tracing(
            f"http://127.0.0.1:{server.server_port}", service="lineside-edge", instance="edge-1"
        )
        tracing.span("frame", start=AT, end=AT, attributes={"camera": "rack"})
        tracing.close()
        server.shutdown()
        thread.join(LONG_S)


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_CLOSE_S", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        tracing = otlp.Tracing(url, service="lineside-edge", instance="edge-1")
        tracing.span("frame", start=AT, end=AT, attributes={})
        tracing.close()
