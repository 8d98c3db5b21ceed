"""Parts of pages, made once for all who show them; the live socket sends them where they changed.

A part has an address, ``/lines/figures?line=a``: the path names its source, the query goes to it.
No page waits for the making: it happens in a thread, and those who show the part hear of it after.
One that cannot be made stays as it was, and is sent with ``"stale": true`` until it can.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from lineside.core import InvalidError, LinesideError, encode
from lineside.hub.eventlog.ledger import Ledger
from lineside.twin import LineState

logger = logging.getLogger(__name__)

_MOST = 64
_SOON_S = 1.0


class PartSource(NamedTuple):
    """Source of a part of a page: gives HTML for the query of its address.

    It is made anew at most every ``every_s`` seconds where the twin has changed, and else every
    ``ages_s``. ``check`` raises ``InvalidError`` for a query that never gives HTML, without I/O.
    """

    html: Callable[[str], str]
    every_s: float
    ages_s: float
    check: Callable[[str], object] = str


class _Part(NamedTuple):
    """A part of a page, of this twin or a later one, with the loop's time of making."""

    state: LineState
    made_s: float
    html: str
    message: bytes
    is_stale: bool = False


def framed(header: bytes, jpeg: bytes = b"") -> bytes:
    """One message of the wire."""
    return b"".join((struct.pack(">I", len(header)), header, jpeg))


class PageParts:
    """All parts that open pages show; used on the event loop only."""

    def __init__(self, ledger: Ledger, *, made: Callable[[str], None]) -> None:
        """``made``: called with the address of a part that was made anew."""
        self.sources: Mapping[str, PartSource] = {}
        self._ledger = ledger
        self._made = made
        self._parts: dict[str, _Part] = {}
        self._making: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Forget what is being made; its loop ends."""
        self._making.clear()

    def check(self, hrefs: Sequence[str]) -> None:
        """Raise ``InvalidError`` for an address that no part has."""
        for href in hrefs:
            try:
                source = self._source(href)
            except (KeyError, ValueError):  # of an address that is none, such as "//["
                raise InvalidError(
                    f"no part of a page is at {href!r}", where="subscribe.parts",
                    fix=f"Known: {', '.join(self.sources)}.",
                ) from None  # fmt: skip
            source.check(urlsplit(href).query)

    def follows_twin(self, href: str) -> bool:
        """Return whether a part is made anew as soon as the twin has changed."""
        return self._source(href).every_s < _SOON_S

    def owes(self, href: str, sent: bytes) -> bool:
        """Return whether a page that was ``sent`` this lacks the part, or a change of the twin."""
        held = self._parts.get(href)
        if held is None:
            return href not in self._making
        is_old = held.state is not self._ledger.state and self.follows_twin(href)
        return is_old or held.message != sent

    def message(self, href: str) -> bytes:
        """Return a part as it was made last, none at first, and have it made anew if it is due."""
        held = self._parts.get(href)
        if href not in self._making and self._is_due(href, held):
            self._making[href] = asyncio.create_task(self._make(href))
        return held.message if held else b""

    def _source(self, href: str) -> PartSource:
        return self.sources[urlsplit(href).path]

    def _is_due(self, href: str, held: _Part | None) -> bool:
        if held is None:
            return True
        source = self._source(href)
        limit_s = source.ages_s if held.state is self._ledger.state else source.every_s
        return asyncio.get_running_loop().time() - held.made_s >= limit_s

    async def _make(self, href: str) -> None:
        """Make a part in a thread; one that fails is shown as it was, and tried again later."""
        state, held = self._ledger.state, self._parts.get(href)
        was_stale, is_stale = held is not None and held.is_stale, False
        try:
            html = await asyncio.to_thread(self._source(href).html, urlsplit(href).query)
        except Exception as error:  # noqa: BLE001  boundary
            html, is_stale = held.html if held else "", True
            if not was_stale:
                _log_lost(href, error)
        if was_stale and not is_stale:
            logger.info("part of a page goes on href=%r", href)
        header = {"kind": "part", "href": href, "revision": state.revision, "html": html}
        header |= {"stale": True} if is_stale else {}
        is_same = held is not None and (held.html, held.is_stale) == (html, is_stale)
        message = held.message if held is not None and is_same else framed(encode(header))
        self._parts.pop(href, None)  # the newest stands last
        now_s = asyncio.get_running_loop().time()
        self._parts[href] = _Part(state, now_s, html, message, is_stale)
        while len(self._parts) > _MOST:
            self._parts.pop(next(iter(self._parts)))
        self._making.pop(href, None)
        self._made(href)


def _log_lost(href: str, error: Exception) -> None:
    if isinstance(error, LinesideError):
        logger.warning("part of a page is out of date href=%r reason=%s", href, error)
    else:
        logger.error("part of a page failed href=%r", href, exc_info=error)
