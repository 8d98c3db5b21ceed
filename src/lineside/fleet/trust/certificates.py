"""Certificates of a site, made from keys and a time; no files, no clock, no network.

1. A certificate says what it is for: the authority's signs certificates and revocation lists and
   nothing below it signs any (RFC 5280, 4.2.1.9); a server's answers as server, a device's asks as
   client (4.2.1.12). None serves for the other.
2. Of a device's request only the public key is taken over. Name, purpose and length come from here;
   a request that asks for more is refused, so that its maker learns that it will not get it.
3. Validity begins five minutes early, because clocks of devices are not those of the hub.

Keys of devices are made, asked with, recognised and proved here too. Sources: PKCS #10 (RFC 2986),
SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), ECDSA with SHA-256 (FIPS 186-5).
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lineside.core import InvalidError, RefusedError

AUTHORITY_DAYS = 7300
SERVER_DAYS = 397
DEVICE_DAYS = 365
LIST_DAYS = 30
_EARLY = timedelta(minutes=5)
_MOST_REQUEST_BYTES = 16_384
_RSA_BITS = (2048, 8192)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_MOST_COMMON_NAME = 64

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its private key, both PEM; the key is not encrypted."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The authority's certificate and key, opened for signing."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def new_root_certificate(site: str, *, now: datetime) -> Pair:
    """A site's root: it signs servers and devices, and no further authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"lineside {site}"[:_MOST_COMMON_NAME])
    made = (
        _begun(name, issuer=name, key=key.public_key(), now=now, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_own_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate=_pem(made), key=_key_pem(key))


def open_signer(pair: Pair, *, where: str) -> Signer:
    """The authority as it stands in its files.

    Raises:
        InvalidError: no PEM, no authority, or key and certificate do not belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidError(
            f"no certificate and key: {error}", where=where, fix="Put the kept copy back."
        ) from error
    own = _digest(certificate.public_key())
    if not isinstance(key, ec.EllipticCurvePrivateKey) or _digest(key.public_key()) != own:
        raise InvalidError(
            "certificate and key do not belong together",
            where=where,
            fix="Put the kept copy of both back.",
        )
    return Signer(certificate=certificate, key=key)


def server_pair(signer: Signer, *, hosts: Sequence[str], now: datetime) -> Pair:
    """A certificate for a server under names and addresses, with a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = certificate_for_server(signer, key=key.public_key(), hosts=hosts, now=now)
    return Pair(certificate=made, key=_key_pem(key))


def certificate_for_server(
    signer: Signer, *, key: PublicKey, hosts: Sequence[str], now: datetime
) -> bytes:
    """A certificate for a server under names and addresses, for a key that was made there; PEM."""
    return _leaf(
        signer, hosts[0], key=key, now=now, days=SERVER_DAYS,
        purposes=[ExtendedKeyUsageOID.SERVER_AUTH], names=[_host(host) for host in hosts],
    )  # fmt: skip


def application_pair(signer: Signer, *, hosts: Sequence[str], uri: str, now: datetime) -> Pair:
    """A certificate for an OPC UA application (OPC 10000-6, 6.2.2), with a new key.

    RSA, because the policy Basic256Sha256 knows nothing else; its URI is the application's name.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = [x509.UniformResourceIdentifier(uri), *(_host(host) for host in hosts)]
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True,
        data_encipherment=True, key_agreement=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = _leaf(
        signer, uri, key=key.public_key(), now=now, days=SERVER_DAYS, names=names, usage=usage,
        purposes=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    )  # fmt: skip
    return Pair(certificate=made, key=_key_pem(key))


def device_certificate(signer: Signer, *, key: PublicKey, device: str, now: datetime) -> bytes:
    """A certificate by which a device proves its name; PEM."""
    return _leaf(
        signer, device, key=key, now=now, days=DEVICE_DAYS,
        purposes=[ExtendedKeyUsageOID.CLIENT_AUTH],
    )  # fmt: skip


def requested_key(request: bytes, *, device: str) -> PublicKey:
    """The public key of a signing request (PKCS #10, RFC 2986) that asks for no more than its due.

    Raises:
        InvalidError: no request, or its signature is not of its own key.
        RefusedError: another name, further names, an authority, or a weak key is asked for.
    """
    parsed = _parsed(request)
    _refuse_names(parsed, device=device)
    _refuse_more(parsed, device=device)
    return _strong(parsed, device=device)


def revocation_list(
    signer: Signer, *, revoked: Iterable[tuple[int, datetime]], number: int, now: datetime
) -> bytes:
    """Return the list (RFC 5280, 5) of serials and times, PEM; it ends after ``LIST_DAYS``."""
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(now - _EARLY)
        .next_update(now + timedelta(days=LIST_DAYS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_key(signer), critical=False)
    )
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        made = made.add_revoked_certificate(entry.build())
    return made.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def list_ends(pem: bytes) -> datetime:
    """Until when a revocation list may be relied on."""
    ends = x509.load_pem_x509_crl(pem).next_update_utc
    return ends or datetime.max.replace(tzinfo=UTC)


def read_certificate(pem: bytes, *, where: str) -> x509.Certificate:
    """``InvalidError`` where the bytes are no certificate."""
    try:
        return x509.load_pem_x509_certificate(pem[:_MOST_REQUEST_BYTES])
    except ValueError as error:
        raise InvalidError(
            "no certificate in PEM form", where=where, fix="Send the file as it was issued."
        ) from error


def is_of(signer: Signer, certificate: x509.Certificate) -> bool:
    """Return whether this authority signed it."""
    try:
        certificate.verify_directly_issued_by(signer.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def serves_client(certificate: x509.Certificate) -> bool:
    """Return whether it is a client's certificate, not a server's."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in found.value


def common_name(certificate: x509.Certificate) -> str:
    """The name that stands in a certificate's subject; "" where there is not just one."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses that a server's certificate holds for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(one.value) for one in found.value)


# ---- what a request may ask for


def _parsed(request: bytes) -> x509.CertificateSigningRequest:
    if len(request) > _MOST_REQUEST_BYTES:
        raise InvalidError(
            f"a signing request of {len(request)} bytes",
            where="request",
            fix=f"Send one of at most {_MOST_REQUEST_BYTES}.",
        )
    try:
        parsed = x509.load_pem_x509_csr(request)
        holds = parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InvalidError(
            "no signing request in PEM form", where="request", fix="Send a PKCS #10 request."
        ) from error
    if not holds:
        raise InvalidError(
            "the request is not signed by the key it names",
            where="request",
            fix="Make it anew on the device that holds the key.",
        )
    return parsed


def _refuse_names(parsed: x509.CertificateSigningRequest, *, device: str) -> None:
    names = [str(one.value) for one in parsed.subject]
    if names != [device]:
        raise RefusedError(
            f"the request is for {', '.join(names) or 'nobody'!r}, not for {device!r} alone",
            where="request subject",
            fix=f"Ask for the common name {device} and nothing beside it.",
        )
    if not parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise RefusedError(
            f"{device!r} stands as something else than common name",
            where="request subject",
            fix=f"Ask for the common name {device}.",
        )


def _refuse_more(parsed: x509.CertificateSigningRequest, *, device: str) -> None:
    try:
        wished = list(parsed.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise InvalidError(
            "the extensions asked for cannot be read", where="request", fix="Ask for none."
        ) from error
    for one in wished:
        if isinstance(one.value, x509.BasicConstraints) and one.value.ca:
            raise RefusedError(
                f"{device} asks to be an authority",
                where="request basicConstraints",
                fix="A device signs nobody: ask without CA:TRUE.",
            )
        if isinstance(one.value, x509.KeyUsage) and (one.value.key_cert_sign or one.value.crl_sign):
            raise RefusedError(
                f"{device} asks to sign certificates",
                where="request keyUsage",
                fix="Ask for digitalSignature only.",
            )
        if isinstance(one.value, x509.SubjectAlternativeName):
            raise RefusedError(
                f"{device} asks for further names",
                where="request subjectAltName",
                fix="A device has one name: ask without subjectAltName.",
            )


def _strong(parsed: x509.CertificateSigningRequest, *, device: str) -> PublicKey:
    key: object
    try:
        key = parsed.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    bits = getattr(key, "key_size", 0)
    raise RefusedError(
        f"the key of {device} is too weak or of an unknown kind"
        + (f" ({bits} bits)" if bits else ""),
        where="request key",
        fix="Use P-256, P-384, P-521, Ed25519, or RSA of 2048 bits and more.",
    )


# ---- building


def _begun(
    subject: x509.Name, *, issuer: x509.Name, key: PublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=days))
    )


def _leaf(
    signer: Signer, subject: str, *, key: PublicKey, now: datetime, days: int,
    purposes: list[x509.ObjectIdentifier], names: Sequence[x509.GeneralName] = (),
    usage: x509.KeyUsage | None = None,
) -> bytes:  # fmt: skip
    """A certificate that signs nobody, PEM."""
    name, issuer = _name(subject[:_MOST_COMMON_NAME]), signer.certificate.subject
    made = (
        _begun(name, issuer=issuer, key=key, now=now, days=days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage or _usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_own_key(key), critical=False)
        .add_extension(_issuer_key(signer), critical=False)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _pem(made.sign(signer.key, hashes.SHA256()))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _own_key(key: PublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _issuer_key(signer: Signer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def new_device_key() -> bytes:
    """A private key (P-256), PEM, not encrypted."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def device_request(key: bytes, *, device: str) -> bytes:
    """A signing request for a key and a name, PEM.

    Raises:
        InvalidError: no key of ours.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(device))
    signed = builder.sign(_private(key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def requested_key_digest(request: bytes, *, device: str) -> str:
    """Digest of the public key of a request that asks for no more than its due.

    Raises:
        InvalidError, RefusedError: it asks for more, or with a weak key.
    """
    return _digest(requested_key(request, device=device))


def sign_as_device(key: bytes, *, message: bytes) -> bytes:
    """A signature of the message by a key of ours."""
    return _private(key).sign(message, ec.ECDSA(hashes.SHA256()))


def check_proof(certificate: bytes, *, message: bytes, proof: bytes) -> None:
    """Refuse a signature that is not of the certificate's key.

    Raises:
        InvalidError: no certificate.
        RefusedError: it is another's signature.
    """
    try:
        match read_certificate(certificate, where="certificate").public_key():
            case ec.EllipticCurvePublicKey() as key:
                key.verify(proof, message, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPublicKey() as key:
                key.verify(proof, message, padding.PKCS1v15(), hashes.SHA256())
            case ed25519.Ed25519PublicKey() as key:
                key.verify(proof, message)
            case _:
                raise InvalidSignature  # noqa: TRY301  as of a key that did not sign
    except InvalidSignature as error:
        raise RefusedError(
            "the request is not signed by the key of the certificate",
            where="proof",
            fix="Renew on the device that holds the key, or enrol it anew.",
        ) from error


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        found = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidError("no private key", where="key", fix="Enrol the device anew.") from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise InvalidError(
            "a private key of another kind", where="key", fix="Enrol the device anew."
        )
    return found


def _digest(key: object) -> str:
    spki: bytes = key.public_bytes(  # type: ignore[attr-defined]  # any public key of the library
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()
