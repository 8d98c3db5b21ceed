"""The hub's update repository over HTTP, as a source for ``fleet.UpdateClient``.

Nothing that comes is believed here; the token goes to the configured hub only, and redirects are
not followed (``fetch``).
"""

import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from urllib.parse import quote

from lineside.core import InvalidError, LinesideError, UnavailableError
from lineside.edge.hub_client import asked_to_wait, opener_for, rebased, said_by, translated
from lineside.fleet import Part

_TIMEOUT_S = 20.0
_CHUNK_BYTES = 1 << 16
_BUSY = (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE)
_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/[0-9]{1,15}")


class HubSource:
    """``fleet.Source`` below ``/tuf/`` of a hub; one request at a time."""

    def __init__(
        self,
        hub: str,
        *,
        token: Callable[[], str],
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """Ask nothing yet.

        Args:
            hub: base URL.
            token: the device's token, read for each request.
            tls: whom to believe and what to show, for a hub that speaks HTTPS.
        """
        self._hub = hub
        self._token = token
        self._tls = tls

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """From the hub; part of a file where it knows ranges (RFC 9110, 14).

        Raises:
            BusyError: the hub says when to come again.
        """
        address = rebased(f"/tuf/{quote(path)}", hub=self._hub)
        headers = _asked(start_byte, end_byte)
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(address, headers=headers)  # noqa: S310  the scheme is checked
        try:
            answer = opener_for(self._tls()).open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            said = said_by(error)
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                yield Part(start_byte=start_byte, chunks=iter(()))  # it has no more than that
                return
            raise _answered(error, address, said=said) from error
        except (OSError, HTTPException) as error:
            raise _away(error, address) from error
        with answer:
            yield Part(start_byte=_begin(answer), chunks=_chunks(answer, address))


def _asked(start_byte: int, end_byte: int | None) -> dict[str, str]:
    if not start_byte and end_byte is None:
        return {}
    return {"Range": f"bytes={start_byte}-{'' if end_byte is None else end_byte - 1}"}


def _answered(error: urllib.error.HTTPError, address: str, *, said: bytes) -> LinesideError:
    """What stands between device and repository is mended by people, not by the request."""
    if error.code in _BUSY and (busy := asked_to_wait(error.headers, address=address)):
        return busy
    found = translated(error.code, address, said=said)
    if isinstance(found, InvalidError):
        return UnavailableError(found.message, where=found.where, fix="Look after the hub's proxy.")
    return found


def _begin(answer: HTTPResponse) -> int:
    """Where the answer begins; a server that ignored the range sends all of it."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[1]) if answer.status == http.client.PARTIAL_CONTENT and found else 0


def _chunks(answer: HTTPResponse, address: str) -> Iterator[bytes]:
    try:
        while chunk := answer.read1(_CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _away(error, address) from error
    if answer.length:
        raise _away(EOFError(f"{answer.length} bytes missing"), address)


def _away(error: Exception, address: str) -> UnavailableError:
    return UnavailableError(
        f"the hub does not answer: {error}", where=address, fix="Start the hub."
    )
