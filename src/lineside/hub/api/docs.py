"""``/api/docs``: this interface as one page, written from its own OpenAPI document; no script."""

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from lineside.core import encode

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
        _operation(method, path, operation)
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


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(operation.get('summary', ''))}</p>",
        f"<p>{escape(operation.get('description', ''))}</p>",
    ]
    rows = "".join(_parameters(operation))
    if rows:
        parts.append(f"<table><thead><tr><th>parameter</th><th>in</th><th>type</th></tr></thead>"
                     f"<tbody>{rows}</tbody></table>")  # fmt: skip
    body = operation.get("requestBody", {}).get("content", {})
    parts += [f"<p>Body: <code>{escape(kind)}</code></p>" for kind in body]
    return "".join([*parts, "</section>"])


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        kind = parameter.get("schema", {}).get("type", "text")
        needed = ", needed" if parameter.get("required") else ""
        yield (
            f"<tr><td><code>{escape(parameter['name'])}</code></td>"
            f"<td>{escape(parameter['in'])}</td><td>{escape(str(kind))}{needed}</td></tr>"
        )
