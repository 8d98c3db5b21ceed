"""What a request may reach: the rooms' open things and the hub's own parts, handed to every route.

Everything here is synchronous and safe from several threads; async code calls it by
``asyncio.to_thread`` (a plain ``def`` route does so by itself). Failures are the six errors of
``core``; the application turns them into problem documents, or into a page for a browser.

| Part | Calls |
|---|---|
| ``cameras`` | ``all() -> tuple[CameraView, ...]``, ``one(id)`` |
| ``frames`` | ``page(camera=, since=, until=, before=, limit=) -> list[FrameRow]``, ``view(id) -> FrameView``, ``picture(id)``, ``thumbnail(id) -> Picture``, ``activation(id, label=, package="") -> Picture`` (PNG) |
| ``datasets`` | ``all() -> tuple[DatasetView, ...]``, ``one(name)``, ``teach(name, selection, by=) -> DatasetView``, ``freeze(name, by=) -> VersionView``, ``version(name, number)``, ``leaks(name, number)`` |
| ``packages`` | ``all() -> tuple[PackageView, ...]``, ``one(digest)``, ``content(digest)``, ``add(data, by=)``, ``use(digest, inspection=, by=, reason=)``, ``try_picture(digest, data) -> Tried`` |
| ``runs`` | ``all() -> tuple[RunView, ...]``, ``one(id)``, ``start(RunRequest, by=)``, ``cancel(id)``, ``resume(id)`` |
| ``events`` | ``page(after=, type=, source=, subject=, limit=) -> list[EventView]``, ``one(id)`` |
| ``orders`` | ``place(colour, by=) -> Order`` (``ConflictError`` with the sentence), ``all() -> tuple[Order, ...]`` |
| ``twin`` | ``state -> LineState`` |
| ``devices`` | ``all() -> tuple[DeviceView, ...]`` |
| ``dead_letters`` | ``page(after=, limit=) -> list[DeadLetterView]``, ``payload(id) -> bytes``, ``counts() -> dict[str, int]`` |
| ``stats`` | ``plain() -> dict`` |
| ``tracer`` | ``trace(id) -> Trace`` |

A route finds them as ``request.app.state.services`` and who asks as ``request.state.identity``
(``views.Identity``; its ``name`` is the ``by`` of every call). Records are in ``hub/views.py``.
"""
