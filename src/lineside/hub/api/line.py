"""``/mqttingest``, and ``/api/v1``: twin, orders, events, figures, trace, rejected messages."""

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, TypedDict

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from lineside.core import InvalidError, Json, to_plain
from lineside.hub.api.documents import collection_page
from lineside.hub.api.wire import (
    Body,
    Hub,
    Limit,
    Page,
    Requester,
    json_body,
    json_response,
    next_cursor,
    page_response,
    raw_body,
    responds,
    whole_number,
)
from lineside.hub.eventlog.trace import at_path
from lineside.hub.ingest.line_figures import ALL, COLUMNS, LineFigures
from lineside.hub.problems import WrongTypeError
from lineside.hub.tables import csv_table
from lineside.hub.views import DeadLetterView, LoggedEvent, Trace, plain
from lineside.streams import VERDICT_TYPE, verdict_data
from lineside.streams.verdicts import VerdictData
from lineside.twin import (
    MEDIA,
    ExportForm,
    LineState,
    Order,
    TwinExport,
    export_bytes,
    export_form,
    twin_export,
)

router = APIRouter(prefix="/api/v1", tags=["line"])
ingest_router = APIRouter(tags=["machines"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """Body of ``POST /orders``."""

    colour: str


class StoredMessage(TypedDict):
    """A message in the log; ``duplicate``: it stood there already."""

    id: str
    position: int
    duplicate: bool


class DeadLetterPage(TypedDict):
    """A page of refused messages, with all of them counted by reason."""

    items: list[DeadLetterView]
    next: str | None
    cursor: str
    counts: dict[str, int]


@router.get("/twin", summary="The whole twin")
@responds(LineState)
def get_twin(
    hub: Hub, *,
    at: Annotated[str, Query(description="RFC 3339: as it stood then; now where empty")] = "",
) -> Response:  # fmt: skip
    """Every value with its time and its evidence; ``at``: after what had arrived by then."""
    return json_response(hub.twin(at)[0])


@router.get("/twin/export", summary="The twin as a file")
@responds(TwinExport)
@responds(bytes, *(MEDIA[form] for form in (ExportForm.AAS, ExportForm.AASX)))
def export_twin(
    hub: Hub, *,
    at: Annotated[str, Query(description="RFC 3339: as it stood then; now where empty")] = "",
    form: Annotated[
        str, Query(alias="format", description="json, aas (Asset Administration Shell), aasx")
    ] = ExportForm.JSON.value,
) -> Response:  # fmt: skip
    """With the plan of the plant; ``aas`` and ``aasx`` need the extra ``aas``."""
    wanted = export_form(form, where="format")
    state, moment = hub.twin(at)
    software = f"lineside {version('lineside')}"
    export = twin_export(state, plant=hub.plant, at=moment, software=software)
    ending = "aasx" if wanted is ExportForm.AASX else "json"
    name = f"twin-{moment:%Y-%m-%dT%H%M%SZ}.{ending}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(export_bytes(export, wanted), media_type=MEDIA[wanted], headers=headers)


@router.get("/twin/documents/{collection}", summary="Documents as the reference has them")
@responds(Page[dict[str, Any]])
def get_documents(hub: Hub, collection: str, *, after: str = "", limit: Limit = 100) -> Response:
    """``sagemaker_stock_inference``, ``digital_twin_orders``, and those of the routes."""
    items, following = collection_page(
        hub, collection, after=whole_number(after, name="after"), limit=limit
    )
    return page_response(items, following=following)


@router.get("/twin/{path:path}", summary="One value of the twin")
@responds(Any)
def get_value(hub: Hub, path: str, *, fields: str = "") -> Response:
    """A path such as ``slots/A1``; ``fields`` keeps only these keys."""
    value = at_path(to_plain(hub.ledger.state), path)
    return json_response(_only(value, tuple(name for name in fields.split(",") if name)))


def _only(value: Json, fields: tuple[str, ...]) -> Json:
    if not fields or not isinstance(value, dict):
        return value
    if any(name in value for name in fields):
        return {name: value[name] for name in fields if name in value}
    return {key: _only(item, fields) for key, item in value.items()}


@router.get("/orders", summary="Orders, newest first")
@responds(Page[Order])
def list_orders(hub: Hub) -> Response:
    """Accepted ones; refused ones are events."""
    return page_response(hub.orders.all())


@router.post("/orders", summary="Order a piece")
@responds(Order, status=201)
def place_order(
    hub: Hub, who: Requester, *, order: Annotated[NewOrder, Depends(json_body(NewOrder))]
) -> Response:
    """201 with the order; 409 with the sentence why not."""
    return json_response(hub.orders.place(order.colour, by=who.name), status=201)


@router.get("/orders/{order}", summary="One order")
@responds(Order)
def get_order(hub: Hub, order: str) -> Response:
    """With every step."""
    return json_response(hub.orders.one(order))


@router.get("/events", summary="The event log")
@responds(Page[LoggedEvent])
def list_events(
    hub: Hub, *, after: str = "", kind: Annotated[str, Query(alias="type")] = "",
    source: str = "", subject: str = "", newest_first: bool = False, limit: Limit = 100,
) -> Response:  # fmt: skip
    """Oldest first from ``after``, a log position; ``newest_first`` turns it round.

    Each is the CloudEvent, with its place in the log and its hash under ``log``.
    """
    page = hub.events.page(
        after=whole_number(after, name="after"), kind=kind, source=source, subject=subject,
        newest_first=newest_first, limit=limit,
    )  # fmt: skip
    following = next_cursor(page, limit, key=lambda view: view.position)
    return page_response([plain(view) for view in page], following=following)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedVerdict:
    """A verdict with its event and its place in the log; ``time``: of the part's newest frame."""

    id: str
    position: int
    source: str
    time: datetime
    verdict: VerdictData


@router.get("/verdicts", summary="Verdicts on parts")
@responds(Page[LoggedVerdict])
def list_verdicts(
    hub: Hub, *, line: str = "", after: str = "", newest_first: bool = False, limit: Limit = 100
) -> Response:
    """One for each part of a line, or of all; in log order, as ``/events`` lists them."""
    page = hub.events.page(
        after=whole_number(after, name="after"), kind=VERDICT_TYPE, subject=line,
        newest_first=newest_first, limit=limit,
    )  # fmt: skip
    following = next_cursor(page, limit, key=lambda view: view.position)
    return page_response(
        [
            LoggedVerdict(
                id=one.id, position=one.position, source=one.source, time=one.time,
                verdict=verdict_data(one.event["data"], where=one.id),
            )
            for one in page
        ],
        following=following,
    )  # fmt: skip


_FIGURES = {
    "line": "plates", "period": "Early", "begin": "2026-01-01T05:00:00.000Z",
    "end": "2026-01-01T13:00:00.000Z", "parts": 4501,
    "verdicts": {"reject": 90, "incomplete": 2, "review": 43, "ok": 4366},
    "reject_rate": 0.02, "review_share": 0.01, "first_pass_yield": 0.97,
    "latency_p50_ms": 31.2, "latency_p99_ms": 74.6,
    "limit_reject": 0.015, "goal_yield": 0.975, "limit_latency_ms": 150.0,
    "reasons": [{"verdict": "reject", "reason": "scratch", "parts": 35, "share": 0.389}],
    "steps": [
        {"begin": "2026-01-01T05:00:00.000Z", "parts": 560, "rejects": 6, "reject_rate": 0.0107}
    ],
}  # fmt: skip


@router.get("/lines/{line}/figures", summary="Figures of a line")
@responds(LineFigures, example=_FIGURES)
@responds(bytes, "text/csv")
def get_figures(
    hub: Hub, line: str, *,
    span: Annotated[str, Query(description="shift (the default), hour or today")] = "",
    at: Annotated[
        str, Query(description="RFC 3339: the shift or day it lies in, the hour before it; now")
    ] = "",
    form: Annotated[
        str, Query(alias="format", description="csv: a row per five minutes, verdict and reason")
    ] = "json",
) -> Response:  # fmt: skip
    """Parts, rejects against the limit, yield, latency, reasons, by hour; ``all``: every line."""
    line, period = hub.counts.period_of(line, span=span, at=at, now=hub.clock.now())
    if form == "json":
        return json_response(hub.counts.figures(line, period))
    if form != "csv":
        raise InvalidError(f"no form {form!r}", where="format", fix="Known: json, csv.")
    name = f"figures-{line or ALL}-{period.begin:%Y-%m-%dT%H%MZ}.csv"
    rows = csv_table(hub.counts.rows(line, period), COLUMNS)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/events/{event}", summary="One event")
@responds(LoggedEvent)
def get_event(hub: Hub, event: str) -> Response:
    """With its place in the log and its hash."""
    return json_response(plain(hub.events.one(event)))


@router.get("/trace/{identifier:path}", summary="Back to the evidence")
@responds(Trace)
def get_trace(hub: Hub, identifier: str) -> Response:
    """From an event, a frame or a twin path; recomputes the chains on the way."""
    return json_response(hub.tracer.trace(identifier))


@router.get("/dead-letters", summary="Refused messages, newest first")
@responds(DeadLetterPage)
def list_dead_letters(hub: Hub, *, before: str = "", limit: Limit = 100) -> Response:
    """With reason, time and topic; counted by reason."""
    page = hub.dead_letters.page(before=before, limit=limit)
    following = next_cursor(page, limit, key=lambda letter: letter.id)
    return json_response(
        DeadLetterPage(
            items=page, next=following or None, cursor="before", counts=hub.dead_letters.counts()
        )
    )


@router.get("/dead-letters/{letter}", summary="One refused message")
@responds(DeadLetterView)
def get_dead_letter(hub: Hub, letter: str) -> Response:
    """Why, when, from where."""
    return json_response(hub.dead_letters.one(letter))


@router.get("/dead-letters/{letter}/payload", summary="Its bytes as they came")
@responds(bytes, "application/octet-stream")
def get_payload(hub: Hub, letter: str) -> Response:
    """Never shown by a browser: it is offered as a download."""
    headers = {"Content-Disposition": f'attachment; filename="{hub.dead_letters.one(letter).id}"'}
    payload = hub.dead_letters.payload(letter)
    return Response(payload, media_type="application/octet-stream", headers=headers)


@ingest_router.post(
    "/mqttingest", summary="Hand in one factory message", openapi_extra=raw_body("application/json")
)
@responds(StoredMessage)
@responds(StoredMessage, status=201)
def ingest(hub: Hub, request: Request, *, body: Body) -> Response:
    """JSON with ``topic``. 201: stored; 200: stored before; 400: a dead letter, named ``where``."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if kind.lower() not in ("application/json", "text/json", "text/plain"):
        raise WrongTypeError(f"{kind!r} is no JSON", fix="Send application/json.")
    outcome = hub.plant_ingest.take_http(body)
    if isinstance(outcome, DeadLetterView):
        raise InvalidError(
            f"{outcome.reason}: {outcome.detail}",
            where=f"/api/v1/dead-letters/{outcome.id}",
            fix="Mend the message; the bytes are kept there.",
        )
    logged = outcome.logged[0]
    stored_message = StoredMessage(
        id=logged.entry.id, position=logged.position, duplicate=logged.duplicate
    )
    return json_response(stored_message, status=200 if logged.duplicate else 201)
