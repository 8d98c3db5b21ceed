"""Keys of devices: made, asked with, recognised, and proved; no files, no network.

Sources: PKCS #10 (RFC 2986), SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), ECDSA with SHA-256
(FIPS 186-5).
"""

import hashlib
from typing import TYPE_CHECKING

from lineside.core import InvalidError, RefusedError, need

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def new_device_key() -> bytes:
    """A private key (P-256), PEM, not encrypted."""
    need("cryptography", extra="edge")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def device_request(key: bytes, *, device: str) -> bytes:
    """A signing request for a key and a name, PEM.

    Raises:
        InvalidError: no key of ours.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = builder.sign(_private(key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def requested_key_digest(request: bytes, *, device: str) -> str:
    """Digest of the public key of a request that asks for no more than its due.

    Raises:
        InvalidError, RefusedError: it asks for more, or with a weak key.
    """
    need("cryptography", extra="edge")
    from lineside.fleet.trust.certificates import requested_key

    return _digest(requested_key(request, device=device))


def certified_key_digest(certificate: bytes) -> str:
    """Digest of the public key of a certificate, PEM."""
    need("cryptography", extra="edge")
    from lineside.fleet.trust.certificates import read_certificate

    return _digest(read_certificate(certificate, where="certificate").public_key())


def key_digest(key: bytes) -> str:
    """Digest of the public half of a private key, PEM."""
    return _digest(_private(key).public_key())


def sign_as_device(key: bytes, *, message: bytes) -> bytes:
    """A signature of the message by a key of ours."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return _private(key).sign(message, ec.ECDSA(hashes.SHA256()))


def check_proof(certificate: bytes, *, message: bytes, proof: bytes) -> None:
    """Refuse a signature that is not of the certificate's key.

    Raises:
        InvalidError: no certificate.
        RefusedError: it is another's signature.
    """
    need("cryptography", extra="edge")
    from cryptography.exceptions import InvalidSignature

    from lineside.fleet.trust.certificates import read_certificate

    key = read_certificate(certificate, where="certificate").public_key()
    try:
        _verify(key, message=message, proof=proof)
    except InvalidSignature as error:
        raise RefusedError(
            "the request is not signed by the key of the certificate",
            where="proof",
            fix="Renew on the device that holds the key, or enrol it anew.",
        ) from error


def _verify(key: object, *, message: bytes, proof: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    match key:
        case ec.EllipticCurvePublicKey():
            key.verify(proof, message, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPublicKey():
            key.verify(proof, message, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PublicKey():
            key.verify(proof, message)
        case _:
            raise InvalidSignature


def _private(key: bytes) -> "EllipticCurvePrivateKey":
    need("cryptography", extra="edge")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

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
    from cryptography.hazmat.primitives import serialization

    spki: bytes = key.public_bytes(  # type: ignore[attr-defined]  # any public key of the library
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()
