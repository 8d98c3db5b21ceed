"""The device's gRPC services on a Unix socket.

1. Only ``unix:`` addresses: the channel is not encrypted and asks for no name, so who may speak is
   a matter of who may open the socket (mode 0660).
2. Beyond 32 calls under way further ones are RESOURCE_EXHAUSTED.
3. A socket that somebody answers on is not taken from them; one that was left behind is.
"""

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from lineside.compat.aws import agent_pb2_grpc
from lineside.compat.aws.edge_agent import FutureError
from lineside.compat.open_inference import open_inference_pb2_grpc
from lineside.compat.open_inference.grpc import InferenceService
from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.edge.local_api import lineside_edge_v1_pb2_grpc
from lineside.edge.local_api.grpc_edge import MOST_WATCHERS
from lineside.edge.packages import FullError
from lineside.web.grpc_server import GrpcServer

logger = logging.getLogger(__name__)

_AT_ONCE = 4
_WAITING = 32
_MODE = 0o660
_KNOCK_S = 0.5

CODES = (
    (FullError, "RESOURCE_EXHAUSTED"),
    (FutureError, "OUT_OF_RANGE"),
    (InvalidError, "INVALID_ARGUMENT"),
    (NotFoundError, "NOT_FOUND"),
    (ConflictError, "ALREADY_EXISTS"),
    (RefusedError, "FAILED_PRECONDITION"),
    (UnavailableError, "UNAVAILABLE"),
)
"""Status codes of errors, by kind."""


class SocketServer:
    """Serves until it is closed."""

    def __init__(
        self,
        address: str,
        *,
        edge: Any,  # noqa: ANN401  generated types
        agent: Any = None,  # noqa: ANN401  likewise
        inference: InferenceService | None = None,
    ) -> None:
        """Bind the socket and begin to answer.

        Args:
            address: ``unix:///path`` or ``unix:path``.
            edge: of ``lineside.edge.v1``.
            agent: of ``AWS.SageMaker.Edge``; None: not served.
            inference: of the Open Inference Protocol; None: not served.

        Raises:
            InvalidError: no address of a socket.
            ConflictError: another program answers there.
            UnavailableError: the socket cannot be made.
        """
        self._path = socket_path(address)
        _check_free(self._path)
        self._serving = GrpcServer(threads=_AT_ONCE + MOST_WATCHERS, waiting=_WAITING, codes=CODES)
        server = self._serving.server
        lineside_edge_v1_pb2_grpc.add_EdgeServicer_to_server(edge, server)
        if agent is not None:
            agent_pb2_grpc.add_AgentServicer_to_server(agent, server)
        if inference is not None:
            open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, server)
        self._serving.start(f"unix:{self._path}", mode=_MODE)
        logger.info("grpc serves address=unix:%s", self._path)

    def close(self) -> None:
        """Let calls under way end, then leave; the socket goes."""
        self._serving.close()
        with suppress(OSError):
            self._path.unlink()


def socket_path(address: str) -> Path:
    """The absolute path of ``unix:///path`` or ``unix:path``; ``InvalidError`` for others."""
    rest = address.removeprefix("unix:")
    path = Path(rest.removeprefix("//")).absolute()
    longest = 107  # sun_path of sockaddr_un, less its NUL
    if rest == address or not rest.strip("/") or len(os.fsencode(path)) > longest:
        raise InvalidError(
            f"{address[:120]!r} is no socket",
            where="grpc",
            fix=f'Write grpc = "unix:///run/lineside/agent", at most {longest} bytes of path.',
        )
    return path


def _check_free(path: Path) -> None:
    """Refuse a socket that somebody answers on, and a path that is something else."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConflictError("something else is there", where=str(path), fix="Name another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(_KNOCK_S)
        try:
            knock.connect(str(path))
        except OSError:
            return  # left behind; binding replaces it
    raise ConflictError(
        "another program answers there", where=str(path), fix="Stop it, or name another path."
    )
