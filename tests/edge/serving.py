"""The socket's services with everything behind them, and a client's stubs, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from lineside.compat.aws import agent_pb2_grpc
from lineside.compat.open_inference import open_inference_pb2_grpc
from lineside.core import decode
from lineside.edge.capture.buffer import Capturer
from lineside.edge.config import EdgeConfig
from lineside.edge.local_api import lineside_edge_v1_pb2_grpc
from lineside.edge.local_api.serving import Serving
from lineside.edge.messages import Counters
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S

STARTED_S = LONG_S


@dataclass(frozen=True, kw_only=True)
class Client:
    """Stubs of the services."""

    agent: Any
    edge: Any
    inference: Any


@dataclass(frozen=True, kw_only=True)
class Served:
    """A device's services, and a client of them."""

    serving: Serving
    client: Client
    counters: Counters
    clock: FakeClock
    config: EdgeConfig

    @property
    def capturer(self) -> Capturer:
        return self.serving._captures.capturer

    def captured(self) -> None:
        """Let the period of captures pass."""
        self.clock.advance(self.config.capture.push_period_s)
        self.capturer.tick()


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client on a socket."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=limits) as channel:
        grpc.channel_ready_future(channel).result(timeout=STARTED_S)
        yield Client(
            agent=agent_pb2_grpc.AgentStub(channel),
            edge=lineside_edge_v1_pb2_grpc.EdgeStub(channel),
            inference=open_inference_pb2_grpc.GRPCInferenceServiceStub(channel),
        )


@contextmanager
def served(config: EdgeConfig, *, clock: FakeClock, find_judge: Any = None) -> Iterator[Served]:  # noqa: ANN401  the stubs have no types
    """The services of a device without cameras, until the block ends."""
    counters = Counters()
    serving = Serving(config, clock=clock, counters=counters)
    try:
        serving.start(find_judge or (lambda _: None), inspections=("stock",))
        with connected(config.grpc) as client:
            yield Served(
                serving=serving, client=client, counters=counters, clock=clock, config=config
            )
    finally:
        serving.close()


def refused(call: Any, request: Any) -> tuple[str, str]:  # noqa: ANN401  the stubs have no types
    """Status code and sentence of a call that must be refused."""
    try:
        answer = call(request, timeout=STARTED_S)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"answered: {answer}")


def edge_config(folder: Path, **changes: Any) -> EdgeConfig:  # noqa: ANN401  any of its fields
    """Settings of a device whose socket lies in a short path."""
    settings: dict[str, Any] = {
        "device": "edge-1",
        "bus": "memory://edge",
        "plant": "plant.toml",
        "data_dir": str(folder / "data"),
        "grpc": f"unix://{folder}/agent.sock",
        "unsigned": "allowed",
        **changes,
    }
    return decode(EdgeConfig, settings, where="settings")
