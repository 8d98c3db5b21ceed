"""Inference for others' clients: SageMaker's runtime and Lambda's invoke, both signed."""

from dataclasses import dataclass

from lineside.core import LinesideError, RefusedError, decode_json
from lineside.hub.answering import Values, answered, values_of
from lineside.hub.auth import access_key
from lineside.hub.functions import Replied, replied
from lineside.hub.services import Services
from lineside.hub.sigv4 import SignedRequest, verify
from lineside.models import invocation_picture

_ARN = "arn:"


class PayloadError(LinesideError):
    """The payload of an invocation is no JSON document."""

    exit_code = 2
    http_status = 400
    title = "Invalid input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of an endpoint or function; its signature is not checked yet."""

    name: str
    request: SignedRequest


def invoke(hub: Services, call: Invocation) -> tuple[Values, str]:
    """Check the signature, answer the picture; the endpoint's numbers and the package's digest.

    Raises:
        SignatureRefusedError: the request is not signed by a key of ours.
        NotFoundError: no such endpoint, or no package is in use for it.
        InvalidError: no picture, or one that cannot be judged.
    """
    check_signature(hub, call.request)
    content_type = call.request.headers.get("content-type", "")
    picture = invocation_picture(call.request.body, content_type=content_type)
    found = answered(hub.packages, hub.plant, endpoint=call.name, picture=picture)
    return values_of(hub.plant, found), found.package


def invoke_function(hub: Services, call: Invocation) -> Replied:
    """Check the signature, call the function; its own failures are replies.

    Raises:
        SignatureRefusedError: the request is not signed by a key of ours.
        NotFoundError: no such function.
        PayloadError: the payload is no JSON.
    """
    function = may_invoke(hub, call)
    try:
        document = decode_json(call.request.body or b"{}", where="payload")
    except LinesideError as error:
        raise PayloadError(error.message, where="payload", fix="Send a JSON object.") from error
    return replied(hub.functions, function, document=document)


def may_invoke(hub: Services, call: Invocation) -> str:
    """The function's own name; raises as ``invoke_function`` does."""
    check_signature(hub, call.request)
    return hub.functions.one(bare_name(call.name)).name


def check_signature(hub: Services, request: SignedRequest) -> None:
    """``SignatureRefusedError`` where a request is not signed by a key of ours."""
    verify(
        request,
        secret_of=lambda key: access_key(hub.records, key).secret,
        now=hub.clock.now(),
    )


def bare_name(name: str) -> str:
    """The function's name of an ARN, or of a name with a qualifier."""
    if name.startswith(_ARN):
        parts = name.split(":")
        if len(parts) < 7 or parts[5] != "function":
            raise RefusedError("no ARN of a function", where="FunctionName", fix="Send its name.")
        return parts[6]
    return name.partition(":")[0]
