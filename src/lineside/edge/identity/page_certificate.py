"""The certificate of the device's own page: the site's authority gives it to an enrolled device.

1. A page that others reach is served with it where no other certificate is named. It is asked for
   at enrolment, at the agent's start where none is there, and again before it is over.
2. Its key is made here and stands with it in one file, below ``identity``. It proves nothing to bus
   or hub: it is for the device's names alone.
3. A page with the one before goes on; a connection that begins later sees the next one.
"""

import base64
import logging
from dataclasses import replace
from pathlib import Path

from lineside.core import Clock, InvalidError, LinesideError, NotFoundError, replace_durably
from lineside.edge.config import EdgeConfig, PageConfig
from lineside.edge.hub_client import Access, HubQuestions, place_of
from lineside.edge.identity.files import IdentityFiles, read_identity
from lineside.fleet import device_request, renewal_due, server_certificate
from lineside.fleet.enrolment import PageAnswer, PageRequest, page_message
from lineside.fleet.trust.device_keys import new_device_key, sign_as_device

logger = logging.getLogger(__name__)


def page_settings(config: EdgeConfig, *, clock: Clock) -> PageConfig:
    """The page's settings, with the site's certificate where it is served with that.

    Raises:
        LinesideError: there is no certificate that holds, and none is to be had now.
        InvalidError: the one that is named is none, or is over.
    """
    page = config.page
    if not wants_site(config):
        if page.listen and not page.is_local and not page.tls_cert:
            logger.warning(
                "the page is served without TLS: its password can be read on the way listen=%s "
                "fix: Enrol the device, or name page.tls_cert",
                page.listen,
            )
        if page.listen and page.tls_cert:
            check_holds(Path(page.tls_cert), clock=clock)
        return page
    path = kept_at(config)
    try:
        renew_page(config, clock=clock)
    except LinesideError as error:
        if not path.exists():
            raise
        logger.warning("the page's certificate is not renewed: %s", error)
    check_holds(path, clock=clock)
    return replace(page, tls_cert=str(path), tls_key=str(path))


def wants_site(config: EdgeConfig) -> bool:
    """Whether the page is served with a certificate of the site's authority."""
    page = config.page
    reached = bool(page.listen) and not page.is_local
    enrolled = bool(config.certificate) and config.certificate == config.key and bool(config.hub)
    return reached and enrolled and not page.tls_cert and page.tls != "off"


def kept_at(config: EdgeConfig) -> Path:
    """Where key and certificate stand."""
    return IdentityFiles.below(config.folder).page


def renew_page(config: EdgeConfig, *, clock: Clock) -> bool:
    """Ask for a certificate where there is none, or where it is time; whether it was.

    Raises:
        LinesideError: the hub is away, or refuses.
    """
    path = kept_at(config)
    if path.exists():
        held = server_certificate(read_identity(path).certificate, where=str(path))
        if not renewal_due(held, now=clock.now()):
            return False
    answer, key = _asked(config)
    replace_durably(path, key + answer.certificate.encode(), mode=0o600)
    logger.info("page certified hosts=%s", ",".join(answer.hosts))
    return True


def _asked(config: EdgeConfig) -> tuple[PageAnswer, bytes]:
    running, key = read_identity(Path(config.certificate)), new_device_key()
    request = device_request(key, device=config.device)
    proof = sign_as_device(running.key, message=page_message(request))
    asked = PageRequest(
        certificate=running.certificate.decode(),
        request=request.decode(),
        proof=base64.b64encode(proof).decode(),
    )
    questions = HubQuestions(place_of(config.hub), tls=Access(ca=config.ca).tls())
    return questions.post("/api/v1/enrolment/page", asked, kind=PageAnswer), key


def check_holds(path: Path, *, clock: Clock) -> None:
    """Refuse to serve a page with a certificate that is over.

    Raises:
        InvalidError: it is no certificate, is over, or has not begun.
    """
    try:
        told = server_certificate(path.read_bytes(), where=str(path))
    except OSError as error:
        raise NotFoundError(
            f"the page's certificate cannot be read: {error.strerror}", where=str(path),
            fix="Name files that are there, or leave page.tls_cert empty.",
        ) from error  # fmt: skip
    if not told.begins_at <= clock.now() < told.ends_at:
        raise InvalidError(
            f"the page's certificate holds from {told.begins_at:%Y-%m-%d} to "
            f"{told.ends_at:%Y-%m-%d}, and it is {clock.now():%Y-%m-%d}",
            where=str(path),
            fix="Get a new one: lineside hub certificate --hosts NAME --to FOLDER on the hub; an "
            "enrolled device gets its own where page.tls_cert is empty and the hub is reached.",
        )
