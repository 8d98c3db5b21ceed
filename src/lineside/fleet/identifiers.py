"""Names under which packages are loaded: letters, digits and dashes.

A model's name and version become one identifier, dots of the version as dashes: ``unet`` ``1.2``
is ``unet-1-2``. Versions ``1.2`` and ``1-2`` meet there, so two models may not be kept whose
identifiers are equal.
"""

import re
from collections.abc import Iterable

from lineside.core import InvalidError

_RULE = "[a-zA-Z0-9](-*[a-zA-Z0-9])*"
_NAME = re.compile(_RULE)
_LONGEST = 200
_SHOWN = 60


def check_identifier(name: str, *, where: str) -> str:
    """The name, when it follows the rule ``^[a-zA-Z0-9](-*[a-zA-Z0-9])*$``.

    Raises:
        InvalidError: it does not, or is longer than 200 characters.
    """
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name[:_SHOWN]!r} is no name of a model",
            where=where,
            fix=f"Use letters, digits and inner dashes, no dots or underscores (^{_RULE}$).",
        )
    return name


def identifier_of(name: str, version: str) -> str:
    """What a version of a model is loaded as; ``InvalidError`` where that breaks the rule."""
    return check_identifier(
        f"{name}-{version.replace('.', '-')}", where=f"{name} {version}"[:_SHOWN]
    )


def check_distinct(models: Iterable[tuple[str, str]]) -> None:
    """Refuse names and versions of which two become one identifier.

    Raises:
        InvalidError: as ``1.2`` and ``1-2`` of one model.
    """
    seen: dict[str, str] = {}
    for name, version in models:
        identifier, told = identifier_of(name, version), f"{name} {version}"
        if identifier in seen:
            raise InvalidError(
                f"{seen[identifier]} and {told} are both {identifier}",
                where=identifier,
                fix="Keep one of them, or give the other another version.",
            )
        seen[identifier] = told
