"""The Open Inference Protocol over HTTP, without a web server: what each path answers.

Hub and device mount the same answers. Failures are ``{"error": …}`` with a status; an unknown model
or version is 404, a busy one 503.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from lineside.core import InvalidError, LinesideError, NotFoundError, encode
from lineside.models.serving.open_inference import ModelMeta
from lineside.models.serving.tensors import (
    InferRequest,
    InferResponse,
    read_request,
    write_response,
)

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
_JSON = "application/json"
_RAW = "application/octet-stream"


class InferenceModels(Protocol):
    """Models by name and version; "" is the newest version. Safe from several threads."""

    def names(self) -> Sequence[str]:
        """Every model that is served."""
        ...

    def ready(self, name: str, *, version: str) -> bool:
        """Whether a call would be answered; ``NotFoundError`` if there is no such model."""
        ...

    def metadata(self, name: str, *, version: str) -> ModelMeta:
        """``NotFoundError`` if there is no such model."""
        ...

    def infer(self, name: str, *, version: str, request: InferRequest) -> InferResponse:
        """Answer.

        Raises:
            NotFoundError: no such model or version.
            InvalidError: inputs that do not fit.
            UnavailableError: too many calls at once.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What a web server sends."""

    body: bytes
    status: int = 200
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def server_name() -> tuple[str, str]:
    """Name and version of this server."""
    try:
        return "lineside", version("lineside")
    except PackageNotFoundError:
        return "lineside", "0"


def http_failure(error: LinesideError) -> HttpAnswer:
    """An error in the protocol's form."""
    return HttpAnswer(body=encode({"error": str(error)}), status=error.http_status)


def http_live() -> HttpAnswer:
    """The process answers."""
    return HttpAnswer(body=encode({"live": True}))


def http_server_ready(*, away: Sequence[str]) -> HttpAnswer:
    """Whether the server can do its work."""
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
    """Whether a model answers."""
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
    said, length = write_response(response, request)
    if length is None:
        return HttpAnswer(body=said)
    return HttpAnswer(body=said, content_type=_RAW, headers={HEADER_LENGTH: str(length)})


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidError(
            f"{text[:40]!r} is no length", where=HEADER_LENGTH, fix="Write a whole number."
        )
    return int(text)


def choose_version(versions: Sequence[str], wanted: str, *, name: str) -> str:
    """The version that is meant; the first where none is named.

    Raises:
        NotFoundError: it is not served.
    """
    if not versions:
        raise NotFoundError(
            f"no approved model {name[:60]!r}", where="models", fix="See /v2 for their names."
        )
    if wanted and wanted not in versions:
        raise NotFoundError(
            f"no approved version {wanted[:40]!r} of {name[:60]!r}",
            where="models",
            fix=f"Served: {', '.join(versions[:20])}.",
        )
    return wanted or versions[0]
