"""Roles of a site's update repository: their keys, targets, lifetimes.

| Role | Keys | Signs | Lives |
|---|---|---|---|
| ``root`` | offline, a threshold of several | the keys of the four top roles | a year |
| ``targets`` | offline | which role may sign for which models | a year |
| one per group of devices, and ``default`` | the hub's | packages | 90 days, renewed |
| ``snapshot`` | the hub's | which metadata belong together | 14 days, renewed |
| ``timestamp`` | the hub's | which snapshot is the newest | 7 days, renewed |

Keys are Ed25519, each a PEM file (PKCS 8) of its own with mode 0600, named
``<role>-<first 12 digits of the key id>.pem``. Files of offline roles stand in a folder that is
meant to leave the machine, and may be encrypted by a passphrase; those of online roles stand beside
the metadata and are not.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lineside.core import (
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    need,
    parse_digest,
)
from lineside.core.files import write_durably
from lineside.fleet.contract import Release, Target, version_key
from lineside.models.operating_point import POINT_KIND

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

DEFAULT = "default"
ONLINE = ("snapshot", "timestamp")
OFFLINE = ("root", "targets")
WHEELS = "wheels"
TIMESTAMP = "timestamp.json"
LAST_SNAPSHOT = "snapshot.json"
"""The snapshot that a device held last, whatever its number: it guards against older ones."""
_TOP = ("root", "targets", "snapshot", "timestamp")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}){0,5}")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """The role that signed a target, its keys that did, and how many had to."""

    role: str
    keys: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Lifetimes of signed metadata by role."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=365)
    group: timedelta = timedelta(days=90)
    snapshot: timedelta = timedelta(days=14)
    timestamp: timedelta = timedelta(days=7)

    def of(self, role: str) -> timedelta:
        """Of a role by its name; groups of devices share one."""
        match role:
            case "root":
                return self.root
            case "targets":
                return self.targets
            case "snapshot":
                return self.snapshot
            case "timestamp":
                return self.timestamp
            case _:
                return self.group


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGroup:
    """Devices whose packages one role signs, and nobody else.

    Attributes:
        models: groups of models, as ``Release.group`` names them; empty: the one of its name.
    """

    name: str
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_role_name(self.name)
        if self.name == DEFAULT:
            raise InvalidError(
                "the default group is always there", where="group", fix="Name it differently."
            )
        for model in self.models:
            if not _PART.fullmatch(model):
                raise InvalidError(
                    f"{model[:80]!r} names no model", where="group", fix="Write NAME=MODEL,MODEL."
                )

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the targets that its role may sign (TUF 4.5, ``paths``)."""
        return tuple(f"packages/{model}/*/*" for model in self.models or (self.name,))


DEFAULT_PATHS = ("packages/*/*/*", f"{WHEELS}/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrust:
    """Settings of a new repository.

    Attributes:
        root_keys: how many there are.
        threshold: how many of them must sign a root.
        passphrase: encrypts the offline keys' files; empty: they are not.
    """

    root_keys: int = 3
    threshold: int = 2
    groups: tuple[DeviceGroup, ...] = ()
    passphrase: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= self.root_keys <= 16:
            raise InvalidError(
                f"{self.threshold} of {self.root_keys} root keys cannot sign",
                where="threshold",
                fix="Let 1 <= threshold <= keys <= 16, such as 2 of 3.",
            )
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise InvalidError("two groups of one name", where="group", fix="Name each once.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleView:
    """A role as it stands.

    Attributes:
        keys: ids of those that may sign.
        paths: of delegated roles: what they may sign.
        targets: how many it signs for.
    """

    role: str
    version: int
    expires: datetime
    threshold: int
    keys: tuple[str, ...]
    online: bool
    paths: tuple[str, ...] = ()
    targets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustView:
    """A repository as it stands; ``warnings`` are sentences for a person."""

    roles: tuple[RoleView, ...]
    targets: tuple[str, ...]
    warnings: tuple[str, ...]


def check_release(release: Release, *, archive: bytes, sha256: str) -> None:
    """Refuse a release that does not fit its archive, or could not be found again.

    Raises:
        InvalidError: says which part of it.
    """
    version_key(release.version)
    parse_digest(release.digest, where="digest")
    if not _PART.fullmatch(release.group):
        raise InvalidError(
            f"{release.group[:80]!r} names no model", where="group", fix="Letters, digits, '-'."
        )
    if release.sha256 != sha256 or release.size_bytes != len(archive):
        raise InvalidError(
            "the archive is not the one that the release names",
            where=release.target,
            fix="Read both from the registry again.",
        )


def custom_of(
    release: Release, *, rollback_from: tuple[str, ...], inspections: tuple[str, ...] = ()
) -> dict[str, object]:
    """Return the metadata that are signed beside a package's length and digest.

    Args:
        release: that is published.
        rollback_from: versions that may go back to it.
        inspections: which it was published for before.
    """
    for version in rollback_from:
        version_key(version)
    named = (name for name in (*inspections, release.inspection) if name)
    every = tuple(dict.fromkeys(named)) or ("",)
    more = {"inspections": list(every)} if len(every) > 1 else {}
    return {
        **more,
        "group": release.group,
        "version": release.version,
        "inspection": every[0],
        "digest": str(release.digest),
        "platforms": list(release.platforms),
        "rollback_from": sorted(set(rollback_from), key=version_key),
    }


def is_point(custom: Mapping[str, object], *, sha256: str) -> bool:
    """Return whether the metadata of a file are those of an operating point."""
    is_group = str(custom.get("group", "")).startswith(f"{POINT_KIND}-")
    return is_group and custom.get("digest") == f"sha256:{sha256}"


def check_custom(path: str, custom: Mapping[str, object]) -> None:
    """Refuse a package whose signed words contradict the place it stands at.

    Raises:
        InvalidError: a field is absent or of another kind, or group and version are not the path's.
    """
    words = ("group", "version", "inspection", "digest")
    lists = ("platforms", "rollback_from", "inspections")
    faults = [name for name in words if not isinstance(custom.get(name), str)]
    faults += [name for name in lists if not _is_words({"inspections": [], **custom}.get(name))]
    if faults:
        raise InvalidError(f"signed without a usable {faults[0]!r}", where=path, fix="Publish it.")
    if path.split("/")[1:3] != [custom["group"], custom["version"]]:
        raise InvalidError(
            f"signed as version {custom['version']!r} of {custom['group']!r}",
            where=path,
            fix="Publish it under its own name.",
        )
    version_key(str(custom["version"]))
    parse_digest(str(custom["digest"]), where=f"{path}: digest")


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check_path(path: str) -> str:
    """Refuse a target's path that could lead elsewhere.

    Raises:
        InvalidError: it is no plain relative path.
    """
    if not _PATH.fullmatch(path) or ".." in path:
        raise InvalidError(
            f"{path[:120]!r} is no target's path", where="target", fix="Such as packages/a/1/b."
        )
    return path


def prefixed(path: str, sha256: str) -> str:
    """Return the path of a target's bytes in a repository of consistent snapshots (TUF 6.2)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}" if folder else f"{sha256}.{name}"


def unprefixed(path: str) -> tuple[str, str]:
    """A target's path and its digest; ("", "") where the path carries none."""
    folder, _, name = path.rpartition("/")
    sha256, _, rest = name.partition(".")
    if not _SHA256.fullmatch(sha256) or not rest:
        return "", ""
    return (f"{folder}/{rest}" if folder else rest), sha256


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


def check_role_name(name: str) -> str:
    """Refuse what cannot stand in a file's name."""
    if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,62}", name) or name in _TOP:
        raise InvalidError(
            f"{name[:80]!r} names no group of devices",
            where="group",
            fix="Write letters, digits and single hyphens, at most 63.",
        )
    return name


def find_target(targets: Iterable[Target], name: str) -> Target:
    """A target by path, ``GROUP/VERSION``, or a package's digest (its newest version).

    Raises:
        NotFoundError: nothing of this name is signed.
    """

    def means(target: Target) -> bool:
        custom = target.custom
        return name in (
            target.path, custom.get("digest"), f"{custom.get('group')}/{custom.get('version')}"
        )  # fmt: skip

    found = [target for target in targets if means(target)]
    if not found:
        raise NotFoundError(
            "nothing of this name is signed", where=name[:200],
            fix="Approve it on the hub. lineside trust show lists what is signed.",
        )  # fmt: skip
    return max(found, key=lambda target: version_key(str(target.custom.get("version", "0"))))
