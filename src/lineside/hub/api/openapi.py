"""The OpenAPI document, and ``/api/docs``, the same as one page without scripts.

Bodies come from the dependencies that read them (``takes``), answers from ``gives``, failures from
the contract of the path: ``problems`` writes them, here they are described.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from http import HTTPStatus
from typing import Any, TypedDict

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute

from lineside.core import encode, to_plain
from lineside.core.codec import json_schemas
from lineside.hub.access.permissions import COOKIE, stated_right
from lineside.hub.api.wire import JSON, Content
from lineside.hub.problems import MEDIA_TYPE, Problem, contract_of

_SCHEMAS = "#/components/schemas/"
_STATUSES = (400, 401, 403, 404, 409, 410, 413, 415, 429, 500, 501, 503)
_DEEP = 12


AwsError = TypedDict(  # ``__type`` would be mangled in a class
    "AwsError", {"message": str, "Message": str, "ErrorCode": str, "__type": str}
)
AwsError.__doc__ = (
    "A failure as AWS' JSON protocol writes it; ``x-amzn-ErrorType`` has the code too."
)


class InferenceError(TypedDict):
    """A failure as the Open Inference Protocol writes it."""

    error: str


class InferenceProblem(Problem):
    """A problem document with the member of the Open Inference Protocol."""

    error: str


_FAILURES: dict[str, tuple[tuple[str, Any], ...]] = {
    "problem": ((MEDIA_TYPE, Problem),),
    "aws": ((JSON, AwsError),),
    "jobs": ((JSON, AwsError),),
    "s3": (("application/xml", bytes), (MEDIA_TYPE, Problem)),
    "inference": ((JSON, InferenceError), (MEDIA_TYPE, InferenceProblem)),
}


def openapi_document(app: FastAPI, routes: Sequence[APIRoute]) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes."""
    document = get_openapi(title=app.title, version=app.version, routes=routes)
    shown = [route for route in routes if route.include_in_schema]
    kinds = {repr(one.kind): one.kind for route in shown for one in _contents(route)}
    for forms in _FAILURES.values():
        kinds |= {repr(kind): kind for _, kind in forms}
    kinds.pop(repr(bytes), None)
    schemas, definitions = json_schemas(list(kinds.values()), _SCHEMAS + "{name}")
    parts = _Schemas(dict(zip(kinds, to_plain(schemas), strict=True)), to_plain(definitions))
    for route in shown:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            operation |= {  # not FastAPI's summary, the function's name
                "summary": route.summary or "", "description": route.description,
                "x-right": stated_right(method, path=route.path_format),
            }  # fmt: skip
            _fill(operation, route, parts=parts)
    document["components"] = {
        "schemas": parts.definitions,
        "responses": {
            f"{contract}{status}": parts.failure(status, forms)
            for contract, forms in _FAILURES.items() for status in _STATUSES
        },
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
        },
    }  # fmt: skip
    document["security"] = [{"token": []}, {"session": []}]
    return document


def _fill(operation: dict[str, Any], route: APIRoute, *, parts: "_Schemas") -> None:
    """Body, answers and failures of one operation."""
    for body in _request_contents(route):
        operation["requestBody"] = {
            "required": bool(parts.required(body.kind)), "content": parts.media(body),
        }  # fmt: skip
    operation["responses"] = {
        f"{status}": {"$ref": f"#/components/responses/{contract_of(route.path)}{status}"}
        for status in _STATUSES
    }
    for given in vars(route.endpoint).get("gives", ()):
        content = parts.media(given)
        answer = {"description": HTTPStatus(given.status).phrase}
        other = operation["responses"].get(str(given.status), {}).get("content", {})
        if content or other:
            answer["content"] = other | content
        operation["responses"][str(given.status)] = answer


def _request_contents(route: APIRoute) -> Iterator[Content]:
    for inner in route.dependant.dependencies:  # codespell:ignore dependant
        if inner.call is not None and "takes" in getattr(inner.call, "__dict__", {}):
            yield vars(inner.call)["takes"]


def _contents(route: APIRoute) -> Iterator[Content]:
    yield from _request_contents(route)
    yield from vars(route.endpoint).get("gives", ())


class _Schemas:
    """Schemas by type, their definitions, and samples of them."""

    def __init__(self, schemas: dict[str, Any], definitions: dict[str, Any]) -> None:
        self._schemas = {**schemas, repr(bytes): {"type": "string", "format": "binary"}}
        self.definitions = definitions

    def media(self, content: Content) -> dict[str, Any]:
        """The ``content`` of a body; bytes have no example."""
        schema = self._schemas.get(repr(content.kind), {})
        if content.kind is bytes:
            return {name: {"schema": schema} for name in content.media_types}
        example = self.sample(schema) if content.example is None else content.example
        return {name: {"schema": schema, "example": example} for name in content.media_types}

    def failure(self, status: int, forms: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
        """A failure in one form or more."""
        phrase = HTTPStatus(status).phrase
        sample_problem = {
            "type": "about:blank", "title": phrase, "status": status, "detail": phrase,
            "where": "limit", "fix": "Give a number up to 1000.", "faults": [],
        }  # fmt: skip
        content: dict[str, Any] = {}
        for media_type, kind in forms:
            error = {"error": phrase} if kind is InferenceProblem else {}
            example = {**sample_problem, **error} if media_type == MEDIA_TYPE else None
            content |= self.media(Content(kind=kind, media_types=(media_type,), example=example))
        return {"description": phrase, "content": content}

    def required(self, kind: Any) -> Any:  # noqa: ANN401  any type
        """The fields without which such a body is refused."""
        return kind is bytes or self._resolved(self._schemas[repr(kind)]).get("required")

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").removeprefix(_SCHEMAS)
        return self.definitions[name] if name else schema

    def sample(self, schema: Any, *, depth: int = 0, name: str = "") -> Any:  # noqa: ANN401, PLR0911  JSON
        """A small value that the schema allows, always the same."""
        if not isinstance(schema, dict) or depth > _DEEP:
            return None
        schema = self._resolved(schema)
        known = [schema[key] for key in ("const", "default") if key in schema]
        known += [*schema.get("examples", ()), *schema.get("enum", ())]
        if known:
            return known[0]
        if "anyOf" in schema:
            choices = [self._resolved(one) for one in schema["anyOf"]]
            none = any(one.get("type") == "null" for one in choices)
            return None if none else self.sample(choices[0], depth=depth + 1, name=name)
        kind = schema.get("type")
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                needed = schema.get("required", ())
                known = schema.get("properties", {})
                return {
                    key: self.sample(known[key], depth=depth + 1, name=key)
                    for key in known if key in needed or depth == 0
                }  # fmt: skip
            case "array":
                few = [self.sample(one, depth=depth + 1) for one in schema.get("prefixItems", ())]
                more = schema.get("items")
                if few or not more or depth > 2:
                    return few
                return [self.sample(more, depth=depth + 1, name=name)]
            case "string":
                return _text(name)
            case "integer" | "number":
                return max(1, schema.get("minimum", 1))
            case "boolean":
                return True
            case _:
                return {} if depth == 0 else None


_SAMPLES = (
    (("digest", "hash", "previous", "package"), "sha256:" + 64 * "0"),
    (("_at", "at", "since", "until", "time", "expires"), "2026-01-01T12:00:00.000Z"),
    (("camera",), "rack"),
    (("colour", "label", "labels"), "red"),
)


def _text(name: str) -> str:
    for endings, text in _SAMPLES:
        if name in endings or name.endswith(tuple(end for end in endings if end[0] == "_")):
            return text
    return name or "text"


router = APIRouter()

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lineside API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>{title} {version}</h1>
<p>Failures are <code>application/problem+json</code> (RFC 9457). The same as a document:
<a href="/api/openapi.json">openapi.json</a>.</p>
{routes}</main></body></html>"""


@router.get("/api/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """Every path with its parameters."""
    document = request.app.openapi()
    routes = "\n".join(
        _section(method, path, operation, document=document)
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
    )
    info = document["info"]
    return HTMLResponse(
        _PAGE.format(title=escape(info["title"]), version=escape(info["version"]), routes=routes)
    )


@router.get("/api/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """OpenAPI 3.1."""
    return Response(encode(request.app.openapi()), media_type="application/json")


def _section(method: str, path: str, operation: dict[str, Any], *, document: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(place)}</td><td>{escape(kind)}</td>"
        f"<td>{escape(meaning)}</td></tr>"
        for name, place, kind, meaning in parameters(operation)
    )
    head = "".join(f"<th>{one}</th>" for one in ("parameter", "in", "type", "meaning"))
    lines = [
        operation["summary"], operation["description"], f"Right: {operation['x-right']}.",
        *(f"Body: {words}" for _, words in bodies(operation, document)),
        *(f"{status}: {name} {words}" for status, name, words in answers(operation, document)),
    ]  # fmt: skip
    return "".join([
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>",
        *(f"<p>{escape(line)}</p>" for line in lines),
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else "",
        "</section>",
    ])  # fmt: skip


def parameters(operation: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, place (``path``, ``query``, ``header``), kind and meaning of each parameter."""
    for one in operation.get("parameters", ()):
        schema = one["schema"]
        kinds = [each.get("type") for each in (*schema.get("anyOf", ()), schema)]
        words = [
            ", ".join(schema.get("enum", ())) or str(next(filter(None, kinds))),
            f"{schema['minimum']} to {schema['maximum']}" if "maximum" in schema else "",
            "needed" if one.get("required") else "",
            f"default {schema['default']}".replace("True", "true") if schema.get("default") else "",
        ]
        meaning = one.get("description", "")
        yield one["name"], one["in"], "; ".join(filter(None, words)), meaning


def bodies(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Record of a body and its members, ``?`` where one may be left out; or "" and media types."""
    content = operation.get("requestBody", {}).get("content", {})
    yield from _named(content, document["components"]["schemas"], mark="?")


def answers(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Status of each answer that is no failure; its record and members, or "" and media types."""
    for status, answer in sorted(operation["responses"].items()):
        if "$ref" not in answer:
            named = _named(answer.get("content", {}), document["components"]["schemas"])
            for name, words in list(named) or [("", "")]:
                yield status, name, words


def _named(
    content: dict[str, Any], known: dict[str, Any], *, mark: str = ""
) -> Iterator[tuple[str, str]]:
    others = []
    for media_type, media in content.items():
        schema = media["schema"]
        name = schema.get("$ref", "").removeprefix(_SCHEMAS)
        parts = known[name].get("properties", {}) if name else {}
        if {*parts} == {"items", "next", "cursor"}:
            schema = parts["items"]["items"]
            name = "list of " + schema.get("$ref", schema.get("type", "value")).removeprefix(
                _SCHEMAS
            )
        if parts:
            yield name, members(schema, known, mark)
        else:
            others.append(media_type)
    if others:
        yield "", ", ".join(others)


def members(schema: Any, known: dict[str, Any], mark: str, *, depth: int = 0) -> str:  # noqa: ANN401  JSON
    """Members of a JSON value, such as ``{name, days?, windows: [{begins, ends}]}``."""
    schema = known[schema["$ref"].removeprefix(_SCHEMAS)] if "$ref" in schema else schema
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    inner = partial(members, known=known, mark=mark, depth=depth + 1)
    match schema:
        case {"$ref": _}:
            return members(schema, known, mark, depth=depth)
        case {"properties": parts} if depth < 3:
            needed = schema.get("required", ())
            marked = {key: key if key in needed else key + mark for key in parts}
            texts = {marked[key]: inner(one) for key, one in parts.items()}
            return "{" + ", ".join(f"{a}: {b}" if b else a for a, b in texts.items()) + "}"
        case {"type": "array", "items": dict(one)}:
            return f"[{inner(one)}]"
        case {"type": "array"}:
            return "[]"
        case {"type": "object"}:
            return "{}"
        case _:
            return ""
