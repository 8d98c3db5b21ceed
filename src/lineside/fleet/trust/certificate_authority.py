"""The site's certificate authority: a folder that signs for servers and devices.

1. A device's name is its certificate's common name; it is given here and never taken from outside.
2. Keys are files of mode 0600 in a folder of mode 0700; every file is replaced as a whole.
3. A certificate that was revoked is named in the revocation list from the same moment on, and stays
   there until it would have ended anyway. A name can be enrolled anew afterwards.
4. The list is renewed while half of its time is left, because a broker that has an outdated one
   lets nobody in.
5. Several processes may use one folder: what reads and writes again holds a lock. Of several that
   make it at once one does, and the others find it.

Files: ``authority.crt``, ``authority.key``, ``issued/<serial>.crt``, ``revoked.json``, ``crl.pem``.
"""

import errno
import fcntl
import ipaddress
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    NotFoundError,
    RefusedError,
    decode,
    encode,
    replace_durably,
)
from lineside.core.files import replacing_folder
from lineside.fleet.trust import certificates
from lineside.fleet.trust.certificates import Pair, Signer
from lineside.fleet.trust.repository import LOCK_FILE

CERTIFICATE_FILE = "authority.crt"
KEY_FILE = "authority.key"
LIST_FILE = "crl.pem"
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(
    r"(?=.{1,253}\Z)(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_RENEW_BEFORE = 1 / 3
_LIST_HALF = timedelta(days=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCertificate:
    """Content of a device's certificate; ``serial`` is hexadecimal."""

    device: str
    serial: str
    begins_at: datetime
    ends_at: datetime
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """Content of a server's certificate."""

    hosts: tuple[str, ...]
    begins_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Revoked:
    serial: str
    device: str
    at: datetime
    ends_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Revocations:
    schema: str = "lineside.revocations/1"
    number: int = 1
    revoked: tuple[_Revoked, ...] = ()


class CertificateAuthority:
    """An opened authority; holds no file open between calls."""

    def __init__(self, folder: Path, *, signer: Signer, clock: Clock) -> None:
        """Use ``create`` or ``open``."""
        self._folder = folder
        self._signer = signer
        self._clock = clock

    @classmethod
    def create(cls, folder: Path, *, site: str, clock: Clock) -> "CertificateAuthority":
        """Make an authority in a new folder; it is there as a whole or not at all.

        Raises:
            ConflictError: something stands there already.
            InvalidError: the site has no name.
        """
        if not site.strip():
            raise InvalidError("a site without a name", where="site", fix="Name it.")
        there = folder.exists()
        if not there:
            pair = certificates.new_root_certificate(site, now=clock.now())
            there = not _lay_down(folder.resolve(), pair)
        if there:
            raise ConflictError(
                "there is something already, and an authority is never overwritten",
                where=str(folder),
                fix="Use it, or move it away: every certificate it signed ends with it.",
            )
        made = cls.open(folder, clock=clock)
        made.crl()
        return made

    @classmethod
    def open(cls, folder: Path, *, clock: Clock) -> "CertificateAuthority":
        """The authority of a folder.

        Raises:
            NotFoundError: there is none.
            InvalidError: its files are no certificate with its key.
        """
        try:
            pair = Pair(
                certificate=(folder / CERTIFICATE_FILE).read_bytes(),
                key=(folder / KEY_FILE).read_bytes(),
            )
        except FileNotFoundError as error:
            raise NotFoundError(
                "no certificate authority", where=str(folder), fix="Run lineside hub init."
            ) from error
        return cls(folder, signer=certificates.open_signer(pair, where=str(folder)), clock=clock)

    @property
    def certificate(self) -> bytes:
        """The root certificate that servers and devices are checked against; PEM."""
        return (self._folder / CERTIFICATE_FILE).read_bytes()

    # ---- servers

    def issue_server(self, hosts: Sequence[str]) -> Pair:
        """A new key and a certificate for a server under these names and addresses.

        Raises:
            InvalidError: no host, or one that is neither a name nor an address.
        """
        if not hosts:
            raise InvalidError("no host", where="hosts", fix="Name at least one.")
        for host in hosts:
            _check_host(host)
        return certificates.server_pair(self._signer, hosts=tuple(hosts), now=self._clock.now())

    def issue_application(self, uri: str, *, hosts: Sequence[str]) -> Pair:
        """A new key and a certificate for an OPC UA application of this name.

        Raises:
            InvalidError: a host that is neither a name nor an address.
        """
        for host in hosts:
            _check_host(host)
        return certificates.application_pair(
            self._signer, hosts=tuple(hosts), uri=uri, now=self._clock.now()
        )

    # ---- devices

    def sign_device(self, request: bytes, *, device: str) -> bytes:
        """A certificate for the key of a signing request, PEM; good for a year.

        Args:
            request: PKCS #10 in PEM whose only name is ``device``.
            device: the name that was given to it here.

        Raises:
            InvalidError: no request, or no name for a device.
            RefusedError: it asks for more than its due, or with a weak key.
        """
        if not _DEVICE.fullmatch(device):
            raise InvalidError(
                f"{device!r} is no name for a device",
                where="device",
                fix="Write letters, digits, '_', '.', '-', at most 64.",
            )
        key = certificates.requested_key(request, device=device)
        made = certificates.device_certificate(
            self._signer, key=key, device=device, now=self._clock.now()
        )
        serial = certificates.read_certificate(made, where="issued").serial_number
        replace_durably(self._folder / "issued" / f"{serial:x}.crt", made, mode=0o644)
        return made

    def sign_page(self, request: bytes, *, device: str, hosts: Sequence[str]) -> bytes:
        """A certificate for the page that a device serves under these names and addresses, PEM.

        It proves no device's name to bus or hub.

        Args:
            request: PKCS #10 in PEM whose only name is ``device``.
            device: the name that was given to it here.
            hosts: at least one.

        Raises:
            InvalidError: no request, or a host that is neither a name nor an address.
            RefusedError: it asks for more than its due, or with a weak key.
        """
        for host in hosts:
            _check_host(host)
        key = certificates.requested_key(request, device=device)
        return certificates.certificate_for_server(
            self._signer, key=key, hosts=tuple(hosts), now=self._clock.now()
        )

    def check(self, certificate: bytes) -> DeviceCertificate:
        """Whose certificate this is.

        Raises:
            InvalidError: no certificate.
            RefusedError: of another authority, not a device's, over, not yet valid, or revoked.
        """
        parsed = certificates.read_certificate(certificate, where="certificate")
        told = _content(parsed)
        if not certificates.is_of(self._signer, parsed):
            raise _refused("this site's authority did not sign the certificate", told)
        if not (certificates.serves_client(parsed) and told.device):
            raise _refused("the certificate is not a device's", told)
        if not told.begins_at <= self._clock.now() < told.ends_at:
            raise _refused("the certificate is over, or not valid yet", told)
        if told.serial in {one.serial for one in self._revocations().revoked}:
            raise _refused("the certificate was revoked", told)
        return told

    def issued(self) -> tuple[DeviceCertificate, ...]:
        """Every certificate given to a device, by name and time; those long over too."""
        revoked = {one.serial for one in self._revocations().revoked}
        found = []
        for path in (self._folder / "issued").glob("*.crt"):
            told = _content(certificates.read_certificate(path.read_bytes(), where=str(path)))
            found.append(replace(told, revoked=told.serial in revoked))
        return tuple(sorted(found, key=lambda one: (one.device, one.begins_at, one.serial)))

    def certificate_of(self, serial: str) -> bytes:
        """A certificate that was given to a device, PEM.

        Raises:
            NotFoundError: none with this serial number.
        """
        path = self._folder / "issued" / f"{int(serial, 16):x}.crt"
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(
                "no such certificate", where=serial, fix="Enrol the device anew."
            ) from error

    def revoked(self) -> frozenset[str]:
        """Serial numbers of what was revoked and would still run."""
        return frozenset(one.serial for one in self._revocations().revoked)

    def revoke(self, device: str, *, reason: str) -> tuple[str, ...]:
        """End every certificate of a device that still runs; their serials.

        Raises:
            NotFoundError: it has none.
            InvalidError: no reason.
        """
        if not reason.strip():
            raise InvalidError("no reason", where="reason", fix="Say why it is revoked.")
        now = self._clock.now()
        with self._locked():
            running = [
                one
                for one in self.issued()
                if one.device == device and not one.revoked and one.ends_at > now
            ]
            if not running:
                raise NotFoundError(
                    f"{device!r} has no certificate that could be revoked",
                    where=str(self._folder),
                    fix="List the devices.",
                )
            kept = self._revocations()
            ended = [
                _Revoked(
                    serial=one.serial, device=device, at=now, ends_at=one.ends_at, reason=reason
                )
                for one in running
            ]
            lasting = [one for one in kept.revoked if one.ends_at > now]
            self._publish(_Revocations(number=kept.number + 1, revoked=(*lasting, *ended)))
        return tuple(one.serial for one in running)

    def crl(self) -> bytes:
        """The revocation list, PEM; renewed when half of its time is gone."""
        path = self._folder / LIST_FILE
        with self._locked():
            if (
                not path.exists()
                or certificates.list_ends(path.read_bytes()) - self._clock.now() < _LIST_HALF
            ):
                kept = self._revocations()
                self._publish(_Revocations(number=kept.number + 1, revoked=kept.revoked))
            return path.read_bytes()

    # ---- keeping

    def _publish(self, revocations: _Revocations) -> None:
        signed = certificates.revocation_list(
            self._signer, revoked=[(int(one.serial, 16), one.at) for one in revocations.revoked],
            number=revocations.number, now=self._clock.now(),
        )  # fmt: skip
        replace_durably(self._folder / "revoked.json", encode(revocations), mode=0o600)
        replace_durably(self._folder / LIST_FILE, signed, mode=0o644)

    def _revocations(self) -> _Revocations:
        path = self._folder / "revoked.json"
        try:
            return decode(_Revocations, path.read_bytes(), where=str(path))
        except FileNotFoundError:
            return _Revocations(number=0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / LOCK_FILE).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def server_certificate(pem: bytes, *, where: str) -> ServerCertificate:
    """Return a server's certificate; ``InvalidError`` where the bytes are none."""
    parsed = certificates.read_certificate(pem, where=where)
    return ServerCertificate(
        hosts=certificates.hosts_of(parsed),
        begins_at=parsed.not_valid_before_utc,
        ends_at=parsed.not_valid_after_utc,
    )


def read_device_certificate(pem: bytes, *, where: str) -> DeviceCertificate:
    """Return a device's certificate, unverified; ``InvalidError`` where the bytes are none."""
    return _content(certificates.read_certificate(pem, where=where))


def renewal_due(found: DeviceCertificate | ServerCertificate, *, now: datetime) -> bool:
    """Return whether less than a third of a certificate's time is left."""
    return found.ends_at - now < (found.ends_at - found.begins_at) * _RENEW_BEFORE


def _content(parsed: x509.Certificate) -> DeviceCertificate:
    return DeviceCertificate(
        device=certificates.common_name(parsed),
        serial=f"{parsed.serial_number:x}",
        begins_at=parsed.not_valid_before_utc,
        ends_at=parsed.not_valid_after_utc,
    )


def _refused(sentence: str, certificate: DeviceCertificate) -> RefusedError:
    return RefusedError(
        sentence,
        where=f"{certificate.device or 'nobody'}, serial {certificate.serial}",
        fix="Enrol the device anew with a code of lineside device invite.",
    )


def is_host(name: str) -> bool:
    """Return whether a certificate can be for this name or address."""
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return _HOST.fullmatch(name) is not None


def _check_host(host: str) -> None:
    if not is_host(host):
        raise InvalidError(
            f"{host!r} is neither a host name nor an address",
            where="hosts",
            fix="Write names in lower case, such as hub.plant.lan, or addresses.",
        )


def _lay_down(folder: Path, pair: Pair) -> bool:
    """Both files at once: in a folder of another name that is renamed when it is complete.

    False where somebody else was first, whose files stay.
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with replacing_folder(folder, mode=0o700) as made:
            (made / "issued").mkdir(mode=0o700)
            replace_durably(made / KEY_FILE, pair.key, mode=0o600)
            replace_durably(made / CERTIFICATE_FILE, pair.certificate, mode=0o644)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    return True
