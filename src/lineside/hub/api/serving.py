"""Inference for others' clients: SageMaker's runtime and Lambda's invoke, both signed."""

from dataclasses import dataclass

from lineside.compat.aws.sigv4 import SignedRequest, verify
from lineside.core import LinesideError, RefusedError, decode_json
from lineside.hub.access.auth import access_key
from lineside.hub.inference.answering import Values, answered, endpoint_of, values_of
from lineside.hub.inference.functions import Replied, replied
from lineside.hub.problems import PayloadError
from lineside.hub.services import Services
from lineside.models import invocation_picture

_ARN = "arn:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of an endpoint or function; its signature is not checked yet."""

    name: str
    request: SignedRequest


def endpoint_called(hub: Services, call: Invocation) -> str:
    """Check the signature; the id of the inspection that answers, whose queue the call joins.

    Raises:
        SignatureRefusedError: the request is not signed by a key of ours.
        NotFoundError: no such endpoint.
    """
    check_signature(hub, call.request)
    return endpoint_of(hub.plant, call.name).id


def invoke(hub: Services, call: Invocation) -> tuple[Values, str]:
    """Answer the picture of a call that was let in: the numbers and the package's digest.

    Raises:
        NotFoundError: no such endpoint, or no package is in use for it.
        InvalidError: no picture, or one that cannot be judged.
    """
    content_type = call.request.headers.get("content-type", "")
    picture = invocation_picture(call.request.body, content_type=content_type)
    found = answered(hub.packages, hub.plant, endpoint=call.name, picture=picture)
    return values_of(hub.plant, found), found.package


def invoke_function(hub: Services, call: Invocation) -> Replied:
    """Call the function of a call that was let in; its own failures are replies.

    Raises:
        NotFoundError: no such function.
        PayloadError: the payload is no JSON.
    """
    function = hub.functions.one(bare_name(call.name)).name
    try:
        document = decode_json(call.request.body or b"{}", where="payload")
    except LinesideError as error:
        raise PayloadError(error.message, where="payload", fix="Send a JSON object.") from error
    return replied(hub.functions, function, document=document)


def function_called(hub: Services, call: Invocation) -> str:
    """Check the signature; the id of the inspection that answers the function's pictures.

    Raises:
        SignatureRefusedError: the request is not signed by a key of ours.
        NotFoundError: no such function.
    """
    check_signature(hub, call.request)
    return endpoint_of(hub.plant, hub.functions.one(bare_name(call.name)).endpoint).id


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
