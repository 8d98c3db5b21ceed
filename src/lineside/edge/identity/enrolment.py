"""A device becomes one of the site's: the way to the hub is tried step by step, then it is walked.

1. The hub's authority is believed by the fingerprint in the code, and the hub by that authority,
   before the code's secret is sent anywhere.
2. The key is made here and never leaves. What is written is written as a whole, the configuration
   last: where it stands, everything it names stands too.
3. Doing it again changes nothing: a device that has everything says so; one that broke off goes on
   with the key it asked with.

Key, certificates and token of the device as files below ``data_dir``, and their renewal.

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
import json
import logging
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode,
    decode_toml,
    replace_durably,
)
from lineside.core.worker import Worker
from lineside.edge.config import EdgeConfig, PageConfig
from lineside.edge.hub_client import (
    Access,
    HubAddress,
    HubClient,
    HubResponse,
    address_of,
    look_up,
    reach,
)
from lineside.edge.identity.trust import TRUST
from lineside.fleet import device_request, pin_root, renewal_due, server_certificate
from lineside.fleet.enrolment import (
    CodeAnswer,
    CodeQuestion,
    EnrolmentAnswer,
    EnrolmentCode,
    EnrolmentRequest,
    PageAnswer,
    PageRequest,
    RenewalAnswer,
    RenewalRequest,
    fingerprint_of,
    page_message,
    read_code,
    renewal_message,
)
from lineside.fleet.trust.certificate_authority import read_device_certificate
from lineside.fleet.trust.certificates import Pair, new_device_key, sign_as_device
from lineside.links import open_bus

_FOLDER = "identity"


def _pem(label: bytes) -> re.Pattern[bytes]:
    """An object of this label (RFC 7468)."""
    return re.compile(rb"-----BEGIN %b-----.+?-----END %b-----\n?" % (label, label), re.DOTALL)


_CERTIFICATE, _KEY = _pem(b"CERTIFICATE"), _pem(b"PRIVATE KEY")


class IdentityFiles:
    """Files of a device's identity below its data folder.

    Attributes:
        pair: private key and certificate.
        waiting: a key that has no certificate yet.
        page: private key and certificate of the device's own page.
        ca: the site's authority.
        token: to fetch packages with.
    """

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / _FOLDER
        self.pair = self.folder / "device.pem"
        self.waiting = self.folder / "waiting.key"
        self.page = self.folder / "page.pem"
        self.ca = self.folder / "authority.pem"
        self.token = self.folder / "hub.token"


def read_identity(path: Path) -> Pair:
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
    return Pair(key=key[0], certificate=certificate[0])


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
    return IdentityFiles(config.folder).page


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
    key = new_device_key()
    request = device_request(key, device=config.device)
    body = PageRequest(**_with_proof(config, request, message=page_message(request)))
    return _hub(config).post("/api/v1/enrolment/page", body, kind=PageAnswer), key


def _with_proof(config: EdgeConfig, request: bytes, *, message: bytes) -> dict[str, str]:
    """A request with the running certificate, and the proof that its key is here."""
    running = read_identity(Path(config.certificate))
    return {
        "certificate": running.certificate.decode(), "request": request.decode(),
        "proof": base64.b64encode(sign_as_device(running.key, message=message)).decode(),
    }  # fmt: skip


def _hub(config: EdgeConfig) -> HubClient:
    return HubClient(address_of(config.hub).url, tls=Access(ca=config.ca).tls)


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
    waiting = path.with_name("next.key")
    key = waiting_key(waiting)
    request = device_request(key, device=config.device)
    body = RenewalRequest(**_with_proof(config, request, message=renewal_message(request)))
    answer = _hub(config).post("/api/v1/enrolment/renewal", body, kind=RenewalAnswer)
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


_CLOCK_OFF = timedelta(minutes=4)  # certificates begin five minutes early
_HUB_NAME = "{hub}"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentResult:
    """Result of an enrolment; ``made`` False: it was there before."""

    device: str
    config: Path
    made: bool


def enrol(
    hub: str, code: str, *, data_dir: Path, config: Path | None = None, clock: Clock, say: Say
) -> EnrolmentResult:
    """Enrol this device.

    Args:
        hub: its address.
        code: as it was printed.
        data_dir: of the agent.
        config: the agent's TOML file; None: ``edge.toml`` in ``data_dir``.
        clock: of certificates.
        say: is given a line for each step that worked.

    Raises:
        InvalidError: the code is mistyped, the address is none, or this device's clock is wrong.
        RefusedError: another hub, or one that refuses the code.
        UnavailableError: the hub or the bus is not reached; says at which step.
        ConflictError: the device belongs to another site, or other settings stand there.
    """
    asked, place, data_dir = read_code(code), address_of(hub), data_dir.absolute()
    files, config = IdentityFiles(data_dir), (config or data_dir / "edge.toml").absolute()
    existing = _existing(config, files, code=asked, clock=clock)
    if existing is not None:
        say(f"enrolled already as {existing.device}")
        return existing
    authority = check_way(place, code=asked, clock=clock, say=say)
    client = HubClient(place.url, tls=partial(_context, authority))
    question = CodeQuestion(secret=asked.secret)
    told = client.post("/api/v1/enrolment/code", question, kind=CodeAnswer)
    say(f"code: for {told.device} at {told.site}")
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The key of an identity that is there, else one that waits.
    there = files.pair.exists()
    key = read_identity(files.pair).key if there else waiting_key(files.waiting)
    request = device_request(key, device=told.device).decode()
    body = EnrolmentRequest(secret=asked.secret, request=request)
    answer = client.post("/api/v1/enrolment", body, kind=EnrolmentAnswer)
    settings = settings_of(answer, data_dir=data_dir, place=place)
    _check_settings(config, settings)
    _keep(answer, key=key, files=files, data_dir=data_dir)
    if not config.exists():
        replace_durably(config, _toml(settings).encode())
    say(f"enrolled: certificate and settings of {answer.device}")
    _certify_page(settings, clock=clock, say=say)
    return EnrolmentResult(device=answer.device, config=config, made=True)


def check_way(place: HubAddress, *, code: EnrolmentCode, clock: Clock, say: Say) -> bytes:
    """Try every step to the hub, in order; the site's authority, PEM.

    Raises:
        UnavailableError: name or connection.
        InvalidError: no TLS, or this device's clock is wrong.
        NotFoundError: no hub, or one without an authority.
        RefusedError: the hub is not the one that the code is of.
    """
    say(f"name: {place.host} is {look_up(place)}")
    reach(place.host, place.port, what="the hub")
    say(f"connection: port {place.port} answers")
    answered = _certificate_authority(place)
    _check_clock(answered.at, clock=clock, say=say)
    if fingerprint_of(answered.body) != code.fingerprint:
        raise RefusedError(
            "this is not the hub that the code is of: the authority's fingerprint is another",
            where=place.url,
            fix="Write the address of the hub that printed the code; if it is, somebody listens.",
        )
    say("fingerprint: the authority is the one of the code")
    if place.secure:
        HubClient(place.url, tls=partial(_context, answered.body)).get("/healthz")
        say("TLS: the hub's certificate is of this authority")
    return answered.body


def check_bus(config: EdgeConfig, *, clock: Clock) -> None:
    """Join the bus once, as the agent will.

    Raises:
        UnavailableError: it is away, or ends the connection at once.
        RefusedError: it refuses the certificate.
    """
    bus = open_bus(config.bus_url, client_id=f"lineside-{config.device}-check", clock=clock)
    try:
        if not bus.connected():
            raise UnavailableError(
                "the bus does not let this device in, or is away", where=config.bus,
                fix="Start it, open its port in the firewall, and look at the hub's log.",
            )  # fmt: skip
    finally:
        bus.close()


def _certificate_authority(place: HubAddress) -> HubResponse:
    """The certificate authority at the address; nothing of it is believed yet."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    try:
        return HubClient(place.url, tls=lambda: blind).get("/api/v1/enrolment/authority")
    except UnavailableError as error:
        if isinstance(error.__cause__, (ssl.SSLError, ConnectionResetError)):
            raise InvalidError(
                "something answers there, but not by TLS", where=place.url,
                fix='Write the port of the hub\'s pages; it serves HTTPS with tls = "site".',
            ) from error  # fmt: skip
        raise
    except NotFoundError as error:
        raise NotFoundError(
            f"the hub has no authority, or this is no hub: {error.message}", where=place.url,
            fix="Run lineside hub init on the hub.",
        ) from error  # fmt: skip


def _check_clock(at: datetime | None, *, clock: Clock, say: Say) -> None:
    if at is None:
        return
    ahead = clock.now() - at
    side = "ahead of" if ahead > timedelta() else "behind"
    words = f"{abs(ahead.total_seconds()):.0f} s {side} the hub's"
    if abs(ahead) > _CLOCK_OFF:
        raise InvalidError(
            f"this device's clock is {words}, and no certificate would hold", where="clock",
            fix="Set it: timedatectl set-ntp true, or name the hub as time server.",
        )  # fmt: skip
    say(f"clock: {words}")


def _context(ca_certificate: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ca_certificate.decode("ascii"))


def _existing(
    config: Path, files: IdentityFiles, *, code: EnrolmentCode, clock: Clock
) -> EnrolmentResult | None:
    """An existing enrolment; None where something is missing or over."""
    if not files.ca.exists():
        return None
    if fingerprint_of(files.ca.read_bytes()) != code.fingerprint:
        raise ConflictError(
            "this device belongs to another site", where=str(files.folder),
            fix="Use another --data-dir, or move that folder away.",
        )  # fmt: skip
    if not (files.pair.exists() and files.token.exists() and config.exists()):
        return None
    told = read_device_certificate(read_identity(files.pair).certificate, where=str(files.pair))
    if told.ends_at <= clock.now():
        files.pair.unlink()  # its key may have served long enough
        return None
    return EnrolmentResult(device=told.device, config=config, made=False)


def _keep(answer: EnrolmentAnswer, *, key: bytes, files: IdentityFiles, data_dir: Path) -> None:
    if answer.root:
        pin_root(data_dir / TRUST, answer.root.encode())
    replace_durably(files.ca, answer.authority.encode())
    replace_durably(data_dir / "plant.toml", answer.plant.encode(), mode=0o600)
    replace_durably(files.token, f"{answer.token}\n".encode(), mode=0o600)
    replace_durably(files.pair, key + answer.certificate.encode(), mode=0o600)
    files.waiting.unlink(missing_ok=True)


def settings_of(
    answer: EnrolmentAnswer, *, data_dir: Path, place: HubAddress
) -> dict[str, str | list[str]]:
    """Settings of the agent; paths are absolute."""
    files = IdentityFiles(data_dir)
    host = f"[{place.host}]" if ":" in place.host else place.host
    found: dict[str, str | list[str]] = {
        "device": answer.device,
        "bus": answer.bus.replace(_HUB_NAME, host),
        "plant": str(data_dir / "plant.toml"),
        "data_dir": str(data_dir),
        "hub": place.url,
        "token_file": str(files.token),
        "ca": str(files.ca),
        "certificate": str(files.pair),
        "key": str(files.pair),
    }
    if answer.cameras:
        found["cameras"] = list(answer.cameras)
    return found


def _certify_page(settings: Mapping[str, str | list[str]], *, clock: Clock, say: Say) -> None:
    """A certificate for the device's own page; without it the rest works, and it is asked again."""
    try:
        renew_page(decode(EdgeConfig, settings, where="settings"), clock=clock)
    except LinesideError as error:
        say(f"page: no certificate for the device's own page yet: {error.message}")
    else:
        say("page: certificate of the device's own page")


def _check_settings(path: Path, wanted: dict[str, str | list[str]]) -> None:
    """Settings that somebody wrote stay as they are, if they say the same."""
    if not path.exists():
        return
    there = decode_toml(path.read_bytes(), where=str(path))
    other = [key for key, value in wanted.items() if there.get(key) != value]
    if other:
        raise ConflictError(
            f"other settings stand there: {', '.join(other)}", where=str(path),
            fix="Name another file with --config, or move this one away.",
        )  # fmt: skip


def _toml(settings: dict[str, str | list[str]]) -> str:
    lines = ["# Written by lineside device enrol; add to it what the device needs besides."]
    lines += [f"{key} = {_value(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _value(value: str | list[str]) -> str:
    """TOML basic strings are JSON strings, apart from DEL (TOML 1.0)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
