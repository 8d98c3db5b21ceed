"""Keys that sign metadata: Ed25519, each a PEM file (PKCS 8) of its own with mode 0600.

A file is named ``<role>-<first 12 digits of the key id>.pem``. Files of offline roles stand in a
folder that is meant to leave the machine, and may be encrypted by a passphrase; those of online
roles stand beside the metadata and are not.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.core import NotFoundError, RefusedError, UnavailableError, need
from lineside.core.files import write_durably

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

_MOST_BYTES = 16_384
_MOST_FILES = 1000


def new_key() -> "CryptoSigner":
    """A key from the system's random source."""
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner.generate_ed25519()


def write_key(key: "CryptoSigner", folder: Path, *, role: str, passphrase: bytes = b"") -> Path:
    """Keep a key; nothing is ever written over.

    Raises:
        UnavailableError: the folder cannot be written.
    """
    path = folder / f"{role}-{key.public_key.keyid[:12]}.pem"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, _pem(key, passphrase=passphrase), mode=0o600)
    except OSError as error:
        raise UnavailableError(
            f"the key cannot be written: {error.strerror}", where=str(path),
            fix="Name a folder that can be written.",
        ) from error  # fmt: skip
    return path


def read_keys(folder: Path, *, passphrase: bytes = b"") -> dict[str, "CryptoSigner"]:
    """Every key of a folder by its id.

    Raises:
        NotFoundError: there is no such folder.
        RefusedError: a file is no key, or the passphrase does not open it.
    """
    if not folder.is_dir():
        raise NotFoundError(
            "no folder of keys", where=str(folder), fix="Bring the keys back, or name their folder."
        )
    need("tuf", extra="edge")
    found = {}
    for path in sorted(folder.glob("*.pem"))[:_MOST_FILES]:
        key = _read(path, passphrase=passphrase)
        found[key.public_key.keyid] = key
    return found


def drop_keys(folder: Path, ids: Iterable[str]) -> None:
    """Delete the files of keys that sign no more."""
    for key_id in ids:
        for path in folder.glob(f"*-{key_id[:12]}.pem"):
            path.unlink(missing_ok=True)


def choose_signers(
    keys: Mapping[str, "CryptoSigner"], ids: Iterable[str], *, role: str, threshold: int
) -> list["CryptoSigner"]:
    """Those of ``ids`` that are there.

    Raises:
        RefusedError: fewer than the role's threshold.
    """
    found = [keys[key_id] for key_id in ids if key_id in keys]
    if len(found) < threshold:
        raise RefusedError(
            f"role {role!r} needs {threshold} of its keys, {len(found)} are here",
            where="keys",
            fix="Bring the folder with its keys (--keys); see docs/reference/trust.md.",
        )
    return found


def _pem(key: "CryptoSigner", *, passphrase: bytes) -> bytes:
    if not passphrase:
        return key.private_bytes
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.private_bytes, None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )


def _read(path: Path, *, passphrase: bytes) -> "CryptoSigner":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from securesystemslib.signer import CryptoSigner

    try:
        with path.open("rb") as file:
            pem = file.read(_MOST_BYTES)
        # A passphrase given for a file that has none is no fault of the file.
        given = passphrase if passphrase and b"ENCRYPTED" in pem else None
        return CryptoSigner(serialization.load_pem_private_key(pem, given))
    except TypeError as error:
        raise RefusedError(
            "the key is encrypted", where=str(path), fix="Name its passphrase: --passphrase-file."
        ) from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise RefusedError(
            "this is no key, or the passphrase does not open it",
            where=str(path),
            fix="Check the passphrase; restore the file from its copy.",
        ) from error
