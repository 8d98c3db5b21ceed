"""Addresses of the page; every one is in docs/reference/edge-agent.md.

Everything that is loaded on this device, behind the Open Inference Protocol over HTTP.

1. An inspection is a model: the package in use answers, by the first twelve digits of its digest.
   Packages that are loaded by name are models too; an inspection of the same name goes first.
2. One call is answered at a time, and few may wait: the line's own pictures are judged by the same
   networks.
"""

import asyncio
import html
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
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

from lineside.compat.open_inference.http import (
    HttpAnswer,
    http_infer,
    http_live,
    http_model,
    http_model_ready,
    http_server,
    http_server_ready,
)
from lineside.compat.open_inference.models import (
    InferenceModels,
    ModelMeta,
    ServedModel,
    choose_version,
)
from lineside.compat.open_inference.tensors import InferRequest, InferResponse
from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    UnavailableError,
    encode,
    rfc3339,
    to_plain,
)
from lineside.edge.packages import Judge
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
from lineside.models import Predictor
from lineside.vision import Prediction, draw_heat, open_frame, thumbnail
from lineside.web.answers import SHARED_STATIC
from lineside.web.security import App

_MOST_WAITING = 4
_DIGITS = 12


class PageInference:
    """``InferenceModels`` of the page."""

    def __init__(
        self,
        inspections: Sequence[str],
        *,
        judge: Callable[[str], Judge | None],
        clock: Clock,
        named: InferenceModels | None = None,
    ) -> None:
        """Load nothing: predictors are those at work.

        Args:
            inspections: of this device.
            judge: what answers for one.
            clock: when pictures are said to be taken.
            named: packages that are loaded by name.
        """
        self._inspections = tuple(inspections)
        self._judge = judge
        self._named = named
        self._since: datetime = clock.now()
        self._places = threading.BoundedSemaphore(_MOST_WAITING)
        self._running = threading.Lock()
        self._served: dict[Digest, ServedModel] = {}

    def names(self) -> Sequence[str]:
        """Inspections with a package, then names of loaded packages."""
        used = [name for name in self._inspections if self._predictor(name) is not None]
        loaded = self._named.names() if self._named is not None else ()
        return tuple(dict.fromkeys([*used, *loaded]))

    def ready(self, name: str, *, version: str) -> bool:
        """A loaded package answers."""
        predictor = self._predictor(name)
        if predictor is not None:
            choose_version((_version_of(predictor),), version, name=name)
            return True
        return self._others(name).ready(name, version=version)

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        predictor = self._predictor(name)
        if predictor is None:
            return self._others(name).metadata(name, version=version)
        number = choose_version((_version_of(predictor),), version, name=name)
        with self._turn():
            return self._model(predictor).metadata(name, versions=(number,))

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        predictor = self._predictor(name)
        with self._turn():
            if predictor is None:
                return self._others(name).infer(name, version=version, request=request)
            number = choose_version((_version_of(predictor),), version, name=name)
            outputs = self._model(predictor).infer(request)
        return InferResponse(model=name, version=number, outputs=outputs, id=request.id)

    def _predictor(self, name: str) -> Predictor | None:
        judge = self._judge(name) if name in self._inspections else None
        return judge if isinstance(judge, Predictor) else None

    def _others(self, name: str) -> InferenceModels:
        if self._named is None:
            raise NotFoundError(
                f"no model {name[:60]!r}", where="models", fix="See /v2 for their names."
            )
        return self._named

    def _model(self, predictor: Predictor) -> ServedModel:
        """Kept while it is in use, so that its bare network is loaded once; called in turn."""
        digest = predictor.package.digest
        used = [self._predictor(name) for name in self._inspections]
        there = {one.package.digest for one in used if one is not None} | {digest}
        self._served = {key: model for key, model in self._served.items() if key in there}
        if digest not in self._served:
            self._served[digest] = ServedModel(predictor, since=self._since)
        return self._served[digest]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise UnavailableError(
                f"{_MOST_WAITING} calls wait already", where="infer", fix="Call again later."
            )
        try:
            with self._running:
                yield
        finally:
            self._places.release()


def _version_of(predictor: Predictor) -> str:
    return predictor.package.digest.removeprefix("sha256:")[:_DIGITS]


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
    inference: PageInference | None
    access: PageSignIn
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
            *(_inference_routes(behind.inference) if behind.inference is not None else ()),
            Mount("/static", files),
        ],
        exception_handlers={LinesideError: _failed, HTTPException: _no_such},
    )
    return AccessMiddleware(_patient(app), sign_in=behind.access, hosts=hosts, clock=behind.clock)


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
        out = "" if self._behind.access.open else _SIGN_OUT
        return HTMLResponse(self._filled(self._index, sign_out=out))

    async def sign_in_page(self, request: Request) -> Response:
        """The form; on a page without sign-in there is nothing to sign in to."""
        del request
        if self._behind.access.open:
            return RedirectResponse("/", status_code=303)
        return HTMLResponse(self._filled(self._sign_in, problem=""))

    async def sign_in(self, request: Request) -> Response:
        """Take the password."""
        address = request.client.host if request.client else ""
        password = _password((await request.body()).decode("utf-8", "replace"))
        try:
            name = await asyncio.to_thread(self._behind.access.sign_in, password, address=address)
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
        self._behind.access.sign_out(session_of(request.scope))
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
        camera, answered_in_thread = self._camera(request), request.query_params
        own = [one.id for one in self._behind.device.plant.inspection if one.camera == camera]
        own = [name for name in own if name in self._behind.device.inspections]
        inspection = answered_in_thread.get("inspection", own[0] if own else "")
        if inspection not in own:
            raise NotFoundError(
                f"no inspection {inspection[:60]!r} of {camera}",
                where="inspection",
                fix=f"Known: {', '.join(own)}.",
            )
        size = check_size(answered_in_thread.get("size", USUAL_SIZE))
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

    def answered_in_thread(answer: Callable[[Request], HttpAnswer]) -> Endpoint:
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
        Route("/v2", answered_in_thread(lambda _: http_server(models))),
        Route("/v2/health/live", answered_in_thread(lambda _: http_live())),
        Route("/v2/health/ready", answered_in_thread(lambda _: http_server_ready(away=()))),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(base, answered_in_thread(model)),
            Route(f"{base}/ready", answered_in_thread(ready)),
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
