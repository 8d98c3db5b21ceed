"""Identities, roles, and their rights; one table of rights by role, one of routes by right.

| Role | Looks | Operates | Builds | Releases | Administers |
|---|---|---|---|---|---|
| ``viewer`` | yes | | | | |
| ``operator`` | yes | yes | | | |
| ``engineer`` | yes | yes | yes | | |
| ``approver`` | yes | yes | | yes | |
| ``admin`` | yes | yes | yes | yes | yes |

An approver does not build, so that whoever approves did not make what is approved. The rule that
nobody approves their own version (``models.ModelVersions``) holds for ``admin`` too.

| Identity | May |
|---|---|
| nobody | sign in, welcome page, styles, health; enrolment by code; inference calls (signed) |
| a device's certificate | fetch a key for an hour |
| ``session``, ``api`` | what the rights of its role allow (``RULES`` below) |
| ``device`` | read packages, the update repository that signs them, and the plant file |
| ``ingest`` | hand in messages at ``/mqttingest`` |

A route without a line needs the right to administer; a test names it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from lineside.core import RefusedError


class Right(StrEnum):
    """Right that a route needs.

    ``look``: read anything; ``operate``: orders, labels, answers in review, acknowledging alerts,
    trying and counting pictures, comparing a version again, a dataset version as a ZIP; ``build``:
    dataset versions, training runs, replays, packages and versions of models, operating points, the
    plant file, trying a rule; ``release``: approve, reject, roll back, take into use, settings of
    model groups; ``administer``: what no other right covers.
    """

    LOOK = "look"
    OPERATE = "operate"
    BUILD = "build"
    RELEASE = "release"
    ADMINISTER = "administer"


class Role(StrEnum):
    """Role of a person, or of a token of kind ``api``."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    APPROVER = "approver"
    ADMIN = "admin"


GRANTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.LOOK}),
    Role.OPERATOR: frozenset({Right.LOOK, Right.OPERATE}),
    Role.ENGINEER: frozenset({Right.LOOK, Right.OPERATE, Right.BUILD}),
    Role.APPROVER: frozenset({Right.LOOK, Right.OPERATE, Right.RELEASE}),
    Role.ADMIN: frozenset(Right),
}


def roles_with(right: Right) -> tuple[Role, ...]:
    """Return the roles that have a right, from the least to the most."""
    return tuple(role for role in Role if right in GRANTS[role])


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks. ``kind``: ``session`` (browser), ``api``, ``device`` or ``ingest`` (tokens).

    ``role``: of a session or of a token of kind ``api``; None of the others.
    """

    name: str
    kind: str
    role: Role | None = None


COOKIE = "lineside_session"

_OPEN = (
    "/healthz",
    "/readyz",
    "/ping",
    "/v2/health/live",
    "/v2/health/ready",
    "/sign-in",
    "/api/v1/enrolment",
    "/welcome",
    "/favicon.ico",
)
_OPEN_BELOW = (
    "/static/", "/api/v1/enrolment/", "/endpoints/", "/2015-03-31/functions", "/role-aliases/",
)  # fmt: skip
_SIGNED_BELOW = ("/jobs/", "/things/", "/s3/")
_FOR_DEVICES = re.compile(
    r"/api/v1/packages/[^/]+/content|/tuf/(metadata|targets)/.+|/s3(/.*)?"
    r"|/api/v1/operating-points/[^/]+/versions/[0-9]+/content"
    r"|/api/v1/plant/versions/[0-9]+/content"
)

RULES: dict[Right, str] = {
    Right.LOOK: """
        GET /ws
        GET /api/v1/me
        POST /api/v1/me/password
        POST /sign-out
        GET /api/docs
        GET /api/openapi.json
        GET /api/v1/alerts
        GET /api/v1/alerts/{alert}
        GET /api/v1/cameras
        GET /api/v1/cameras/{camera}
        GET /api/v1/frames
        GET /api/v1/frames/count
        GET /api/v1/frames/export
        GET /api/v1/frames/{frame}
        GET /api/v1/frames/{frame}/picture
        GET /api/v1/frames/{frame}/thumbnail
        GET /api/v1/frames/{frame}/activation
        GET /api/v1/review
        GET /api/v1/review/quality
        GET /api/v1/review/{item}
        GET /api/v1/review/{item}/picture
        GET /api/v1/review/{item}/thumbnail
        GET /api/v1/datasets
        GET /api/v1/datasets/{name}
        GET /api/v1/datasets/{name}/samples
        GET /api/v1/datasets/{name}/samples/{digest}
        GET /api/v1/datasets/{name}/progress
        GET /api/v1/datasets/{name}/labels
        GET /api/v1/datasets/{name}/versions/{number}
        GET /api/v1/datasets/{name}/versions/{number}/leaks
        GET /api/v1/datasets/{name}/versions/{number}/report
        GET /api/v1/datasets/{name}/diff
        GET /api/v1/datasets/{name}/tags
        GET /api/v1/runs
        GET /api/v1/runs/{run}
        GET /api/v1/packages
        GET /api/v1/packages/{digest}
        GET /api/v1/packages/{digest}/content
        GET /tuf/metadata/{name}
        GET /tuf/targets/{path:path}
        GET /s3
        GET /s3/
        GET /s3/{bucket}
        GET /s3/{bucket}/{key:path}
        GET /api/v1/models
        GET /api/v1/models/{group}
        GET /api/v1/models/{group}/versions
        GET /api/v1/models/{group}/versions/{number}
        GET /api/v1/models/{group}/versions/{number}/report
        GET /api/v1/models/{group}/settings
        GET /api/v1/operating-points/{inspection}/versions
        GET /api/v1/operating-points/{inspection}/versions/{number}
        GET /api/v1/operating-points/{inspection}/versions/{number}/content
        POST /api/v1/operating-points/{inspection}/preview
        GET /inspections/new
        GET /inspections/new/{name}
        GET /inspections/{inspection}/operating-point
        GET /inspections/{inspection}/operating-point/preview
        GET /api/v1/functions
        GET /api/v1/functions/{name}/pictures
        GET /api/v1/counts
        GET /api/v1/counts/{count}
        GET /api/v1/counts/{count}/picture
        GET /api/v1/twin
        GET /api/v1/twin/live
        GET /api/v1/twin/documents/{collection}
        GET /api/v1/twin/{path:path}
        GET /api/v1/orders
        GET /api/v1/orders/{order}
        GET /api/v1/events
        GET /api/v1/events/{event}
        GET /api/v1/verdicts
        GET /api/v1/lines/{line}/figures
        GET /api/v1/rules
        GET /api/v1/rules/{rule}
        GET /api/v1/rule-events
        GET /api/v1/rule-events/summary
        GET /api/v1/replays
        GET /api/v1/replays/{replay}
        GET /api/v1/replays/{replay}/result
        GET /api/v1/trace/{identifier:path}
        GET /api/v1/devices
        GET /api/v1/devices/invitations
        GET /api/v1/devices/{device}
        GET /api/v1/jobs
        GET /api/v1/jobs/{job}
        GET /api/v1/jobs/{job}/executions
        GET /api/v1/rollouts
        GET /api/v1/rollouts/{rollout}
        GET /endpoint
        POST /sagemaker
        GET /jobs
        GET /jobs/{job}
        GET /jobs/{job}/job-document
        GET /jobs/{job}/things
        GET /things/{thing}/jobs
        GET /things/{thing}/jobs/{job}
        GET /api/v1/dead-letters
        GET /api/v1/dead-letters/{letter}
        GET /api/v1/dead-letters/{letter}/payload
        GET /api/v1/followers
        GET /api/v1/followers/{follower}/quarantine
        GET /api/v1/stats
        GET /metrics
        GET /v2
        GET /v2/models/{model}
        GET /v2/models/{model}/ready
        GET /v2/models/{model}/versions/{version}
        GET /v2/models/{model}/versions/{version}/ready
        GET /
        GET /lines
        GET /lines/{line}
        GET /lines/{line}/{camera}
        GET /review
        GET /pictures
        GET /frames
        GET /twin
        GET /twin/evidence
        GET /frames/{frame}
        GET /frames/{frame}/nearest
        GET /trace/{identifier:path}
        GET /datasets
        GET /datasets/{name}
        GET /datasets/{name}/label
        GET /datasets/{name}/versions/{number}
        GET /datasets/{name}/diff
        GET /datasets/{name}/pictures/{digest}
        GET /datasets/{name}/pictures/{digest}/drawn
        GET /training
        GET /training/{run}
        GET /training/{run}/progress
        GET /models
        GET /models/groups/{group}
        GET /models/groups/{group}/{number}
        GET /models/groups/{group}/{number}/report
        GET /models/{digest}
        GET /models/{digest}/report
        GET /replays
        GET /replays/{replay}
        GET /replays/{replay}/progress
        GET /try
        GET /regions
        GET /count
        GET /count/{count_id}
        GET /count/{count_id}/picture
        GET /count/{count_id}/activation
        GET /events
        GET /events/{event}
        GET /events/rules
        GET /events/rules/rows
        GET /events/rules/sums
        GET /events/rules/try
        GET /rejected-messages
        GET /devices
        GET /rollouts
        GET /rollouts/new
        GET /rollouts/{rollout}
        GET /rollouts/{rollout}/progress
        GET /devices/{device}
        GET /search
        GET /alerts
        GET /setup
        GET /setup/{section}
    """,
    Right.OPERATE: """
        POST /api/v1/orders
        POST /api/v1/datasets/{name}/samples
        POST /api/v1/datasets/{name}/samples/{digest}
        POST /api/v1/datasets/{name}/samples/{digest}/comments
        POST /api/v1/datasets/{name}/labels
        GET /api/v1/datasets/{name}/export
        GET /api/v1/datasets/{name}/versions/{number}/export
        POST /api/v1/alerts/{alert}/acknowledge
        POST /api/v1/review/{item}/answer
        POST /api/v1/review/{item}/undo
        POST /api/v1/packages/{digest}/predict
        POST /try/{digest}
        POST /api/v1/models/{group}/versions/{number}/compare
        POST /v2/models/{model}/infer
        POST /v2/models/{model}/versions/{version}/infer
        POST /api/v1/functions/{name}/call
        POST /api/v1/counts
        POST /api/v1/counts/uploaded
        POST /api/v1/counts/{count}/correction
    """,
    Right.BUILD: """
        POST /api/v1/datasets/{name}/import
        POST /api/v1/datasets/{name}/freeze
        POST /api/v1/datasets/{name}/labels/rename
        POST /api/v1/datasets/{name}/tags
        POST /api/v1/datasets/{name}/split
        POST /api/v1/runs
        POST /api/v1/runs/{run}/cancel
        POST /api/v1/runs/{run}/resume
        POST /api/v1/replays
        POST /api/v1/replays/{replay}/cancel
        POST /api/v1/packages
        POST /api/v1/packages/{digest}/inspection
        POST /api/v1/models/{group}/versions
        POST /api/v1/operating-points/{inspection}/versions
        POST /api/v1/rules/try
        POST /events/rules/try
        GET /api/v1/plant
        GET /api/v1/plant/versions
        GET /api/v1/plant/versions/{number}
        GET /api/v1/plant/versions/{number}/content
        POST /api/v1/plant
        POST /api/v1/plant/check
        POST /api/v1/cameras/test
        POST /api/v1/plant/rollback
        POST /api/v1/plant/adopt
        POST /api/v1/plant/restore
        GET /setup/text
        GET /setup/history
        GET /setup/history/{number}
    """,
    Right.RELEASE: """
        POST /api/v1/packages/{digest}/use
        POST /api/v1/models/{group}/versions/{number}/approve
        POST /api/v1/models/{group}/versions/{number}/reject
        POST /api/v1/models/{group}/settings
        POST /api/v1/operating-points/{inspection}/versions/{number}/approve
        POST /api/v1/operating-points/{inspection}/versions/{number}/reject
        POST /api/v1/operating-points/{inspection}/versions/{number}/rollback
        POST /api/v1/rollouts
        POST /api/v1/rollouts/preview
        POST /rollouts/preview
        POST /api/v1/rollouts/{rollout}/pause
        POST /api/v1/rollouts/{rollout}/resume
        POST /api/v1/rollouts/{rollout}/abort
        POST /api/v1/rollouts/{rollout}/rollback
        POST /api/v1/jobs
        POST /api/v1/jobs/{job}/cancel
        POST /api/v1/jobs/{job}/executions/{thing}/cancel
        PUT /jobs/{job}
        PUT /jobs/{job}/cancel
        DELETE /jobs/{job}
        PUT /s3/{bucket}/{key:path}
        DELETE /s3/{bucket}/{key:path}
        POST /s3/{rest:path}
        PUT /s3/{rest:path}
        PATCH /s3/{rest:path}
        DELETE /s3/{rest:path}
        POST /jobs/{job}/targets
        PUT /things/{thing}/jobs/{job}
        POST /things/{thing}/jobs/{job}
        PUT /things/{thing}/jobs/{job}/cancel
        DELETE /things/{thing}/jobs/{job}/executionNumber/{number}
    """,
    Right.ADMINISTER: """
        POST /mqttingest
        POST /api/v1/followers/{follower}/quarantine/retry
        POST /api/v1/followers/{follower}/quarantine/discard
        POST /api/v1/followers/{follower}/quarantine/{position}/retry
        POST /api/v1/followers/{follower}/quarantine/{position}/discard
        GET /api/v1/local-device
        POST /api/v1/local-device/start
        POST /api/v1/local-device/stop
        POST /api/v1/devices/authority
        POST /api/v1/devices/invitations
        POST /api/v1/devices/invitations/{device}/withdraw
        POST /api/v1/devices/{device}/revoke
        POST /api/v1/devices/{device}/groups
        GET /api/v1/users
        POST /api/v1/users
        POST /api/v1/users/{name:path}/role
        POST /api/v1/users/{name:path}/password
        POST /api/v1/users/{name:path}/remove
        GET /api/v1/tokens
        POST /api/v1/tokens
        POST /api/v1/tokens/{name:path}/revoke
        GET /setup/users
    """,
}


def may_be_signed(path: str) -> bool:
    """Return whether a path takes a signature in place of a session; the route checks it."""
    return path in ("/jobs", "/s3", "/endpoint", "/sagemaker") or path.startswith(_SIGNED_BELOW)


def is_open(path: str) -> bool:
    """Return whether a path answers to anybody."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def required_right(method: str, path: str) -> Right | None:
    """The right that a request needs; None where no line names it."""
    method = "GET" if method == "HEAD" else method
    for template, right in _templates().get(method, ()):
        if template.fullmatch(path):
            return right
    return None


def authorize(identity: Identity, *, method: str, path: str) -> None:
    """Refuse what this identity may not.

    Raises:
        RefusedError: its kind or role is not for this path.
    """
    where = f"{method} {path}"
    if identity.kind == "device" and method in ("GET", "HEAD") and _FOR_DEVICES.fullmatch(path):
        return
    if identity.kind == "ingest" and path == "/mqttingest":
        return
    if identity.role is None:
        raise RefusedError(
            f"a token of kind {identity.kind!r} may not do this",
            where=where,
            fix="Use a token of kind api.",
        )
    needed = required_right(method, path) or Right.ADMINISTER
    if needed not in GRANTS[identity.role]:
        raise RefusedError(
            f"{identity.name} is {identity.role}, and this needs the right to {needed}",
            where=where,
            fix=f"Ask somebody who has it: {', '.join(roles_with(needed))}.",
        )


def is_allowed(identity: Identity | None, *, method: str, path: str) -> bool:
    """Return whether ``authorize`` would pass, so that a page shows no button in vain."""
    role = identity.role if identity else None
    return role is not None and (required_right(method, path) or Right.ADMINISTER) in GRANTS[role]


def roles_allowed(*, method: str, path: str) -> str:
    """The roles that may, in words: ``engineer or admin``."""
    return " or ".join(roles_with(required_right(method, path) or Right.ADMINISTER))


def stated_right(method: str, *, path: str) -> str:
    """The right that a path of a route needs, and who else may; ``none``: anybody may."""
    named = re.sub(r"\{[^}]*\}", "1", path)
    if is_open(named):
        proofs = {"role-aliases": "a certificate", "endpoints": "a signature"}
        proofs["2015-03-31"] = "a signature"
        return proofs.get(named.split("/")[1], "none")
    others = {
        "a signature": may_be_signed(named),
        "a device": method == "GET" and _FOR_DEVICES.fullmatch(named),
        "a token of kind ingest": named == "/mqttingest",
    }
    needed = required_right(method, named) or Right.ADMINISTER
    return " or ".join([needed, *(name for name, may in others.items() if may)])


@lru_cache(maxsize=1)
def _templates() -> dict[str, list[tuple[re.Pattern[str], Right]]]:
    """By method, those with the fewest parameters first: they say the most about a path."""
    lines = [(line.split(), right) for right, text in RULES.items() for line in _lines(text)]
    lines.sort(key=lambda one: (one[0][1].count("{"), ":path}" in one[0][1]))
    found: dict[str, list[tuple[re.Pattern[str], Right]]] = {}
    for (method, path), right in lines:
        found.setdefault(method, []).append((_pattern(path), right))
    return found


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", path)
    written = [
        (".+" if part.endswith(":path}") else "[^/]+") if part.startswith("{") else re.escape(part)
        for part in parts
    ]
    return re.compile("".join(written))
