"""Addresses of the page; every one is in docs/reference/edge-agent.md."""

import asyncio
import html
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    UnavailableError,
    encode,
    rfc3339,
    to_plain,
)
from lineside.edge.page.access import (
    COOKIE,
    SESSION_S,
    AccessMiddleware,
    PageSignIn,
    bounded,
    problem,
    session_of,
)
from lineside.edge.page.facts import Device, no_result, page_status
from lineside.edge.page.gallery import (
    BOUNDARY,
    USUAL_SIZE,
    Gallery,
    Make,
    Viewers,
    check_size,
)
from lineside.edge.page.inference import PageInference
from lineside.models import Predictor
from lineside.models.serving.open_inference import (
    HttpAnswer,
    http_infer,
    http_live,
    http_model,
    http_model_ready,
    http_server,
    http_server_ready,
)
from lineside.vision import Prediction, draw_heat, open_frame, thumbnail
from lineside.web.answers import SHARED_STATIC
from lineside.web.security import App

FOLDER = Path(__file__).parent
_UNREAD_S = 10.0
_MOST_CALLS = 4
_HEAT_PX = 1280
_MOST_BYTES = 64_000_000

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageServices:
    """Services behind the page's routes."""

    device: Device
    gallery: Gallery
    watching: Viewers
    inference: PageInference
    door: PageSignIn
    clock: Clock
    secure: bool


def create_app(behind: PageServices, *, hosts: tuple[str, ...]) -> App:
    """The page with its gate before it."""
    pages = Pages(behind)
    files = StaticFiles(directory=FOLDER / "static")
    files.all_directories.append(SHARED_STATIC)
    app = Starlette(
        routes=[
            Route("/", pages.index),
            Route("/sign-in", pages.sign_in_page, methods=["GET"]),
            Route("/sign-in", pages.sign_in, methods=["POST"]),
            Route("/sign-out", pages.sign_out, methods=["POST"]),
            Route("/health", pages.health),
            Route("/favicon.ico", pages.favicon),
            Route("/api/status", pages.status),
            Route("/api/live", pages.live),
            Route("/api/latest/{inspection}", pages.latest),
            Route("/api/latest/{inspection}/picture", pages.picture),
            Route("/api/latest/{inspection}/heat", pages.heat),
            Route("/cameras/{camera}/live.mjpeg", pages.motion),
            Route("/cameras/{camera}/answers.mjpeg", pages.answers),
            *_inference_routes(behind.inference),
            Mount("/static", files),
        ],
        exception_handlers={LinesideError: _failed, HTTPException: _no_such},
    )
    return AccessMiddleware(_patient(app), door=behind.door, hosts=hosts, clock=behind.clock)


class Pages:
    """One method an address."""

    def __init__(self, behind: PageServices) -> None:
        self._behind = behind
        self._index = Template((FOLDER / "templates" / "index.html").read_text())
        self._sign_in = Template((FOLDER / "templates" / "sign_in.html").read_text())
        self._explaining = threading.Lock()

    async def index(self, request: Request) -> Response:
        """The page."""
        del request
        out = "" if self._behind.door.open else _SIGN_OUT
        return HTMLResponse(self._filled(self._index, sign_out=out))

    async def sign_in_page(self, request: Request) -> Response:
        """The form; on a page without sign-in there is nothing to sign in to."""
        del request
        if self._behind.door.open:
            return RedirectResponse("/", status_code=303)
        return HTMLResponse(self._filled(self._sign_in, problem=""))

    async def sign_in(self, request: Request) -> Response:
        """Take the password."""
        address = request.client.host if request.client else ""
        password = _password((await request.body()).decode("utf-8", "replace"))
        try:
            name = await asyncio.to_thread(self._behind.door.sign_in, password, address=address)
        except LinesideError as error:
            said = _PROBLEM.format(html.escape(f"{error.message}. {error.fix}"))
            page = self._filled(self._sign_in, problem=said)
            return HTMLResponse(page, status_code=error.http_status)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE, name, max_age=int(SESSION_S), httponly=True, samesite="strict",
            secure=self._behind.secure,
        )  # fmt: skip
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        self._behind.door.sign_out(session_of(request.scope))
        answer = RedirectResponse("/sign-in", status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    async def health(self, request: Request) -> Response:
        """For what watches devices: says that it works, and how many faults there are."""
        del request
        faults = len(self._behind.device.status().faults)
        said = {"state": "faults" if faults else "ok", "faults": faults}
        return _json(said, status=503 if faults else 200)

    async def favicon(self, request: Request) -> Response:
        """For browsers that ask for it by itself."""
        del request
        return FileResponse(SHARED_STATIC / "favicon.svg", media_type="image/svg+xml")

    async def status(self, request: Request) -> Response:
        """``lineside.page/1``."""
        del request
        viewers = self._behind.watching.viewers
        behind = self._behind
        found = await asyncio.to_thread(
            page_status, behind.device, behind.gallery, clock=behind.clock, viewers=viewers
        )
        return _json(found)

    async def live(self, request: Request) -> Response:
        """The next round of pictures."""
        after = _number(request.query_params.get("after", "0"))
        async with self._behind.watching.seat():
            body = await self._behind.watching.round(after)
        return Response(body, media_type="application/octet-stream")

    async def latest(self, request: Request) -> Response:
        """An inspection's last answer."""
        name = self._inspection(request)
        found = self._behind.gallery.latest(name)
        task = str(self._behind.device.plant.find_inspection(name).task)
        said = None if found is None else to_plain(found[0])
        words = no_result(task) if found is None else ""
        at = rfc3339(self._behind.clock.now())
        return _json({"inspection": name, "at": at, "prediction": said, "nothing": words})

    async def picture(self, request: Request) -> Response:
        """The picture that the last answer is of, as it came."""
        prediction, encoded = self._answered(request)
        kind = "image/png" if encoded.startswith(b"\x89PNG") else "image/jpeg"
        return Response(encoded, media_type=kind, headers={"x-lineside-frame": prediction.frame.id})

    async def heat(self, request: Request) -> Response:
        """Heat map of the last answer, laid over its picture."""
        prediction, encoded = self._answered(request)
        judge = self._behind.device.judge(prediction.inspection)
        if not isinstance(judge, Predictor) or judge.package.digest != prediction.package:
            raise NotFoundError(
                "the package of that answer is no longer in use",
                where=prediction.inspection,
                fix="Wait for the next picture.",
            )
        picture = await asyncio.to_thread(self._explained, judge, prediction, encoded=encoded)
        return Response(
            picture, media_type="image/jpeg", headers={"x-lineside-frame": prediction.frame.id}
        )

    async def motion(self, request: Request) -> Response:
        """A camera's pictures for programs and panels that show ``multipart/x-mixed-replace``."""
        camera = self._camera(request)
        return Motion(self._behind.watching, camera, make=self._behind.gallery.small)

    async def answers(self, request: Request) -> Response:
        """The same with the answer to that very picture written on it."""
        camera, asked = self._camera(request), request.query_params
        own = [one.id for one in self._behind.device.plant.inspection if one.camera == camera]
        own = [name for name in own if name in self._behind.device.inspections]
        inspection = asked.get("inspection", own[0] if own else "")
        if inspection not in own:
            raise NotFoundError(
                f"no inspection {inspection[:60]!r} of {camera}",
                where="inspection",
                fix=f"Known: {', '.join(own)}.",
            )
        size = check_size(asked.get("size", USUAL_SIZE))
        make = partial(self._behind.gallery.labelled, inspection=inspection, size=size)
        return Motion(self._behind.watching, camera, make=make)

    def _camera(self, request: Request) -> str:
        camera: str = request.path_params["camera"]
        if camera not in self._behind.gallery.cameras:
            known = ", ".join(self._behind.gallery.cameras)
            raise NotFoundError(
                f"no camera {camera[:60]!r}", where="camera", fix=f"Known: {known}."
            )
        return camera

    def _explained(self, judge: Predictor, prediction: Prediction, *, encoded: bytes) -> bytes:
        if not self._explaining.acquire(blocking=False):
            raise UnavailableError("a heat map is being made", where="heat", fix="Ask again.")
        try:
            frame = open_frame(
                encoded, camera=prediction.frame.camera, max_bytes=_MOST_BYTES,
                captured_at=prediction.frame.captured_at,
            )  # fmt: skip
            maps = judge.explain(frame)
            chosen = chosen_maps(prediction, maps)
            if not chosen:
                raise NotFoundError(
                    "nothing can be said of this picture",
                    where=prediction.inspection,
                    fix="Wait for a picture that was judged.",
                )
            drawn = draw_heat(frame.image, np.maximum.reduce(chosen))
            return thumbnail(drawn, width_px=_HEAT_PX)
        finally:
            self._explaining.release()

    def _inspection(self, request: Request) -> str:
        name: str = request.path_params["inspection"]
        if name not in self._behind.device.inspections:
            known = ", ".join(self._behind.device.inspections)
            raise NotFoundError(
                f"no inspection {name[:60]!r}", where="inspection", fix=f"Known: {known}."
            )
        return name

    def _answered(self, request: Request) -> tuple[Prediction, bytes]:
        name = self._inspection(request)
        found = self._behind.gallery.latest(name)
        if found is None:
            task = str(self._behind.device.plant.find_inspection(name).task)
            raise NotFoundError(no_result(task), where=name, fix="Wait for a picture.")
        return found

    def _filled(self, page: Template, **parts: str) -> str:
        device = html.escape(self._behind.device.name)
        plant = self._behind.device.plant
        return page.substitute(device=device, site=html.escape(plant.name or plant.site), **parts)


_SIGN_OUT = '<form method="post" action="/sign-out"><button class="plain">Sign out</button></form>'
_PROBLEM = '<p class="problem" role="alert">{}</p>'


class Motion(Response):
    """A stream until the page ends; who does not read for ``_UNREAD_S`` is let go by the gate."""

    def __init__(self, watching: Viewers, camera: str, *, make: Make) -> None:
        super().__init__()
        self._watching = watching
        self._camera = camera
        self._make = make

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI
        """Send until the client is gone or the page ends."""
        del scope
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}".encode()
        async with self._watching.seat():
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", kind)],
                }
            )
            gone = asyncio.create_task(_gone(receive))
            try:
                async for part in self._watching.motion(self._camera, make=self._make):
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body"})
            finally:
                gone.cancel()


async def _gone(receive: Any) -> None:  # noqa: ANN401  ASGI
    while (await receive())["type"] != "http.disconnect":
        pass


def chosen_maps(
    prediction: Prediction, maps: dict[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Maps of what is said to be there or unsure; all where nothing is."""
    said = {one.name for one in prediction.labels if one.decision != "absent"}
    return [found for name, found in maps.items() if name in said] or list(maps.values())


def _inference_routes(models: PageInference) -> list[Route]:
    """The Open Inference Protocol; answers are those of hub and socket."""

    def asked(answer: Callable[[Request], HttpAnswer]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return _sent(await asyncio.to_thread(answer, request))

        return endpoint

    def name(request: Request) -> tuple[str, str]:
        return request.path_params["model"], request.path_params.get("version", "")

    def model(request: Request) -> HttpAnswer:
        return http_model(models, name(request)[0], version=name(request)[1])

    def ready(request: Request) -> HttpAnswer:
        return http_model_ready(models, name(request)[0], version=name(request)[1])

    places = asyncio.Semaphore(_MOST_CALLS)

    async def infer(request: Request) -> Response:
        if places.locked():  # before a body is read: bodies are large
            raise UnavailableError(
                f"{_MOST_CALLS} calls are under way", where="infer", fix="Call again later."
            )
        async with places:
            body = await _whole_body(request)
            headers = {key.lower(): value for key, value in request.headers.items()}
            found, version = name(request)
            answer = await asyncio.to_thread(
                http_infer, models, found, body=body, headers=headers, version=version
            )
        return _sent(answer)

    routes = [
        Route("/v2", asked(lambda _: http_server(models))),
        Route("/v2/health/live", asked(lambda _: http_live())),
        Route("/v2/health/ready", asked(lambda _: http_server_ready(away=()))),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(base, asked(model)),
            Route(f"{base}/ready", asked(ready)),
            Route(f"{base}/infer", infer, methods=["POST"]),
        ]
    return routes


async def _whole_body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(_UNREAD_S):
            return await request.body()
    except TimeoutError:
        raise UnavailableError(
            f"the body did not come within {_UNREAD_S:g} s", where="infer", fix="Send it at once."
        ) from None


def _sent(answer: HttpAnswer) -> Response:
    return Response(
        answer.body, status_code=answer.status, media_type=answer.content_type,
        headers=dict(answer.headers),
    )  # fmt: skip


def _json(value: object, *, status: int = 200) -> Response:
    return Response(encode(value), status_code=status, media_type="application/json")


def _password(form: str) -> str:
    try:
        return parse_qs(form, max_num_fields=8).get("password", [""])[0]
    except ValueError:
        raise InvalidError("no form of this page", where="sign-in", fix="Use the page.") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidError(f"{text[:40]!r} is no number", where="after", fix="Write after=0.")
    return int(text)


async def _failed(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, LinesideError)  # noqa: S101  registered for it
    return Response(
        problem(error), status_code=error.http_status, media_type="application/problem+json"
    )


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for it
    told = NotFoundError(f"nothing at {request.url.path[:80]!r}", fix="Begin at /.")
    return Response(
        problem(told), status_code=error.status_code, media_type="application/problem+json"
    )


def _patient(app: App) -> App:
    """``app``, let go where whoever asked does not read the answer, or is gone."""

    async def patient(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI
        async def sent(message: Any) -> None:  # noqa: ANN401  ASGI
            await bounded(send, message, seconds=_UNREAD_S)

        try:
            await app(scope, receive, sent)
        except (TimeoutError, ClientDisconnect):
            return

    return patient
