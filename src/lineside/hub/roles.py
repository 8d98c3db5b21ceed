"""Roles of people and programs, and what each may do; the whole table is here.

| Role | Looks | Operates | Builds | Releases | Administers |
|---|---|---|---|---|---|
| ``viewer`` | yes | | | | |
| ``operator`` | yes | yes | | | |
| ``engineer`` | yes | yes | yes | | |
| ``approver`` | yes | yes | | yes | |
| ``admin`` | yes | yes | yes | yes | yes |

An approver does not build, so that whoever approves did not make what is approved; that nobody
approves what is their own is a rule beside this one (``models.ModelVersions``), and holds for
``admin`` too.
"""

from enum import StrEnum


class Right(StrEnum):
    """What a route asks of whoever calls it.

    ``look``: read anything; ``operate``: orders, labels, trying and counting pictures, comparing a
    version again; ``build``: dataset versions, training runs, replays, packages and versions of
    models, trying a rule; ``release``: approve, reject, take into use, settings of model groups;
    ``administer``: what no other right covers.
    """

    LOOK = "look"
    OPERATE = "operate"
    BUILD = "build"
    RELEASE = "release"
    ADMINISTER = "administer"


class Role(StrEnum):
    """What a person, or a token of kind ``api``, is."""

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
    """Who has a right, from the least role to the most."""
    return tuple(role for role in Role if right in GRANTS[role])
