"""``/jobs`` and ``/things``: the job service for AWS' ``iot`` and ``iot-jobs-data`` clients.

Also the calls by which a client of the edge-manager sample starts: ``/role-aliases`` (a key for an
hour, by a device's certificate), ``/endpoint`` and ``/sagemaker`` (``DescribeDevice``).

Bodies and errors are AWS' own (``compat.aws``). Operators have a session, a token, or an access key
with a role; a thing's client signs with a key that was issued for this thing. Paths of both are the
same, as they are with AWS, where the host parts them; here the service that the signature names
does (``iot-jobs-data`` is the thing's).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from lineside.compat.aws.iot_jobs import (
    DescribedDevice,
    DescribedJob,
    EndpointAddress,
    JobAnswer,
    JobDocument,
    JobsPage,
    RoleCredentials,
    RunsPage,
    described_job,
    described_run,
    job_answer,
    jobs_page,
    new_job,
    read_object,
    read_text,
    read_texts,
    reported_run,
    runs_page,
    with_text,
)
from lineside.compat.aws.sigv4 import SignedRequest, verify
from lineside.core import InvalidError, NotFoundError, RefusedError, rfc3339
from lineside.fleet import JobQuery
from lineside.fleet.jobs.requests import JobRequest, read_body, read_fields
from lineside.hub.access.auth import AccessKey, access_key, issue_temporary_key
from lineside.hub.access.permissions import Identity, authorize
from lineside.hub.api.wire import Body, Hub, json_response, responds, signed_request
from lineside.hub.devices.enrolment import HUB_HOST
from lineside.hub.services import Services

_SERVICE = re.compile(r"Credential=[^/,\s]+/\d+/[^/,\s]+/([^/,\s]+)/aws4_request")
_THING = re.compile(r"/things/([^/]+)/")
_DATA_PLANE = "iot-jobs-data"
_STARTS = ("/endpoint", "/sagemaker")
_DESCRIBE_DEVICE = "SageMaker.DescribeDevice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who may do what they ask; ``device``: as a thing does, not as an operator."""

    name: str
    device: bool


def caller_of(
    hub: Services, request: SignedRequest, *, identity: Identity | None, path: str
) -> Caller:
    """Find out who calls, and refuse what they may not.

    Raises:
        SignatureRefusedError: neither identity nor signature.
        RefusedError: the role, or the thing of the key, is not for this path.
    """
    if identity is not None:
        return Caller(name=identity.name, device=False)  # the gate has looked at the role
    now = hub.clock.now()
    key_id = verify(
        request, secret_of=lambda key: access_key(hub.records, key, now=now).secret, now=now
    )
    key = access_key(hub.records, key_id, now=now)
    if _service_of(request) == _DATA_PLANE:
        _check_thing(key, path=path)
        return Caller(name=key.name, device=True)
    if key.thing and path in _STARTS:
        return Caller(name=key.thing, device=True)
    authorize(Identity(name=key.name, kind="key", role=key.role), method=request.method, path=path)
    return Caller(name=key.name, device=False)


def _service_of(request: SignedRequest) -> str:
    found = _SERVICE.search(request.headers.get("authorization", ""))
    return found[1] if found else ""


def _check_thing(key: AccessKey, *, path: str) -> None:
    call = _THING.match(path)
    if not key.thing or call is None or call[1] != key.thing:
        raise RefusedError(
            f"the key {key.id} was not issued for this thing", where=path,
            fix="Issue one: lineside hub key NAME --thing THING.",
        )  # fmt: skip


router = APIRouter(tags=["jobs"])

Force = Annotated[bool, Query(description="what is under way too")]
Most = Annotated[int, Query(alias="maxResults", ge=1, le=250)]
Token = Annotated[str, Query(alias="nextToken")]
Status = Annotated[str, Query()]
Act = Callable[[Caller], object]


def _served(hub: Hub, request: Request, body: bytes, *, act: Act) -> Response:
    """Check who calls, do it, and write what came of it."""
    identity = cast("Identity | None", getattr(request.state, "identity", None))
    found = act(
        caller_of(hub, signed_request(request, body), identity=identity, path=request.url.path)
    )
    return Response(status_code=200) if found is None else json_response(found)


def _managed(hub: Hub, request: Request, body: bytes, *, act: Callable[[], object]) -> Response:
    """The same for what a thing's own client may not do."""

    def allowed(caller: Caller) -> object:
        if caller.device:
            raise RefusedError("a thing's client may not do this", fix="Sign as an operator.")
        return act()

    return _served(hub, request, body, act=allowed)


def _thing_answer(hub: Hub, call: JobRequest) -> Mapping[str, Any]:
    return hub.job_requests.service.ask(call)


# ---- jobs


@router.get("/jobs", summary="ListJobs")
@responds(JobsPage)
def list_jobs(
    hub: Hub, request: Request, *, body: Body, most: Most = 50, token: Token = "",
    status: Status = "", selection: Annotated[str, Query(alias="targetSelection")] = "",
    group: Annotated[str, Query(alias="thingGroupName")] = "",
) -> Response:  # fmt: skip
    """Newest first."""

    def act() -> object:
        wanted = JobQuery(
            limit=most, after=token, status=status, selection=selection,
            target=f"group/{group}" if group else "",
        )  # fmt: skip
        return jobs_page(hub.job_requests.service.jobs(wanted))

    return _managed(hub, request, body, act=act)


@router.put("/jobs/{job_id}", summary="CreateJob")
@responds(JobAnswer)
def create_job(hub: Hub, request: Request, *, job_id: str, body: Body) -> Response:
    """The same id with the same content is the same job."""

    def act() -> object:
        call = new_job(job_id, read_object(body), read_source=hub.bucket.document)
        hub.job_requests.service.create(call)
        return job_answer(hub.job_requests.service.look(job_id)[0])

    return _managed(hub, request, body, act=act)


@router.get("/jobs/{job_id}", summary="DescribeJob")
@responds(DescribedJob)
def describe_job(hub: Hub, request: Request, *, job_id: str, body: Body) -> Response:
    """With counts of its things."""
    return _managed(
        hub, request, body, act=lambda: described_job(*hub.job_requests.service.look(job_id))
    )


@router.get("/jobs/{job_id}/job-document", summary="GetJobDocument")
@responds(JobDocument)
def job_document(hub: Hub, request: Request, *, job_id: str, body: Body) -> Response:
    """As text, as it was given."""
    look = hub.job_requests.service.look
    return _managed(hub, request, body, act=lambda: {
        "document": with_text({"jobDocument": look(job_id)[0].document})["jobDocument"]
    })  # fmt: skip


@router.put("/jobs/{job_id}/cancel", summary="CancelJob")
@responds(JobAnswer)
def cancel_job(
    hub: Hub, request: Request, *, job_id: str, body: Body, force: Force = False
) -> Response:
    """Cancel queued executions; with ``force`` those under way too."""

    def act() -> object:
        fields = read_object(body)
        service = hub.job_requests.service
        service.cancel(
            job_id, reason=read_text(fields, "comment"), code=read_text(fields, "reasonCode"),
            force=force or fields.get("force") is True,
        )  # fmt: skip
        return job_answer(service.look(job_id)[0])

    return _managed(hub, request, body, act=act)


@router.delete("/jobs/{job_id}", summary="DeleteJob")
@responds(None)
def delete_job(
    hub: Hub, request: Request, *, job_id: str, body: Body, force: Force = False
) -> Response:
    """With its executions; one that is not over needs ``force``."""
    delete = hub.job_requests.service.delete
    return _managed(hub, request, body, act=lambda: delete(job_id, force=force))


@router.post("/jobs/{job_id}/targets", summary="AssociateTargetsWithJob")
@responds(JobAnswer)
def associate(hub: Hub, request: Request, *, job_id: str, body: Body) -> Response:
    """Of a CONTINUOUS job in progress."""

    def act() -> object:
        hub.job_requests.service.associate(job_id, read_texts(read_object(body), "targets"))
        return job_answer(hub.job_requests.service.look(job_id)[0])

    return _managed(hub, request, body, act=act)


@router.get("/jobs/{job_id}/things", summary="ListJobExecutionsForJob")
@responds(RunsPage)
def list_runs_of_job(
    hub: Hub, request: Request, *, job_id: str, body: Body, most: Most = 50, token: Token = "",
    status: Status = "",
) -> Response:  # fmt: skip
    """By thing and number."""

    def act() -> object:
        wanted = JobQuery(limit=most, after=token, status=status)
        return runs_page(hub.job_requests.service.runs_of_job(job_id, wanted), of_job=True)

    return _managed(hub, request, body, act=act)


# ---- things


@router.get("/things/{thing}/jobs", summary="ListJobExecutionsForThing, GetPendingJobExecutions")
@responds(RunsPage)
def list_runs_of_thing(
    hub: Hub, request: Request, *, thing: str, body: Body, most: Most = 50, token: Token = "",
    status: Status = "", job: Annotated[str, Query(alias="jobId")] = "",
) -> Response:  # fmt: skip
    """A thing's client gets what is pending."""

    def act(caller: Caller) -> object:
        if caller.device:
            return _thing_answer(
                hub, JobRequest(thing=thing, request=read_fields("get", {}, job_id=""))
            )
        wanted = JobQuery(limit=most, after=token, status=status, target=job)
        return runs_page(hub.job_requests.service.runs_of_thing(thing, wanted), of_job=False)

    return _served(hub, request, body, act=act)


@router.put("/things/{thing}/jobs/{job_id}", summary="StartNextPendingJobExecution")
@responds(dict[str, Any])
def start_next(hub: Hub, request: Request, *, thing: str, job_id: str, body: Body) -> Response:
    """``$next`` only."""

    def act(_: Caller) -> object:
        if job_id != "$next":
            raise NotFoundError("only $next can be started", where="jobId", fix="Use $next.")
        return _reported(hub, _device(thing, "start-next", body=body))

    return _served(hub, request, body, act=act)


@router.get("/things/{thing}/jobs/{job_id}", summary="DescribeJobExecution")
@responds(dict[str, Any])
def describe_run(
    hub: Hub, request: Request, *, thing: str, job_id: str, body: Body,
    number: Annotated[int | None, Query(alias="executionNumber", ge=1)] = None,
    document: Annotated[bool, Query(alias="includeJobDocument")] = True,
) -> Response:  # fmt: skip
    """A thing's client gets the document, an operator the state."""

    def act(caller: Caller) -> object:
        if caller.device:
            fields = {"executionNumber": number, "includeJobDocument": document}
            call = read_fields("describe", fields, job_id=job_id)
            return _reported(hub, JobRequest(thing=thing, request=call))
        run = hub.job_requests.service.execution(thing, job_id, number=number)
        return described_run(run, now=hub.clock.now())

    return _served(hub, request, body, act=act)


@router.post("/things/{thing}/jobs/{job_id}", summary="UpdateJobExecution")
@responds(dict[str, Any])
def update_run(hub: Hub, request: Request, *, thing: str, job_id: str, body: Body) -> Response:
    """As over MQTT; the document is text here."""

    def act(_: Caller) -> object:
        return with_text(_thing_answer(hub, _device(thing, "update", body=body, job_id=job_id)))

    return _served(hub, request, body, act=act)


@router.put("/things/{thing}/jobs/{job_id}/cancel", summary="CancelJobExecution")
@responds(None)
def cancel_run(
    hub: Hub, request: Request, *, thing: str, job_id: str, body: Body, force: Force = False
) -> Response:
    """One that is under way needs ``force``."""

    def act() -> None:
        fields = read_object(body)
        hub.job_requests.service.cancel_execution(
            thing, job_id, force=force or fields.get("force") is True,
            expected_version=fields.get("expectedVersion"), details=fields.get("statusDetails"),
        )  # fmt: skip

    return _managed(hub, request, body, act=act)


@router.delete(
    "/things/{thing}/jobs/{job_id}/executionNumber/{number}", summary="DeleteJobExecution"
)
@responds(None)
def delete_run(
    hub: Hub, request: Request, *, thing: str, job_id: str, number: int, body: Body,
    force: Force = False,
) -> Response:  # fmt: skip
    """One that is under way needs ``force``."""
    delete = hub.job_requests.service.delete_execution
    return _managed(
        hub, request, body, act=lambda: delete(thing, job_id, number=number, force=force)
    )


def _device(thing: str, operation: str, *, body: bytes, job_id: str = "") -> JobRequest:
    return JobRequest(thing=thing, request=read_fields(operation, read_body(body), job_id=job_id))


def _reported(hub: Hub, call: JobRequest) -> Mapping[str, Any]:
    """An answer with an execution, and the time that it has left."""
    found = _thing_answer(hub, call)
    if "execution" not in found:
        return found
    execution = found["execution"]
    run = hub.job_requests.service.execution(
        call.thing, execution["jobId"], number=execution["executionNumber"]
    )
    return reported_run(found, run, now=hub.clock.now())


# ---- what the edge-manager sample's programs ask when they start


@router.get("/role-aliases/{alias}/credentials", summary="AssumeRoleWithCertificate")
@responds(RoleCredentials)
def role_credentials(hub: Hub, request: Request, *, alias: str) -> Response:
    """A key for the device whose certificate the connection showed; every alias means the same."""
    del alias
    if (shown := getattr(request.state, "client_certificate", None)) is None:
        raise RefusedError(
            "no client certificate", fix="Connect by HTTPS with the device's certificate."
        )
    enrolment = hub.enrolment
    _, row = enrolment.authenticate(shown, ca=enrolment.certificate_authority())
    key, ends_at = issue_temporary_key(hub.records, thing=row.device, clock=hub.clock)
    return json_response(
        {
            "credentials": {
                "accessKeyId": key.id, "secretAccessKey": key.secret,
                "sessionToken": key.id,  # clients want one; the key itself is over in an hour
                "expiration": rfc3339(ends_at),
            }
        }
    )  # fmt: skip


@router.get("/endpoint", summary="DescribeEndpoint")
@responds(EndpointAddress)
def describe_endpoint(
    hub: Hub, request: Request, *, body: Body,
    kind: Annotated[str, Query(alias="endpointType")] = "",
) -> Response:  # fmt: skip
    """The bus for ``iot:Data-ATS`` and ``iot:Data``, else the hub, as the caller reached it."""

    def act(_: Caller) -> object:
        here = request.url.hostname or ""
        own = bool(hub.config.iot_jobs_tls)  # their own listener is always at the hub
        bus = here if own else urlsplit(hub.enrolment.bus_url).hostname or here
        is_bus = kind in ("", "iot:Data", "iot:Data-ATS")
        return {"endpointAddress": bus.replace(HUB_HOST, here) if is_bus else request.url.netloc}

    return _served(hub, request, body, act=act)


@router.post("/sagemaker", summary="SageMaker: DescribeDevice")
@responds(DescribedDevice)
def describe_device(hub: Hub, request: Request, *, body: Body) -> Response:
    """A device asks for itself; any name of a fleet is said back."""

    def act(caller: Caller) -> object:
        if request.headers.get("x-amz-target") != _DESCRIBE_DEVICE:
            raise InvalidError(
                "only DescribeDevice is offered", where="X-Amz-Target", fix=_DESCRIBE_DEVICE
            )
        fields = read_object(body)
        name, fleet = read_text(fields, "DeviceName"), read_text(fields, "DeviceFleetName")
        if caller.device and name != caller.name:
            raise NotFoundError("a device describes itself only", where=name, fix=caller.name)
        row = hub.enrolment.inventory.one(name)
        return {
            "DeviceArn": f"arn:aws:sagemaker:local:000000000000:device-fleet/{fleet}/device/{name}",
            "DeviceName": name, "DeviceFleetName": fleet, "IotThingName": row.device,
            "RegistrationTime": int(row.enrolled_at.timestamp()),
        }  # fmt: skip

    return _served(hub, request, body, act=act)
