"""The Open Inference Protocol over HTTP, without a web server: what each path answers.

Hub and device mount the same answers. Failures are ``{"error": …}`` with a status; an unknown model
or version is 404, a busy one 503.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from lineside.compat.open_inference.models import InferenceModels
from lineside.compat.open_inference.tensors import read_request, write_response
from lineside.core import InvalidError, LinesideError, encode

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
_JSON = "application/json"
_RAW = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """The response that a web server sends."""

    body: bytes
    status: int = 200
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def server_name() -> tuple[str, str]:
    """Name and version of this server."""
    return "lineside", version("lineside")


def http_failure(error: LinesideError) -> HttpAnswer:
    """An error in the protocol's form."""
    return HttpAnswer(body=encode({"error": str(error)}), status=error.http_status)


def http_live() -> HttpAnswer:
    """The process answers."""
    return HttpAnswer(body=encode({"live": True}))


def http_server_ready(*, away: Sequence[str]) -> HttpAnswer:
    """Return whether the server can do its work."""
    if away:
        words = ", ".join(away)
        return HttpAnswer(body=encode({"ready": False, "error": f"away: {words}"}), status=503)
    return HttpAnswer(body=encode({"ready": True}))


def http_server(models: InferenceModels) -> HttpAnswer:
    """The server's metadata; the names of its models stand beside what the protocol asks for."""
    name, number = server_name()
    facts = {"name": name, "version": number, "extensions": EXTENSIONS, "models": models.names()}
    return HttpAnswer(body=encode(facts))


def http_model(models: InferenceModels, name: str, *, version: str = "") -> HttpAnswer:
    """A model's metadata."""
    try:
        return HttpAnswer(body=encode(models.metadata(name, version=version)))
    except LinesideError as error:
        return http_failure(error)


def http_model_ready(models: InferenceModels, name: str, *, version: str = "") -> HttpAnswer:
    """Return whether a model answers."""
    try:
        ready = models.ready(name, version=version)
    except LinesideError as error:
        return http_failure(error)
    return HttpAnswer(body=encode({"name": name, "ready": ready}), status=200 if ready else 503)


def http_infer(
    models: InferenceModels,
    name: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    version: str = "",
) -> HttpAnswer:
    """Answer a call.

    Args:
        models: that are served.
        name: of the model.
        body: of the request.
        headers: of the request, names in lower case.
        version: "" for the newest.
    """
    try:
        if headers.get("content-encoding", "identity") != "identity":
            raise InvalidError(
                "a compressed body", where="Content-Encoding", fix="Send it as it is."
            )
        request = read_request(body, header_bytes=_length(headers.get(HEADER_LENGTH)))
        response = models.infer(name, version=version, request=request)
    except LinesideError as error:
        return http_failure(error)
    predictions, length = write_response(response, request)
    if length is None:
        return HttpAnswer(body=predictions)
    return HttpAnswer(body=predictions, content_type=_RAW, headers={HEADER_LENGTH: str(length)})


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidError(
            f"{text[:40]!r} is no length", where=HEADER_LENGTH, fix="Write a whole number."
        )
    return int(text)
