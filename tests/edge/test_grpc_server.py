"""The server on its socket: codes of errors, addresses, and what is a bug."""

from pathlib import Path
from typing import Any

import pytest

from lineside.compat.aws import agent_pb2, agent_pb2_grpc
from lineside.compat.aws.edge_agent import FutureError
from lineside.core import (
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.core.errors import MissingExtraError
from lineside.edge.local_api import lineside_edge_v1_pb2 as edge_pb2
from lineside.edge.local_api import lineside_edge_v1_pb2_grpc
from lineside.edge.local_api.grpc_server import CODES, SocketServer, socket_path
from lineside.edge.packages import FullError
from lineside.testing import FakeClock
from lineside.web.grpc_server import code_of
from tests.edge.serving import connected, edge_config, refused, served


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidError("x"), "INVALID_ARGUMENT"),
        (FutureError("x"), "OUT_OF_RANGE"),
        (NotFoundError("x"), "NOT_FOUND"),
        (ConflictError("x"), "ALREADY_EXISTS"),
        (RefusedError("x"), "FAILED_PRECONDITION"),
        (UnavailableError("x"), "UNAVAILABLE"),
        (FullError("x"), "RESOURCE_EXHAUSTED"),
        (MissingExtraError("x"), "INTERNAL"),
    ],
)
def test_an_error_says_by_its_code_what_a_client_can_do(error: LinesideError, code: str) -> None:
    assert code_of(error, CODES) == code


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:///tmp/edge_agent", "/tmp/edge_agent"),  # noqa: S108  nothing is made there
        ("unix:/run/agent.sock", "/run/agent.sock"),
        ("unix:agent.sock", str(Path("agent.sock").absolute())),
    ],
)
def test_an_address_is_a_path(address: str, path: str) -> None:
    assert str(socket_path(address)) == path


@pytest.mark.parametrize(
    "address", ["", "unix:", "unix://", "127.0.0.1:50051", "unix:/" + "x" * 107]
)
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidError, match="no socket"):
        socket_path(address)


def test_settings_take_sockets_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="the address of a socket"):
        edge_config(tmp_path, grpc="0.0.0.0:50051")


class Broken(agent_pb2_grpc.AgentServicer):
    """Has a bug in one call."""

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802  the protocol's
        del request, context
        raise ZeroDivisionError("a secret")


def served_by(address: str, agent: object) -> SocketServer:
    return SocketServer(address, agent=agent, edge=lineside_edge_v1_pb2_grpc.EdgeServicer())


def test_a_bug_is_internal_and_keeps_its_details(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/s"
    server = served_by(address, Broken())
    try:
        with connected(address) as client:
            code, sentence = refused(client.agent.ListModels, agent_pb2.ListModelsRequest())
            assert (code, sentence) == ("INTERNAL", "something failed that nobody foresaw")
            code, _ = refused(client.agent.Predict, agent_pb2.PredictRequest())
            assert code == "INTERNAL"
    finally:
        server.close()
    assert not (tmp_path / "s").exists()


def test_a_socket_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot listen"):
        served_by(f"unix://{tmp_path}/none/s", Broken())


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("notes")
    with pytest.raises(ConflictError, match="something else is there"):
        served_by(f"unix://{tmp_path}/s", Broken())
    assert (tmp_path / "s").read_text() == "notes"


def test_a_contract_that_the_settings_leave_out_is_not_served(tmp_path: Path) -> None:
    with served(edge_config(tmp_path, contracts=[]), clock=FakeClock()) as device:
        asked = refused(device.client.agent.ListModels, agent_pb2.ListModelsRequest())
        assert asked[0] == "UNIMPLEMENTED"
        assert not device.client.edge.ListPackages(edge_pb2.ListPackagesRequest()).packages
