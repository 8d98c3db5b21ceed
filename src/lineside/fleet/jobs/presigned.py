"""``${aws:iot:s3-presigned-url:<object>}`` in a document, replaced by a short-lived link.

1. The object is a URL or ``bucket/key``; ``s3-presigned-url-v2`` is read alike.
2. What can be linked is asked when a job is made, so that a device never waits for a link that
   nobody can make; the link itself is made each time a device gets the document.
3. Source: AWS IoT developer guide, "Managing jobs", "Presigned URLs".
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from lineside.core import InvalidError

MOST_LINKS = 32
_MOST_DEPTH = 64
_BEGINS = "${aws:iot:s3-presigned-url"
_PLACEHOLDER = re.compile(r"\$\{aws:iot:s3-presigned-url(?:-v2)?:([^}\s]+)\}")


class ObjectLinks(Protocol):
    """Short-lived links to objects; safe from several threads."""

    def check(self, url: str) -> None:
        """``InvalidError`` where no link can be made to this object."""
        ...

    def link(self, url: str, *, seconds: int) -> str:
        """A link that works for so long, to an object that was checked before; never raises."""
        ...


def asks_for_links(document: object) -> bool:
    """Whether a link is to be made when a device gets the document."""
    return any(_BEGINS in text for text, _ in _texts(document))


def check_links(document: object, links: ObjectLinks | None) -> None:
    """``InvalidError`` for placeholders that cannot be replaced."""
    wanted: dict[str, None] = {}
    for text, depth in _texts(document):
        found = _PLACEHOLDER.findall(text)
        if text.count(_BEGINS) != len(found):
            raise _wrong(
                "a placeholder without an object",
                fix="Write ${aws:iot:s3-presigned-url:https://s3.region.amazonaws.com/bucket/key}.",
            )
        if found and depth > _MOST_DEPTH:
            raise _wrong("a placeholder too deep inside", fix="Move it further out.")
        wanted |= dict.fromkeys(found)
    if len(wanted) > MOST_LINKS:
        raise _wrong(f"{len(wanted)} presigned links", fix=f"Ask for at most {MOST_LINKS}.")
    for url in wanted:
        if links is None:
            raise _wrong(
                "the document asks for presigned links, and no store here makes them",
                fix="Name the object by a URL that the device may read.",
            )
        links.check(url)


def with_links(document: Any, links: ObjectLinks, *, seconds: int) -> Any:  # noqa: ANN401  any JSON
    """The document, which was checked, with every placeholder replaced; keys stay as they are."""
    match document:
        case str():
            return _PLACEHOLDER.sub(lambda found: links.link(found[1], seconds=seconds), document)
        case Mapping() | list() | tuple() if not asks_for_links(document):
            return document
        case Mapping():
            return {
                key: with_links(value, links, seconds=seconds) for key, value in document.items()
            }
        case list() | tuple():
            return [with_links(value, links, seconds=seconds) for value in document]
        case _:
            return document


def _texts(document: object) -> Iterator[tuple[str, int]]:
    """Every text that is a value, with how deep inside it stands."""
    waiting: list[tuple[object, int]] = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        match value:
            case str():
                yield value, depth
            case Mapping():
                waiting += [(inner, depth + 1) for inner in value.values()]
            case list() | tuple():
                waiting += [(inner, depth + 1) for inner in value]
            case _:
                pass


def _wrong(message: str, *, fix: str) -> InvalidError:
    return InvalidError(message, where="document", fix=fix)
