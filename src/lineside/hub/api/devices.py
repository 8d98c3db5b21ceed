"""``/api/v1/devices`` and ``/api/v1/enrolment``: the inventory, and how devices come into it.

What stands below ``/api/v1/enrolment`` is open, because who asks has nothing yet: the authority's
certificate and the revocation list are public, the rest is protected by a code, or by the key of a
certificate that still runs.
"""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from lineside.fleet import EnrolledDevice, NewInvitation
from lineside.fleet.enrolment import (
    CodeAnswer,
    CodeQuestion,
    EnrolmentAnswer,
    EnrolmentRequest,
    Invitation,
    PageAnswer,
    PageRequest,
    RenewalAnswer,
    RenewalRequest,
)
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    Requester,
    StatedReason,
    json_body,
    json_response,
    page_response,
    responds,
)
from lineside.hub.devices.enrolment import IssuedInvitation
from lineside.hub.devices.local_device import LocalDeviceState
from lineside.hub.devices.registry import (
    DeviceDetails,
    DeviceQuery,
    DeviceSummary,
)
from lineside.hub.site_init import NewSite, make_ca, make_trust, offline_files

router = APIRouter(prefix="/api/v1", tags=["devices"])

_PEM = "application/x-pem-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """Body of a change of groups; all of them, not only new ones."""

    groups: tuple[str, ...]


class DeviceGroups(TypedDict):
    """The groups of a device."""

    device: str
    groups: tuple[str, ...]


# ---- anybody


@router.get("/enrolment/authority", summary="The certificate of the site's authority")
@responds(bytes, _PEM)
def certificate_authority(hub: Hub) -> Response:
    """PEM; believe it only if its fingerprint is that of the code."""
    return Response(hub.enrolment.certificate_authority().certificate, media_type=_PEM)


@router.get("/enrolment/revoked", summary="The revocation list of the site's authority")
@responds(bytes, _PEM)
def revoked(hub: Hub) -> Response:
    """PEM (RFC 5280, 5)."""
    return Response(hub.enrolment.certificate_authority().crl(), media_type=_PEM)


@router.post("/enrolment/code", summary="For which device a code is")
@responds(CodeAnswer)
def code(
    hub: Hub, request: Request, *, body: Annotated[CodeQuestion, Depends(json_body(CodeQuestion))]
) -> Response:
    """The code is not used up by this."""
    return json_response(hub.enrolment.look(body.secret, address=_address(request)))


@router.post("/enrolment", summary="A certificate for a code")
@responds(EnrolmentAnswer, status=201)
def enrol(
    hub: Hub,
    request: Request,
    *,
    body: Annotated[EnrolmentRequest, Depends(json_body(EnrolmentRequest))],
) -> Response:
    """Everything that the device needs; the same key may ask again while the code runs."""
    return json_response(hub.enrolment.enrol(body, address=_address(request)), status=201)


@router.post(
    "/enrolment/renewal",
    summary="The next certificate of a device",
)
@responds(RenewalAnswer, status=201)
def renew(
    hub: Hub,
    request: Request,
    *,
    body: Annotated[RenewalRequest, Depends(json_body(RenewalRequest))],
) -> Response:
    """For whoever proves that they hold the key of a certificate that runs."""
    return json_response(hub.enrolment.renew(body, address=_address(request)), status=201)


@router.post(
    "/enrolment/page",
    summary="A certificate for a device's own page",
)
@responds(PageAnswer, status=201)
def certify_page(
    hub: Hub,
    request: Request,
    *,
    body: Annotated[PageRequest, Depends(json_body(PageRequest))],
) -> Response:
    """For whoever proves that they hold the key of a device's certificate that runs."""
    return json_response(hub.enrolment.certify_page(body, address=_address(request)), status=201)


# ---- people and programs


@router.get("/devices", summary="The devices of the site")
@responds(Page[DeviceSummary])
def list_devices(
    hub: Hub, *, after: str = "", group: str = "",
    state: Annotated[str, Query(description="online, silent, offline, never or revoked")] = "",
    q: Annotated[str, Query(description="a part of the name")] = "", limit: Limit = 100,
) -> Response:  # fmt: skip
    """By name, with what each told last."""
    page = hub.fleet.page(DeviceQuery(after=after, group=group, state=state, text=q, limit=limit))
    return page_response(page.items, following=page.following)


@router.get("/devices/invitations", summary="Unused codes")
@responds(Page[Invitation])
def list_invitations(hub: Hub) -> Response:
    """Without the codes themselves."""
    return page_response(hub.enrolment.invitations())


@router.post(
    "/devices/invitations",
    summary="A code for a device that will come",
)
@responds(IssuedInvitation, status=201)
def invite(
    hub: Hub,
    who: Requester,
    *,
    invitation: Annotated[NewInvitation, Depends(json_body(NewInvitation))],
) -> Response:
    """The code is shown once."""
    return json_response(hub.enrolment.invite(invitation, by=who.name), status=201)


@router.post("/devices/invitations/{device}/withdraw", summary="Take unused codes back")
@responds(Page[Invitation])
def withdraw(hub: Hub, who: Requester, *, device: str) -> Response:
    """Those for one device; answers the codes that are left."""
    hub.enrolment.withdraw(device, by=who.name)
    return page_response(hub.enrolment.invitations())


@router.post("/devices/authority", summary="Make the site's authority")
@responds(NewSite, status=201)
def make_site_ca(hub: Hub) -> Response:
    """With the trust root; what is there stays. The first start with TLS certifies the hub."""
    config = hub.config
    made = (
        make_ca(config, site=hub.plant.site, clock=hub.clock), make_trust(config, hub.releases),
    )  # fmt: skip
    return json_response(NewSite(steps=made, take_offline=offline_files(config)), status=201)


@router.get("/local-device", summary="The device on the hub's machine")
@responds(LocalDeviceState)
def get_local_device(hub: Hub) -> Response:
    """State of its program, and the lines that it inspects, or would."""
    return json_response(hub.local_device.state())


@router.post("/local-device/start", summary="Inspect on the hub's machine")
@responds(LocalDeviceState, status=202)
def start_local_device(hub: Hub, who: Requester) -> Response:
    """Now, and with each start of the hub."""
    return json_response(hub.local_device.start(by=who.name), status=202)


@router.post("/local-device/stop", summary="Inspect no more on the hub's machine")
@responds(LocalDeviceState)
def stop_local_device(hub: Hub) -> Response:
    """It stays enrolled."""
    return json_response(hub.local_device.stop())


@router.get("/devices/{device}", summary="One device")
@responds(DeviceDetails)
def get_device(hub: Hub, *, device: str) -> Response:
    """With its certificate, groups and jobs."""
    return json_response(hub.fleet.one(device))


@router.post("/devices/{device}/revoke", summary="Take a device out")
@responds(EnrolledDevice)
def revoke(
    hub: Hub,
    who: Requester,
    *,
    device: str,
    body: Annotated[StatedReason, Depends(json_body(StatedReason))],
) -> Response:
    """Its certificate, its token and its jobs end at once."""
    return json_response(hub.enrolment.revoke(device, by=who.name, reason=body.reason))


@router.post("/devices/{device}/groups", summary="Which groups it is in")
@responds(DeviceGroups)
def set_groups(
    hub: Hub,
    who: Requester,
    *,
    device: str,
    body: Annotated[GroupChange, Depends(json_body(GroupChange))],
) -> Response:
    """Groups are made as needed."""
    groups = hub.enrolment.set_groups(device, body.groups, by=who.name)
    return json_response({"device": device, "groups": groups})


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
