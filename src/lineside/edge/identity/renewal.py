"""The certificate of a device is renewed while it still proves the name.

1. Due when less than a third of its time is left. The next key is made here, and waits in a file
   until its certificate came; a further try asks with the same one.
2. Key and certificate are replaced together; the connection to the bus takes them from its next
   beginning on.
3. Only an identity that enrolment wrote is renewed: one file that holds both.
"""

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lineside.core import Clock, InvalidError, replace_durably
from lineside.core.worker import Worker
from lineside.edge.config import EdgeConfig
from lineside.edge.hub_client import Access, HubQuestions, place_of
from lineside.edge.identity.files import read_identity, waiting_key
from lineside.edge.identity.page_certificate import renew_page, wants_site
from lineside.fleet import device_request, renewal_due
from lineside.fleet.enrolment import RenewalAnswer, RenewalRequest, renewal_message
from lineside.fleet.trust.certificate_authority import read_device_certificate
from lineside.fleet.trust.device_keys import sign_as_device

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
    questions = HubQuestions(place_of(config.hub), tls=Access(ca=config.ca).tls())
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
    """Whether enrolment wrote what this device proves its name by."""
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
