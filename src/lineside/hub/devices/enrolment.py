"""Devices become the site's, are renewed and revoked; every step is an event of the hub's chain.

1. A code is kept by its digest, works for a while and for one key; wrong codes are counted by
   address and in all, and refused for a while beyond a number.
2. Nothing of the answer exists before the event: certificate, row, thing and token count from the
   commit on. A certificate whose commit failed is of a key that never hears of it.
3. Revocation begins with the published list: what comes after it (row, thing, token, keys) can be
   done again after a crash by the same command.
4. Works beside a running hub too, over the same records and folder.
5. Refusals of devices that ask are kept in memory, the newest few: whoever has no code shall not
   make the log grow.
"""

import logging
import secrets
import ssl
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    Plant,
    RefusedError,
    UnavailableError,
    decode_fast,
    decode_json,
    encode,
    rfc3339,
)
from lineside.fleet import CertificateAuthority, EnrolledDevice, Inventory, NewInvitation
from lineside.fleet.enrolment import (
    SECRET_BYTES,
    CodeAnswer,
    EnrolmentAnswer,
    EnrolmentRequest,
    Invitation,
    PageAnswer,
    PageRequest,
    RenewalAnswer,
    RenewalRequest,
    check_groups,
    check_runs,
    fingerprint_of,
    page_hosts,
    page_message,
    renewal_message,
    secret_digest,
    use_invitation,
    write_code,
)
from lineside.fleet.trust.certificate_authority import DeviceCertificate
from lineside.fleet.trust.certificates import check_proof, requested_key_digest
from lineside.hub.access.auth import Auth, TooManyAttemptsError, revoke_keys_of_thing
from lineside.hub.access.tls import hosts_of
from lineside.hub.config import HubConfig
from lineside.hub.eventlog.ledger import Journal, person_event
from lineside.links.bus_access import is_identity
from lineside.store import Documents, Records, every_document
from lineside.web.security import AttemptCounter

logger = logging.getLogger(__name__)

DEVICE_TYPE = "lineside.device.v1"
HUB_HOST = "{hub}"
"""In a bus address: the name under which the device reached the hub."""
_KIND = "invitation"
_MOST_OPEN = 1000
_WRONG_WINDOW_S = 300.0
_WRONG_OF_ADDRESS = 10
_WRONG_IN_ALL = 200
_MOST_REFUSALS = 20
_RENEWALS = 10
_RENEWAL_WINDOW_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedInvitation:
    """A code that was just made; it is shown once."""

    code: str
    invitation: Invitation


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRefusal:
    """A device that asked and was refused.

    Attributes:
        address: where it asked from.
        device: for which its code is; "": no such code.
    """

    at: datetime
    address: str
    device: str
    reason: str


class Enrolment:
    """Safe from several threads and processes."""

    def __init__(
        self, records: Records, *, journal: Journal, plant: Plant, config: HubConfig, clock: Clock,
        plant_text: Callable[[Collection[str]], str] | None = None,
    ) -> None:  # fmt: skip
        """Open nothing yet.

        ``plant_text`` gives that of the version in force with the secrets of some lines; it is
        None beside a running hub.

        Set from outside: ``bus_url`` (for devices). ``enrolled``, ``revoked`` and ``appeared`` (at
        the first status of a device) are called with the device's name.
        """
        self.inventory = Inventory(records)
        self.bus_url = config.device_bus.reveal()
        self._plant_text = plant_text or (lambda _: Path(config.plant).read_text())
        self.enrolled: list[Callable[[str], object]] = []
        self.revoked: list[Callable[[str], object]] = []
        self.appeared: list[Callable[[str], object]] = []
        self._refusals: deque[EnrolmentRefusal] = deque(maxlen=_MOST_REFUSALS)
        self._noting = threading.Lock()
        self._documents: Documents = records.documents
        self._records = records
        self._journal = journal
        self._plant = plant
        self._clock = clock
        self._config = config
        self._auth = Auth(records, clock=clock, session_hours=1)
        self._turn = threading.Lock()
        self._wrong = AttemptCounter(most=_WRONG_OF_ADDRESS, window_s=_WRONG_WINDOW_S, clock=clock)
        self._all = AttemptCounter(most=_WRONG_IN_ALL, window_s=_WRONG_WINDOW_S, clock=clock)
        self._renewals = AttemptCounter(most=_RENEWALS, window_s=_RENEWAL_WINDOW_S, clock=clock)

    @property
    def refusals(self) -> tuple[EnrolmentRefusal, ...]:
        """The newest refusals since this hub began, newest first; at most twenty."""
        with self._noting:
            return tuple(self._refusals)

    def certificate_authority(self) -> CertificateAuthority:
        """``NotFoundError`` before ``lineside hub init``."""
        return CertificateAuthority.open(self._config.ca_folder, clock=self._clock)

    def authenticate(
        self, certificate: bytes, *, ca: CertificateAuthority
    ) -> tuple[DeviceCertificate, EnrolledDevice]:
        """The enrolled device that showed this certificate (DER); ``RefusedError``."""
        shown = ca.check(ssl.DER_cert_to_PEM_cert(certificate).encode())
        row = self.inventory.find(shown.device)
        if row is None or not row.active:
            raise RefusedError(
                f"{shown.device} is not enrolled", where=shown.device,
                fix="Enrol it with a code of lineside device invite.",
            )  # fmt: skip
        return shown, row

    # ---- invitations

    def invite(self, invitation: NewInvitation, *, by: str) -> IssuedInvitation:
        """A code for a device that will come.

        Raises:
            InvalidError: no name, group or line of this plant.
            ConflictError: a device of this name works already, or too many codes are open.
            NotFoundError: there is no authority yet.
        """
        device = invitation.device or f"edge-{secrets.token_hex(3)}"
        self._check_invitation(replace(invitation, device=device))
        fingerprint = fingerprint_of(self.certificate_authority().certificate)
        secret = secrets.token_bytes(SECRET_BYTES)
        now = self._clock.now()
        made = Invitation(
            device=device, groups=invitation.groups, lines=invitation.lines or self._only_line(),
            invited_at=now, invited_by=by, ends_at=now + timedelta(hours=invitation.hours),
        )  # fmt: skip
        key = secret_digest(secret.hex())
        self._record(
            device, {"action": "invited", "by": by, "until": rfc3339(made.ends_at)},
            within=lambda: self._put(key, made, expect=0),
        )  # fmt: skip
        return IssuedInvitation(code=write_code(secret, fingerprint=fingerprint), invitation=made)

    def invitations(self) -> tuple[Invitation, ...]:
        """Those that nobody used and that still work, the one that ends first in front."""
        now = self._clock.now()
        found = [one for *_, one in self._invitations() if one.ends_at > now and not one.used_key]
        return tuple(sorted(found, key=lambda one: (one.ends_at, one.device)))

    def withdraw(self, device: str, *, by: str) -> None:
        """Take the unused codes for a device back; each is refused from now on.

        Raises:
            NotFoundError: no unused code is for it.
            ConflictError: one of them was used meanwhile, by another hub.
        """
        with self._turn:
            found = [
                (key, version)
                for key, version, one in self._invitations()
                if one.device == device and not one.used_key and one.ends_at > self._clock.now()
            ]
            if not found:
                raise NotFoundError(
                    f"no open code is for {device[:80]!r}", where="invitations",
                    fix="Nothing is to be done: it was used, or its time is over.",
                )  # fmt: skip

            def forget() -> None:
                for key, version in found:
                    self._documents.delete(_KIND, key, expect=version)

            self._record(device, {"action": "withdrawn", "by": by}, within=forget)

    def sweep(self) -> int:
        """Forget what is over; how many."""
        over = [key for key, _, one in self._invitations() if one.ends_at <= self._clock.now()]
        for key in over:
            self._documents.delete(_KIND, key)
        return len(over)

    # ---- what devices ask; anybody may

    def look(self, secret: str, *, address: str) -> CodeAnswer:
        """For which device a code is, without using it.

        Raises:
            RefusedError: no such code, or it is over.
            TooManyError: too many wrong ones.
        """
        with self._refusals_noted(address):
            invitation, _, _ = self._find_invitation(secret, address=address)
        with self._refusals_noted(address, device=invitation.device):
            check_runs(invitation, now=self._clock.now())
        return CodeAnswer(device=invitation.device, site=self._plant.site)

    def enrol(self, request_body: EnrolmentRequest, *, address: str) -> EnrolmentAnswer:
        """A certificate for the key that asks with a code, and what the device needs besides.

        Raises:
            RefusedError: no such code, over, used, or the request asks for more than its due.
            ConflictError: a device of this name works already.
            TooManyError: too many wrong codes.
        """
        with self._turn:
            with self._refusals_noted(address):
                found = self._find_invitation(request_body.secret, address=address)
            invitation, key, version = found
            with self._refusals_noted(address, device=invitation.device):
                if not self.bus_url:
                    raise UnavailableError(
                        "this hub was not told where devices find its bus", where="device_bus",
                        fix='Set device_bus = "mqtts://{hub}:8883" among its settings.',
                    )  # fmt: skip
                request = request_body.request.encode()
                digest = requested_key_digest(request, device=invitation.device)
                taken = use_invitation(invitation, key=digest, now=self._clock.now())
                row, certificate = self._certify(invitation, request, digest=digest)
                token: list[str] = []

                def keep() -> None:
                    self._put(key, taken, expect=version)
                    self.inventory.enrol(row, groups=invitation.groups)
                    token.append(self._new_token(row.device))

                self._record(
                    row.device,
                    {"action": "enrolled", "by": row.enrolled_by, "serial": row.serial,
                     "until": rfc3339(row.ends_at), "address": address},
                    within=keep,
                )  # fmt: skip
        logger.info("device enrolled device=%s serial=%s", row.device, row.serial)
        _tell(self.enrolled, row.device)
        return self._answer(row, certificate, token=token[0])

    def renew(self, request_body: RenewalRequest, *, address: str) -> RenewalAnswer:
        """The next certificate for a device whose running key signed the request.

        Raises:
            RefusedError: the certificate holds no longer, or the proof is not of its key.
            TooManyError: too often.
        """
        certificate, request = request_body.certificate.encode(), request_body.request.encode()
        checked = self.certificate_authority().check(certificate)
        check_proof(certificate, message=renewal_message(request), proof=_bytes(request_body.proof))
        self._count_renewal(checked.device)
        with self._turn:
            row = self.inventory.one(checked.device)
            if not row.active:
                raise RefusedError(
                    f"{row.device} was revoked: {row.reason}", where=row.device,
                    fix="Ask for a new code: lineside device invite.",
                )  # fmt: skip
            digest = requested_key_digest(request, device=row.device)
            if digest == row.key and row.serial != checked.serial:  # an answer was lost
                return RenewalAnswer(certificate=self._issued_certificate(row.serial))
            made = self.certificate_authority().sign_device(request, device=checked.device)
            issued = self.certificate_authority().check(made)
            next_row = replace(
                row, serial=issued.serial, ends_at=issued.ends_at, key=digest,
                renewed_at=self._clock.now(),
            )  # fmt: skip
            self._record(
                row.device,
                {"action": "renewed", "by": row.device, "serial": next_row.serial,
                 "until": rfc3339(next_row.ends_at), "address": address},
                within=lambda: self.inventory.renewed(next_row),
            )  # fmt: skip
        return RenewalAnswer(certificate=made.decode())

    def certify_page(self, request_body: PageRequest, *, address: str) -> PageAnswer:
        """A certificate for a device's own page, for its own names and where it asks from.

        Raises:
            RefusedError: the device's certificate holds no longer, the proof is not of its key, or
                its names are the hub's.
            TooManyError: too often.
        """
        certificate, request = request_body.certificate.encode(), request_body.request.encode()
        checked = self.certificate_authority().check(certificate)
        check_proof(certificate, message=page_message(request), proof=_bytes(request_body.proof))
        self._count_renewal(checked.device)
        row = self.inventory.one(checked.device)
        hosts = page_hosts(row.device, address=address, names=hosts_of(self._config))
        if not row.active or not hosts:
            why = row.reason or "its names are the hub's"
            raise RefusedError(
                f"no certificate for the page of {row.device}: {why}",
                where=row.device,
                fix="Ask for a new code, or name the device otherwise: lineside device invite.",
            )
        made = self.certificate_authority().sign_page(request, device=row.device, hosts=hosts)
        logger.info("page certified device=%s hosts=%s", row.device, ",".join(hosts))
        return PageAnswer(
            certificate=(made + self.certificate_authority().certificate).decode(), hosts=hosts
        )

    def heard(self, device: str) -> None:
        """A device told its status for the first time, enrolled or not."""
        self.inventory.heard((device,))
        _tell(self.appeared, device)

    # ---- what administrators do

    def revoke(self, device: str, *, by: str, reason: str) -> EnrolledDevice:
        """Take a device out: bus, hub and job service refuse it from now on.

        Raises:
            NotFoundError: it was neither enrolled nor heard.
            ConflictError: it was revoked before.
            InvalidError: no reason.
        """
        row = self.inventory.find(device)
        if row is None and not self.inventory.things.has(device):
            row = self.inventory.one(device)
        if not reason.strip():
            raise InvalidError("no reason", where="reason", fix="Say why it is revoked.")
        if row is not None and not row.active:
            raise ConflictError(
                f"{device} was revoked before, by {row.revoked_by}: {row.reason}", where=device,
                fix="Nothing is to be done.",
            )  # fmt: skip
        with suppress(NotFoundError):  # all its certificates are over, or an earlier try got here
            self.certificate_authority().revoke(device, reason=reason)
        gone: list[EnrolledDevice] = []

        def end() -> None:
            at = self._clock.now()
            gone.append(self.inventory.revoke(device, by=by, reason=reason, at=at))
            self._auth.revoke(token_name(device))
            revoke_keys_of_thing(self._records, device)

        self._record(device, {"action": "revoked", "by": by, "reason": reason}, within=end)
        logger.info("device revoked device=%s by=%s", device, by)
        _tell(self.revoked, device)
        return gone[0]

    def set_groups(self, device: str, groups: Sequence[str], *, by: str) -> tuple[str, ...]:
        """Say anew which groups a device is in; the job service hears of it.

        Raises:
            NotFoundError: no such device.
            InvalidError: a name that no group can have.
        """
        wanted = tuple(sorted(set(groups)))
        check_groups(wanted)
        self._record(
            device, {"action": "groups", "by": by, "groups": list(wanted)},
            within=lambda: self.inventory.set_groups(device, wanted),
        )  # fmt: skip
        return wanted

    def set_lines(self, device: str, lines: tuple[str, ...], *, by: str) -> None:
        """Say anew which lines a device has the rights of; the bus hears of it.

        Raises:
            NotFoundError: it was never enrolled.
        """
        row = replace(self.inventory.one(device), lines=lines)
        self._record(
            device, {"action": "lines", "by": by, "lines": list(lines)},
            within=lambda: self.inventory.renewed(row),
        )  # fmt: skip

    # ---- inside

    @contextmanager
    def _refusals_noted(self, address: str, *, device: str = "") -> Iterator[None]:
        """Note why a device was refused while the block runs; one that tries too often is not."""
        try:
            yield
        except TooManyAttemptsError:
            raise
        except LinesideError as error:
            refusal = EnrolmentRefusal(
                at=self._clock.now(), address=address, device=device, reason=error.message
            )
            with self._noting:
                self._refusals.appendleft(refusal)
            raise

    def _check_invitation(self, invitation: NewInvitation) -> None:
        if not is_identity(invitation.device):
            raise InvalidError(
                f"{invitation.device[:80]!r} is no name for a device", where="name",
                fix="Write letters, digits, '_', '-', at most 64, beginning with one of the first.",
            )  # fmt: skip
        check_groups(invitation.groups)
        known = {line.id for line in self._plant.line}
        for line in invitation.lines:
            if line not in known:
                raise InvalidError(
                    f"no line {line!r} in the plant", where="lines",
                    fix=f"Lines: {', '.join(sorted(known)) or 'none'}.",
                )  # fmt: skip
        row = self.inventory.find(invitation.device)
        if row is not None and row.active:
            raise _already_enrolled(invitation.device)
        if len(self._invitations()) >= _MOST_OPEN:
            raise ConflictError(
                f"{_MOST_OPEN} codes are open", where="invitations", fix="Wait until some are over."
            )

    def _only_line(self) -> tuple[str, ...]:
        if len(self._plant.line) > 1:
            names = ", ".join(line.id for line in self._plant.line)
            raise InvalidError(
                "the plant has several lines, and none is named", where="lines",
                fix=f"Name those at which the device looks: {names}.",
            )  # fmt: skip
        return tuple(line.id for line in self._plant.line)

    def _invitations(self) -> list[tuple[str, int, Invitation]]:
        """Key, version and content of each."""
        return [
            (one.id, one.version, decode_fast(Invitation, encode(one.body), where=_KIND))
            for one in every_document(self._documents, _KIND)
        ]

    def _find_invitation(self, secret: str, *, address: str) -> tuple[Invitation, str, int]:
        counts = ((self._wrong, address), (self._all, ""))
        wait_s = max(tries.wait_s(key) for tries, key in counts)
        key = secret_digest(secret)
        try:
            document = self._documents.get(_KIND, key)
        except NotFoundError as error:
            if wait_s > 0:
                raise TooManyAttemptsError(
                    "too many wrong codes", fix=f"Wait {wait_s / 60:.0f} minutes or so."
                ) from error
            for tries, of in counts:
                tries.count(of)
            logger.warning("enrolment refused address=%s", address)
            raise RefusedError(
                "this hub gave out no such code, or it is over",
                where="code",
                fix="Ask for a new one: lineside device invite.",
            ) from error
        found = decode_fast(Invitation, encode(document.body), where=_KIND)
        return found, key, document.version

    def _certify(
        self, invitation: Invitation, request: bytes, *, digest: str
    ) -> tuple[EnrolledDevice, str]:
        """The row and certificate of a key: those there are, where an answer was lost."""
        row = self.inventory.find(invitation.device)
        if row is not None and row.active:
            if row.key != digest:
                raise _already_enrolled(row.device)
            return row, self._issued_certificate(row.serial)
        made = self.certificate_authority().sign_device(request, device=invitation.device)
        checked = self.certificate_authority().check(made)
        row = EnrolledDevice(
            device=checked.device, lines=invitation.lines, enrolled_at=self._clock.now(),
            enrolled_by=invitation.invited_by, serial=checked.serial,
            ends_at=checked.ends_at, key=digest,
        )  # fmt: skip
        return row, made.decode()

    def _issued_certificate(self, serial: str) -> str:
        return self.certificate_authority().certificate_of(serial).decode()

    def _answer(self, row: EnrolledDevice, certificate: str, *, token: str) -> EnrolmentAnswer:
        cameras = tuple(one.id for one in self._plant.camera if one.line in row.lines)
        root = self._config.trust_folder / "root.json"
        return EnrolmentAnswer(
            device=row.device,
            site=self._plant.site,
            certificate=certificate,
            authority=self.certificate_authority().certificate.decode(),
            root=root.read_text() if root.exists() else "",
            bus=self.bus_url,
            plant=self._plant_text(row.lines),
            cameras=() if len(cameras) == len(self._plant.camera) else cameras,
            token=token,
        )

    def _new_token(self, device: str) -> str:
        self._auth.revoke(token_name(device))
        return self._auth.issue_token(token_name(device), kind="device")

    def _count_renewal(self, device: str) -> None:
        if self._renewals.wait_s(device) > 0:
            raise TooManyAttemptsError(
                f"{device} was renewed too often", where=device, fix="Wait an hour."
            )
        self._renewals.count(device)

    def _put(self, key: str, invitation: Invitation, *, expect: int) -> None:
        body = decode_json(encode(invitation), where=_KIND)
        self._documents.put(_KIND, key, body=body, expect=expect)

    def _record(self, device: str, data: dict[str, Json], *, within: Callable[[], object]) -> None:
        event = person_event(
            DEVICE_TYPE, subject=device, site=self._plant.site, clock=self._clock, data=data
        )
        self._journal.record([event], within=lambda _: _discard(within()))


def token_name(device: str) -> str:
    """Under what a device's token is kept; a colon stands in no name that a person gives."""
    return f"device:{device}"


def _already_enrolled(device: str) -> ConflictError:
    return ConflictError(
        f"{device} was enrolled already and works",
        where=device,
        fix=f"Take another name, or first: lineside device revoke {device}.",
    )


def _bytes(text: str) -> bytes:
    import base64
    import binascii

    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(
            "no base64", where="proof", fix="Send the signature as base64."
        ) from error


def _tell(listeners: Sequence[Callable[[str], object]], device: str) -> None:
    for listener in listeners:
        listener(device)


def _discard(_: object) -> None:
    """Drop the result of a write."""
