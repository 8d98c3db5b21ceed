"""Who this device is: its key, certificate and token, as files below ``data_dir``.

1. Key and certificate stand in one file, so that a power cut leaves a pair that fits.
2. A key that was made and not yet certified waits in a file of its own: a further try asks with the
   same one, which is how a lost answer is asked for again.
3. What is secret is written with mode 0600 from its first byte on.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from lineside.core import RefusedError, replace_durably
from lineside.fleet.trust.device_keys import new_device_key

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
        """What packages are fetched with."""
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
