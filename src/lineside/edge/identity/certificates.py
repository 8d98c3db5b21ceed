"""Key, certificates and token of the device as files below ``data_dir``, and their renewal.

1. Key and certificate stand in one file, so that a power cut leaves a pair that fits; they are
   replaced together. The connection to the bus takes them from its next beginning on.
2. Secrets are written with mode 0600 from their first byte on.
3. The device's certificate is renewed when less than a third of its time is left. The next key is
   made here and waits in a file of its own: a further try asks with the same one, which is how a
   lost answer is asked for again. Only an identity that enrolment wrote is renewed.
4. The device's own page has a certificate of the site's authority where others reach it and no
   other certificate is named. It is asked for at enrolment, at the agent's start where none is
   there, and again before it is over. Its key proves nothing to bus or hub: it is for the device's
   names alone. A connection that begins later sees the next certificate.
"""

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    replace_durably,
)
from lineside.core.worker import Worker
from lineside.edge.config import EdgeConfig, PageConfig
from lineside.edge.hub_client import Access, HubConnection, address_of
from lineside.fleet import device_request, renewal_due, server_certificate
from lineside.fleet.enrolment import (
    PageAnswer,
    PageRequest,
    RenewalAnswer,
    RenewalRequest,
    page_message,
    renewal_message,
)
from lineside.fleet.trust.certificate_authority import read_device_certificate
from lineside.fleet.trust.certificates import new_device_key, sign_as_device

_FOLDER = "identity"


def _pem(label: bytes) -> re.Pattern[bytes]:
    """An object of this label (RFC 7468)."""
    return re.compile(rb"-----BEGIN %b-----.+?-----END %b-----\n?" % (label, label), re.DOTALL)


_CERTIFICATE, _KEY = _pem(b"CERTIFICATE"), _pem(b"PRIVATE KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFiles:
    """Where everything stands."""

    folder: Path

    @classmethod
    def below(cls, data_dir: Path) -> "IdentityFiles":
        """Those of a device's data folder."""
        return cls(folder=data_dir / _FOLDER)

    @property
    def pair(self) -> Path:
        """Private key and certificate."""
        return self.folder / "device.pem"

    @property
    def waiting(self) -> Path:
        """A key that has no certificate yet."""
        return self.folder / "waiting.key"

    @property
    def page(self) -> Path:
        """Private key and certificate of the device's own page."""
        return self.folder / "page.pem"

    @property
    def authority(self) -> Path:
        """The site's authority."""
        return self.folder / "authority.pem"

    @property
    def token(self) -> Path:
        """Token to fetch packages with."""
        return self.folder / "hub.token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A key and its certificate, both PEM."""

    key: bytes
    certificate: bytes


def read_identity(path: Path) -> Identity:
    """Key and certificate of a file.

    Raises:
        RefusedError: it cannot be read, or one of both is not in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RefusedError(
            f"cannot be read: {error.strerror}", where=str(path), fix="Enrol the device."
        ) from error
    key, certificate = _KEY.search(content), _CERTIFICATE.search(content)
    if key is None or certificate is None:
        raise RefusedError(
            "no key with its certificate", where=str(path), fix="Enrol the device anew."
        )
    return Identity(key=key[0], certificate=certificate[0])


def waiting_key(path: Path) -> bytes:
    """The key that waits for its certificate; made where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        made = new_device_key()
        replace_durably(path, made, mode=0o600)
        return made


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
    path = page_certificate_path(config)
    try:
        renew_page(config, clock=clock)
    except LinesideError as error:
        if not path.exists():
            raise
        logger.warning("the page's certificate is not renewed: %s", error)
    check_holds(path, clock=clock)
    return replace(page, tls_cert=str(path), tls_key=str(path))


def wants_site(config: EdgeConfig) -> bool:
    """True where the page is served with a certificate of the site's authority."""
    page = config.page
    reached = bool(page.listen) and not page.is_local
    enrolled = bool(config.certificate) and config.certificate == config.key and bool(config.hub)
    return reached and enrolled and not page.tls_cert and page.tls != "off"


def page_certificate_path(config: EdgeConfig) -> Path:
    """Where key and certificate stand."""
    return IdentityFiles.below(config.folder).page


def renew_page(config: EdgeConfig, *, clock: Clock) -> bool:
    """Ask for a certificate where there is none, or where it is time; whether it was.

    Raises:
        LinesideError: the hub is away, or refuses.
    """
    path = page_certificate_path(config)
    if path.exists():
        held = server_certificate(read_identity(path).certificate, where=str(path))
        if not renewal_due(held, now=clock.now()):
            return False
    answer, key = _certify(config)
    replace_durably(path, key + answer.certificate.encode(), mode=0o600)
    logger.info("page certified hosts=%s", ",".join(answer.hosts))
    return True


def _certify(config: EdgeConfig) -> tuple[PageAnswer, bytes]:
    running, key = read_identity(Path(config.certificate)), new_device_key()
    request = device_request(key, device=config.device)
    proof = sign_as_device(running.key, message=page_message(request))
    asked = PageRequest(
        certificate=running.certificate.decode(),
        request=request.decode(),
        proof=base64.b64encode(proof).decode(),
    )
    questions = HubConnection(address_of(config.hub), tls=Access(ca=config.ca).tls())
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


logger = logging.getLogger(__name__)

_LOOK_S = 3600.0


def renew(config: EdgeConfig) -> str:
    """Renew now, due or not; until when the next certificate holds, as text.

    Raises:
        InvalidError: the device was not enrolled here.
        RefusedError: the certificate holds no longer.
        UnavailableError: the hub is away.
    """
    if not is_ours(config):
        raise InvalidError(
            "this device has no certificate of enrolment", where="certificate",
            fix="Enrol it: lineside device enrol.",
        )  # fmt: skip
    path = Path(config.certificate)
    running = read_identity(path)
    waiting = path.with_name("next.key")
    key = waiting_key(waiting)
    request = device_request(key, device=config.device)
    proof = sign_as_device(running.key, message=renewal_message(request))
    asked = RenewalRequest(
        certificate=running.certificate.decode(),
        request=request.decode(),
        proof=base64.b64encode(proof).decode(),
    )
    questions = HubConnection(address_of(config.hub), tls=Access(ca=config.ca).tls())
    answer = questions.post("/api/v1/enrolment/renewal", asked, kind=RenewalAnswer)
    told = read_device_certificate(answer.certificate.encode(), where="renewal")
    replace_durably(path, key + answer.certificate.encode(), mode=0o600)
    waiting.unlink(missing_ok=True)
    logger.info("certificate renewed device=%s until=%s", told.device, told.ends_at)
    return f"{told.ends_at:%Y-%m-%d}"


def renew_when_due(config: EdgeConfig, *, clock: Clock) -> bool:
    """Renew where it is time; whether it was.

    Raises:
        LinesideError: as ``renew``; try again later.
    """
    if not is_ours(config):
        return False
    running = read_identity(Path(config.certificate))
    told = read_device_certificate(running.certificate, where=config.certificate)
    if not renewal_due(told, now=clock.now()):
        return False
    renew(config)
    return True


def is_ours(config: EdgeConfig) -> bool:
    """True where enrolment wrote the certificate of this device."""
    return bool(config.certificate) and config.certificate == config.key and bool(config.hub)


@contextmanager
def renewing(config: EdgeConfig, *, clock: Clock) -> Iterator[None]:
    """Look every hour while the block runs, on a thread of its own: the hub may be slow."""
    if not is_ours(config):
        yield
        return

    def renew_both() -> None:
        renew_when_due(config, clock=clock)
        if wants_site(config):
            renew_page(config, clock=clock)

    worker = Worker("renewal", renew_both, every_s=_LOOK_S)
    worker.start()
    try:
        yield
    finally:
        worker.stop()
