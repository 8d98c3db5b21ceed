"""Inference for AWS clients: SageMaker's runtime and Lambda's invoke, both signed."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from lineside.compat.aws.errors import PayloadError, UnknownOperationError, request_id
from lineside.compat.aws.sagemaker_runtime import invocation_picture
from lineside.compat.aws.sigv4 import SignedRequest, verify
from lineside.core import InvalidError, LinesideError, RefusedError, decode_json, encode
from lineside.hub.access.auth import access_key
from lineside.hub.api.wire import (
    JSON,
    PICTURE_TYPES,
    Body,
    Hub,
    raw_body,
    responds,
    signed_request,
)
from lineside.hub.inference.endpoints import (
    Values,
    endpoint_values,
    find_endpoint,
    predict_endpoint,
)
from lineside.hub.inference.functions import FunctionReply, reply_to
from lineside.hub.services import Services

router = APIRouter(tags=["machines"])

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
    return find_endpoint(hub.plant, call.name).id


def invoke(hub: Services, call: Invocation) -> tuple[Values, str]:
    """Answer the picture of a call that was let in: the numbers and the package's digest.

    Raises:
        NotFoundError: no such endpoint, or no package is in use for it.
        InvalidError: no picture, or one that cannot be judged.
    """
    content_type = call.request.headers.get("content-type", "")
    picture = invocation_picture(call.request.body, content_type=content_type)
    prediction = predict_endpoint(hub.packages, hub.plant, endpoint=call.name, picture=picture)
    return endpoint_values(hub.plant, prediction), prediction.package


def invoke_function(hub: Services, call: Invocation) -> FunctionReply:
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
    return reply_to(hub.functions, function, document=document, config=hub.config)


def function_called(hub: Services, call: Invocation) -> str:
    """Check the signature; the id of the inspection that answers the function's pictures.

    Raises:
        SignatureRefusedError: the request is not signed by a key of ours.
        NotFoundError: no such function.
    """
    check_signature(hub, call.request)
    return find_endpoint(hub.plant, hub.functions.one(bare_name(call.name)).endpoint).id


def check_signature(hub: Services, request: SignedRequest) -> None:
    """``SignatureRefusedError`` where a request is not signed by a key of ours."""
    now = hub.clock.now()
    verify(request, secret_of=lambda key: access_key(hub.records, key, now=now).secret, now=now)


def bare_name(name: str) -> str:
    """The function's name of an ARN, or of a name with a qualifier."""
    if name.startswith(_ARN):
        parts = name.split(":")
        if len(parts) < 7 or parts[5] != "function":
            raise RefusedError("no ARN of a function", where="FunctionName", fix="Send its name.")
        return parts[6]
    return name.partition(":")[0]


# ---- routes


@router.post(
    "/endpoints/{name}/invocations",
    summary="SageMaker runtime: InvokeEndpoint",
    openapi_extra=raw_body(*PICTURE_TYPES, JSON),
)
@responds(list[Any])
async def invocations(hub: Hub, request: Request, *, name: str, body: Body) -> Response:
    """An array of probabilities in declared order, ``[[p0 … pN, more]]`` of a count; signed."""
    call = Invocation(name=name, request=signed_request(request, body))
    queue = await run_in_threadpool(endpoint_called, hub, call)
    values, variant = await hub.queue.run(queue, partial(invoke, hub, call))
    headers = {"x-Amzn-Invoked-Production-Variant": variant, **request_id()}
    return Response(encode(values), media_type="application/json", headers=headers)


@router.post(
    "/2015-03-31/functions/{name}/invocations",
    summary="Lambda: Invoke, of a configured function",
    openapi_extra=raw_body("application/json"),
)
@responds(dict[str, Any])
@responds(None, status=204)
async def invoke_named(hub: Hub, request: Request, *, name: str, body: Body) -> Response:
    """The function's document, its own failures included; the caller signs."""
    call = Invocation(name=name, request=signed_request(request, body))
    kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
    if kind not in ("RequestResponse", "DryRun"):
        raise InvalidError(
            f"invocation type {kind!r}", where="X-Amz-Invocation-Type", fix="Use RequestResponse."
        )
    queue = await run_in_threadpool(function_called, hub, call)
    if kind == "DryRun":
        return Response(status_code=204, headers=request_id())
    reply = await hub.queue.run(queue, partial(invoke_function, hub, call))
    headers = {"X-Amz-Executed-Version": "$LATEST", **request_id()}
    if reply.failed:
        headers["X-Amz-Function-Error"] = "Handled"
    return Response(encode(reply.document), media_type="application/json", headers=headers)


_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


@router.api_route("/endpoints/{rest:path}", methods=_METHODS, include_in_schema=False)
@router.api_route("/2015-03-31/functions{rest:path}", methods=_METHODS, include_in_schema=False)
def unknown_operation(request: Request, *, rest: str) -> Response:
    """Any other call of the two contracts."""
    raise UnknownOperationError(
        f"{request.method} of {rest[:80]!r} is not offered here",
        fix="Offered: InvokeEndpoint of an endpoint, Invoke of a function.",
    )


@router.get("/ping", summary="SageMaker runtime: alive")
@responds(None)
async def ping() -> Response:
    """An empty 200."""
    return Response(status_code=200)
