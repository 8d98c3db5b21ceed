"""Whether this device trusts a site's update repository, and what it says where it does not."""

from pathlib import Path

from lineside.core import RefusedError
from lineside.fleet import pin_root

TRUST = "trust"
_ROOT = "root.json"
_PINNED = "pinned.json"


def pinned(data_dir: Path, *, trust_root: str) -> bool:
    """Whether this device trusts a root; one that the settings name is pinned at the first start.

    Raises:
        RefusedError: the root is none, or is not there.
        ConflictError: another one is pinned.
    """
    trust = data_dir / TRUST
    path = _root_in(Path(trust_root))
    if trust_root and (path.exists() or not (trust / _PINNED).exists()):
        pin_root(trust, _read(path))
    return trust.is_dir()


def no_trust(where: str = "") -> RefusedError:
    """What a device says that trusts nobody."""
    return RefusedError(
        "this device trusts no update repository, and unsigned packages are not allowed",
        where=where or "trust_root",
        fix='Enrol it or set trust_root; or say unsigned = "allowed".',
    )


def _root_in(place: Path) -> Path:
    return place / _ROOT if place.is_dir() else place


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefusedError(
            f"no {_ROOT} there: {error.strerror}",
            where=str(path),
            fix=f"Put the site's {_ROOT} there; the hub writes it at its first start.",
        ) from error
