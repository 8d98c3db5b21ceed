"""``${aws:iot:s3-presigned-url:<object url>}`` in a document, replaced by a short-lived link."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Presign = Callable[[str, int], str]
"""From an object's URL and seconds to a link that works for so long."""

_PLACEHOLDER = re.compile(r"\$\{aws:iot:s3-presigned-url:([^}\s]+)\}")


def has_placeholder(document: object) -> bool:
    """Whether a link is to be made when a device asks for the document."""
    match document:
        case str():
            return _PLACEHOLDER.search(document) is not None
        case Mapping():
            return any(has_placeholder(value) for value in document.values())
        case list() | tuple():
            return any(has_placeholder(value) for value in document)
        case _:
            return False


def with_links(document: Any, presign: Presign, *, seconds: int) -> Any:  # noqa: ANN401  any JSON
    """The document with every placeholder replaced; keys stay as they are."""
    match document:
        case str():
            return _PLACEHOLDER.sub(lambda found: presign(found[1], seconds), document)
        case Mapping():
            return {
                key: with_links(value, presign, seconds=seconds) for key, value in document.items()
            }
        case list() | tuple():
            return [with_links(value, presign, seconds=seconds) for value in document]
        case _:
            return document
