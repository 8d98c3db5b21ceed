"""Which signed package is in use for each inspection: ``installed.json`` of the device's folder.

What a version must be newer than; the wish (``desired.json``) knows digests only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lineside.core import InvalidError, RefusedError, decode, encode, replace_durably
from lineside.fleet import Installed

_FILE = "installed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    schema: Literal["lineside.installed/1"] = "lineside.installed/1"
    packages: tuple[Installed, ...] = ()


def read_installed(folder: Path) -> Mapping[str, Installed]:
    """By inspection; nothing where nothing was installed.

    Raises:
        RefusedError: the file was damaged: without it, older could not be told from newer.
    """
    path = folder / _FILE
    try:
        document = decode(_Document, path.read_bytes(), where=str(path))
    except FileNotFoundError:
        return {}
    except InvalidError as error:
        raise RefusedError(
            f"cannot be read: {error.message}",
            where=str(path),
            fix="Restore it; or delete it, and any signed version is taken.",
        ) from error
    return {found.inspection: found for found in document.packages}


def keep_installed(folder: Path, *, packages: Mapping[str, Installed]) -> None:
    """Keep what is in use now.

    Raises:
        UnavailableError: the disk does not take it.
    """
    kept = tuple(packages[name] for name in sorted(packages))
    replace_durably(folder / _FILE, encode(_Document(packages=kept)))
