"""Whether a signed package may take the place of the one in use; nothing is done here.

1. Newer, or the very same: yes. Versions are compared as versions, within one group of models.
2. Older: only when it is asked for as a rollback, and the target's signed words allow it from the
   version in use (``rollback_from``). A signature alone never leads back.
3. A package that names platforms runs on those only.
"""

from collections.abc import Collection
from dataclasses import dataclass

from lineside.core import Digest, InvalidError, RefusedError
from lineside.fleet.contract import Target
from lineside.fleet.versions import newer


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A package that was put into use, as the repository named it."""

    inspection: str
    group: str
    version: str
    digest: Digest
    target: str


def installed_of(target: Target) -> Installed:
    """What a target would be when it is in use."""
    custom = target.custom
    return Installed(
        inspection=str(custom["inspection"]), group=str(custom["group"]),
        version=str(custom["version"]), digest=Digest(str(custom["digest"])), target=target.path,
    )  # fmt: skip


def check_may_replace(
    target: Target, *, installed: Installed | None, rollback: bool, platform: str
) -> None:
    """Refuse a package that must not come here.

    Args:
        target: a verified package.
        installed: what runs now, None where nothing does.
        rollback: whether going back is what was asked for.
        platform: of this machine, such as "linux/x86_64".

    Raises:
        RefusedError: older than what is in use, and no signed way back.
        InvalidError: made for another platform.
    """
    asked = installed_of(target)
    platforms = _words(target.custom.get("platforms"))
    if platforms and platform not in platforms:
        raise InvalidError(
            f"made for {', '.join(platforms)}; this is {platform}",
            where=target.path,
            fix="Publish a package for this platform.",
        )
    if installed is None or installed.group != asked.group or installed.digest == asked.digest:
        return
    if newer(asked.version, than=installed.version):
        return
    place = f"version {asked.version} of {asked.group!r} is not newer than {installed.version}"
    if not rollback:
        raise RefusedError(
            f"{place}, which is in use", where=target.path, fix="Ask for a rollback (--rollback)."
        )
    if installed.version not in _words(target.custom.get("rollback_from")):
        raise RefusedError(
            f"{place}, and no way back from there is signed",
            where=target.path,
            fix=f"On the hub: lineside trust allow-rollback {target.path} "
            f"--from-version {installed.version}.",
        )


def _words(value: object) -> Collection[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
