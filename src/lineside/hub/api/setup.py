"""``/api/v1/plant``, test pictures, ``/api/v1/users`` and ``/api/v1/tokens``: set-up of the site.

The plant file is changed by edits of single entries or as a whole text; each change is a version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from lineside.core import (
    Camera,
    Clock,
    InvalidError,
    NotFoundError,
    UnavailableError,
    rfc3339,
)
from lineside.core.drivers import SecretUrl
from lineside.core.worker import Worker
from lineside.hub.access.accounts import NewToken
from lineside.hub.access.auth import TokenInfo, User
from lineside.hub.access.permissions import Role
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    Requester,
    StatedReason,
    json_body,
    json_response,
    next_cursor,
    page_response,
    responds,
    whole_number,
)
from lineside.hub.devices.enrolment import token_name
from lineside.hub.services import Services
from lineside.hub.setup.toml_edit import PlantEdit
from lineside.hub.setup.versions import PlantChange, PlantFileState, PlantVersion
from lineside.links import open_camera

router = APIRouter(prefix="/api/v1", tags=["set-up"])

_TOML = "application/toml"


# ---- the plant file


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantChangeRequest:
    """Body of ``POST /plant`` and ``POST /plant/check``.

    Attributes:
        section, id, nth, values, entry, remove: one edit of one entry; ``entry`` is its text.
        text: the whole file as TOML, in place of an edit.
        reason: why; needed where the change is kept.
        base: number of the version that was edited; 0: whatever is in force.
    """

    section: str = ""
    id: str = ""
    nth: int = 0
    values: Mapping[str, Any] | None = None
    entry: str = ""
    remove: bool = False
    text: str = ""
    reason: str = ""
    base: int = 0

    @property
    def edits(self) -> tuple[PlantEdit, ...]:
        """The edit that is asked for; none where a whole text is given."""
        if self.text:
            return ()
        return (
            PlantEdit(
                section=self.section, id=self.id, nth=self.nth, values=self.values or {},
                text=self.entry, remove=self.remove,
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantRollback:
    """Body of ``POST /plant/rollback``: the version whose text becomes the next one."""

    number: int
    reason: str


class PlantInForce(TypedDict):
    """The version in force; ``later``: what of it takes effect at the next start."""

    version: PlantVersion
    text: str
    later: list[str]
    file: PlantFileState


class PlantVersionText(TypedDict):
    """A version with its text, and the lines that differ from the version before."""

    version: PlantVersion
    text: str
    diff: list[str]


@router.get("/plant", summary="The plant file in force")
@responds(PlantInForce)
def get_plant(hub: Hub) -> Response:
    """With its text, and whether a person changed the file on the disk."""
    return json_response(plant_in_force(hub))


def plant_in_force(hub: Services) -> PlantInForce:
    """The version in force, its text, and the file on the disk."""
    version = hub.plants.newest()
    return PlantInForce(
        version=version, text=hub.plants.text(version.number), later=list(hub.plants.later),
        file=hub.plants.file(),
    )  # fmt: skip


@router.get("/plant/versions", summary="Versions of the plant file, newest first")
@responds(Page[PlantVersion])
def list_plant_versions(
    hub: Hub, *, before: Annotated[str, Query()] = "", limit: Limit = 50
) -> Response:
    """Who changed it, when and why."""
    found = hub.plants.page(before=whole_number(before, name="before"), limit=limit)
    following = next_cursor(found, limit, key=lambda one: one.number)
    return page_response(found, following="" if following == "1" else following, cursor="before")


@router.get("/plant/versions/{number}", summary="One version of the plant file")
@responds(PlantVersionText)
def get_plant_version(
    hub: Hub, number: int, *, since: Annotated[int, Query(ge=0, lt=2**31)] = 0
) -> Response:
    """``since``: compare it with that version instead of the one before."""
    version = hub.plants.one(number)
    found = PlantVersionText(
        version=version, text=hub.plants.text(number),
        diff=hub.plants.diff(number, since=since or None),
    )  # fmt: skip
    return json_response(found)


@router.get("/plant/versions/{number}/content", summary="The text of a version, for devices")
@responds(bytes, _TOML)
def get_plant_content(hub: Hub, who: Requester, *, number: int) -> Response:
    """As devices take it over, which are told the number and the digest on the bus.

    Without secrets for whoever is no device.

    A device gets it with the secrets of the cameras and outputs of its lines, one that was not
    enrolled with those of all; 404 where it asks for another version than the one in force.
    """
    if who.kind != "device":
        return Response(hub.plants.text(number).encode(), media_type=_TOML)
    if number != hub.plants.newest().number:
        raise NotFoundError(
            f"version {number} is not the one in force", where="number",
            fix="Take the number that the bus tells.",
        )  # fmt: skip
    device = hub.enrolment.inventory.find(who.name.removeprefix(token_name("")))
    lines = device.lines if device else [one.id for one in hub.plant.line]
    return Response(hub.plants.text(number, lines=lines).encode(), media_type=_TOML)


PlantChangeBody = Annotated[PlantChangeRequest, Depends(json_body(PlantChangeRequest))]


@router.post("/plant/check", summary="What a change of the plant file would be")
@responds(PlantChange)
def check_plant(hub: Hub, *, change: PlantChangeBody) -> Response:
    """Its text, the lines that differ, and every fault; nothing is kept."""
    return json_response(hub.plants.propose(edits=change.edits, text=change.text))


@router.post("/plant", summary="Change the plant file")
@responds(PlantVersion)
def change_plant(hub: Hub, who: Requester, *, change: PlantChangeBody) -> Response:
    """Kept as the next version, written to the file with its comments, and applied."""
    made = hub.plants.change(
        edits=change.edits, text=change.text, by=who.name, reason=change.reason, base=change.base
    )
    return json_response(made)


@router.post("/plant/rollback", summary="Take an earlier version of the plant file")
@responds(PlantVersion)
def roll_back_plant(
    hub: Hub, who: Requester, *, body: Annotated[PlantRollback, Depends(json_body(PlantRollback))]
) -> Response:
    """Its text becomes the next version."""
    return json_response(hub.plants.roll_back(body.number, by=who.name, reason=body.reason))


@router.post("/plant/adopt", summary="Adopt a plant file that was changed by hand")
@responds(PlantVersion)
def adopt_plant(
    hub: Hub, who: Requester, *, body: Annotated[StatedReason, Depends(json_body(StatedReason))]
) -> Response:
    """The file on the disk becomes the next version, if it has no faults."""
    return json_response(hub.plants.adopt(by=who.name, reason=body.reason))


@router.post("/plant/restore", summary="Restore a plant file that was changed by hand")
@responds(PlantVersion)
def restore_plant(hub: Hub) -> Response:
    """The version in force is written over the file on the disk."""
    return json_response(hub.plants.restore())


# ---- cameras

_TESTED = ("aravis", "http", "https", "rtsp", "v4l")
_PICTURE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTest:
    """Body of ``POST /cameras/test``: a source as the plant file has it.

    With ``…`` in place of its secret it is that of ``camera``.
    """

    source: SecretUrl
    camera: str = ""


@router.post("/cameras/test", summary="Take a test picture of a camera")
@responds(bytes, "image/jpeg")
def take_test_picture(
    hub: Hub, *, body: Annotated[CameraTest, Depends(json_body(CameraTest))]
) -> Response:
    """A JPEG within 10 s, which nobody keeps.

    Of a network (``rtsp``, ``http``, ``https``, ``aravis``) or USB camera that the hub can reach.
    """
    known = {(one.id, str(one.source)): one.source for one in hub.plant.camera}
    source = known.get((body.camera, body.source.reveal()), body.source)
    camera = Camera(id="test", line="test", source=source)
    scheme = camera.source.partition(":")[0]
    if scheme not in _TESTED:
        raise InvalidError(
            f"no test picture of {scheme}", where="source",
            fix="Save the camera: its newest picture is shown as soon as one comes.",
        )  # fmt: skip
    picture = take_picture(camera, clock=hub.clock)
    return Response(picture, media_type="image/jpeg", headers={"cache-control": "no-store"})


def take_picture(camera: Camera, *, clock: Clock, timeout_s: float = _PICTURE_S) -> bytes:
    """The first picture of a camera, as JPEG or PNG.

    Raises:
        UnavailableError: none comes within the time.
        InvalidError, RefusedError: as ``open_camera``.
    """
    opened = open_camera(camera, clock=clock)
    closing = Worker("camera-test", opened.close, every_s=None, delay_s=timeout_s)
    closing.start()
    try:
        for shot in opened.shots():
            return shot.open().encoded
    finally:
        closing.stop()
        opened.close()
    raise UnavailableError(
        f"no picture within {timeout_s:g} s", where=str(camera.source),
        fix="Look whether another player shows the camera.",
    )  # fmt: skip


# ---- users and tokens


class UserRow(TypedDict):
    """A user, without the password's hash."""

    name: str
    role: Role
    added_at: str
    added_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """Body of ``POST /users``."""

    name: str
    password: str
    role: Role = Role.VIEWER


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """Body of ``POST /users/{name}/role``."""

    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChange:
    """Body of ``POST /users/{name}/password``."""

    password: str


class IssuedToken(TypedDict):
    """A new token; its text is not told again."""

    name: str
    token: str


class RevokedTokens(TypedDict):
    """Number of tokens and access keys that a name had."""

    name: str
    revoked: int


@router.get("/users", summary="People who sign in")
@responds(Page[UserRow])
def list_users(hub: Hub) -> Response:
    """Everybody, by name."""
    return page_response([user_row(one) for one in hub.accounts.users()])


@router.post("/users", summary="Add a user")
@responds(UserRow, status=201)
def add_user(
    hub: Hub, who: Requester, *, user: Annotated[NewUser, Depends(json_body(NewUser))]
) -> Response:
    """They sign in by name and password."""
    made = hub.accounts.add(user.name, role=user.role, password=user.password, by=who.name)
    return json_response(user_row(made), status=201)


@router.post("/users/{name:path}/role", summary="Give a user another role")
@responds(UserRow)
def set_role(
    hub: Hub, who: Requester, name: str, *,
    body: Annotated[RoleChange, Depends(json_body(RoleChange))],
) -> Response:  # fmt: skip
    """It holds from the next request on; 409 for the last administrator."""
    return json_response(user_row(hub.accounts.set_role(name, role=body.role, by=who.name)))


@router.post("/users/{name:path}/password", summary="Set a user's password")
@responds(UserRow)
def set_password(
    hub: Hub, who: Requester, name: str, *,
    body: Annotated[PasswordChange, Depends(json_body(PasswordChange))],
) -> Response:  # fmt: skip
    """Every session of the user ends."""
    changed = hub.accounts.set_password(name, password=body.password, by=who.name)
    return json_response(user_row(changed))


@router.post("/users/{name:path}/remove", summary="Remove a user")
@responds(UserRow)
def remove_user(hub: Hub, who: Requester, name: str) -> Response:
    """409 for the last administrator; past actions stay in the log."""
    return json_response(user_row(hub.accounts.remove(name, by=who.name)))


@router.get("/tokens", summary="Tokens of programs")
@responds(Page[TokenInfo])
def list_tokens(hub: Hub) -> Response:
    """Without their secrets."""
    return page_response(hub.accounts.tokens())


@router.post("/tokens", summary="Issue a token")
@responds(IssuedToken, status=201)
def issue_token(
    hub: Hub, who: Requester, *, token: Annotated[NewToken, Depends(json_body(NewToken))]
) -> Response:
    """Shown once."""
    made = hub.accounts.issue(token, by=who.name)
    return json_response(IssuedToken(name=token.name, token=made), status=201)


@router.post("/tokens/{name:path}/revoke", summary="Take a program's tokens and keys out of use")
@responds(RevokedTokens)
def revoke_token(hub: Hub, who: Requester, name: str) -> Response:
    """Every token and access key of that name ends."""
    count = hub.accounts.revoke(name, by=who.name)
    return json_response(RevokedTokens(name=name, revoked=count))


def user_row(user: User) -> UserRow:
    """Without the password's hash."""
    return UserRow(
        name=user.name, role=user.role, added_at=rfc3339(user.added_at), added_by=user.added_by
    )
