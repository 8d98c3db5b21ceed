"""``/ws`` and the twin as server-sent events."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import Response, StreamingResponse
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect

from lineside.core import LinesideError
from lineside.hub.api.wire import responds, services_of
from lineside.hub.live import SESSION_OVER, Socket
from lineside.hub.services import Services

router = APIRouter(tags=["live"])


@router.websocket("/ws")
async def live_socket(websocket: WebSocket) -> None:
    """The live socket of ``docs/reference/messages.md``."""
    hub: Services = websocket.app.state.services
    await websocket.accept()
    if websocket.state.identity is None:
        await websocket.close(SESSION_OVER, "not signed in")
        return

    async def receive() -> str | None:
        try:
            return await websocket.receive_text()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return None  # RuntimeError: it left while a message was on its way

    async def send(message: bytes) -> None:
        try:
            await websocket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError):
            # The page left while a message was under way; ``receive`` says so at once.
            await asyncio.Event().wait()

    async def close(code: int, reason: str) -> None:
        await websocket.close(code, reason)

    signed_in = _signed_in(hub, websocket.scope)
    await hub.live.serve(Socket(receive=receive, send=send, close=close, signed_in=signed_in))


@router.get("/api/v1/twin/live", summary="The twin as server-sent events")
@responds(bytes, "text/event-stream")
async def twin_live(request: Request) -> Response:
    """``snapshot`` first, then ``patch`` events (RFC 6902)."""
    hub = await services_of(request)
    signed_in = _signed_in(hub, request.scope)
    return StreamingResponse(hub.live.twin_stream(signed_in), media_type="text/event-stream")


def _signed_in(hub: Services, scope: Scope) -> Callable[[], Awaitable[bool]]:
    """Return a check that the session or token of this request still holds."""
    session, token = scope["state"]["session"], scope["state"]["token"]

    async def check() -> bool:
        try:
            if session:
                await asyncio.to_thread(hub.auth.session, session)
            else:
                await asyncio.to_thread(hub.auth.identify, token)
        except LinesideError:
            return False
        return True

    return check
