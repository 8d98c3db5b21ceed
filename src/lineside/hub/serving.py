"""Inference for others' clients: the SageMaker runtime contract over packages in use."""

from dataclasses import dataclass

from lineside.core import Inspection, NotFoundError
from lineside.hub.auth import access_key
from lineside.hub.services import Services
from lineside.hub.sigv4 import SignedRequest, verify
from lineside.models import invocation_picture, sagemaker_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """A call of an endpoint; its signature is not checked yet."""

    name: str
    request: SignedRequest


def invoke(hub: Services, call: Invocation) -> tuple[list[float], str]:
    """Check the signature, answer the picture; the probabilities and the package's digest.

    Raises:
        SignatureRefusedError: the request is not signed by a key of ours.
        NotFoundError: no such endpoint, or no package is in use for it.
        InvalidError: no picture, or one that cannot be judged.
    """
    verify(
        call.request,
        secret_of=lambda key: access_key(hub.records, key).secret,
        now=hub.clock.now(),
    )
    inspection = endpoint_of(hub, call.name)
    content_type = call.request.headers.get("content-type", "")
    picture = invocation_picture(call.request.body, content_type=content_type)
    digest = hub.packages.in_use(inspection.id)
    frame, predictor = hub.packages.judge(digest, picture)
    prediction = predictor.predict(frame)
    twin = hub.plant.twin
    labels = twin.colours if twin is not None and twin.inspection == inspection.id else ()
    return sagemaker_answer(prediction, predictor.manifest, labels=labels), digest


def endpoint_of(hub: Services, name: str) -> Inspection:
    """The inspection that answers under this name: its ``endpoint``, or its own id."""
    for inspection in hub.plant.inspection:
        if name in (inspection.endpoint, inspection.id):
            return inspection
    known = ", ".join(item.endpoint or item.id for item in hub.plant.inspection)
    raise NotFoundError(f"Endpoint {name} not found", where="endpoint", fix=f"Known: {known}.")
