"""What this device should run, what it runs, and what ran before: ``deployment.json``.

1. The hub's desired state is what the hub wants for good; a job proposes a package to some devices
   first. What a job brought stays until the desired state of its inspection is another one, or has
   another revision, than it had when the job was confirmed.
2. A desired state that is not known (lost with a part of the disk, never heard) changes nothing.
3. The previous package stays on the disk; it goes on when the one in use must not run any more.
4. Which signed version was installed last is what a version must be newer than. It is kept also
   where nothing is in use any more.
5. One file, replaced at once, with a copy for a disk that damages one of them. Older agents kept
   three files (``desired.json``, ``placed.json``, ``installed.json``); they become this one at the
   first start.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lineside.core import (
    Digest,
    InvalidError,
    LinesideError,
    RefusedError,
    decode,
    decode_json,
    encode,
    replace_durably,
)
from lineside.edge.messages import Desired, Wanted, read_desired
from lineside.fleet import Installed

_FILE = "deployment.json"
_COPY = "deployment-copy.json"
_OLDER = ("desired.json", "placed.json", "installed.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPackage:
    """Package in use for one inspection.

    Attributes:
        digest: of the package in use.
        previous: of the one before it; "": none.
        url: where it may be had again; "": the update repository says so.
        by_job: whether a job brought it, and the desired state has not changed since.
        desired_digest, desired_revision: of the desired state then; "": it named none.
    """

    inspection: str
    digest: Digest
    previous: str = ""
    url: str = ""
    by_job: bool = False
    desired_digest: str = ""
    desired_revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """``lineside.deployment/1``.

    Attributes:
        desired: as the hub said it last; None: it was never heard.
        packages: in use.
        installed: the signed version that was installed last for each inspection.
    """

    schema: Literal["lineside.deployment/1"] = "lineside.deployment/1"
    desired: Desired | None = None
    packages: tuple[DeployedPackage, ...] = ()
    installed: tuple[Installed, ...] = field(default=())

    def deployed(self) -> dict[str, DeployedPackage]:
        """By inspection."""
        return {one.inspection: one for one in self.packages}

    def having(
        self, packages: Mapping[str, DeployedPackage], *, installed: Installed | None = None
    ) -> "Deployment":
        """With other packages in use, and one more installed."""
        known = {one.inspection: one for one in self.installed}
        if installed is not None:
            known[installed.inspection] = installed
        return replace(
            self,
            packages=tuple(packages[name] for name in sorted(packages)),
            installed=tuple(known[name] for name in sorted(known)),
        )


def wanted_now(
    desired: Desired | None, deployed: Mapping[str, DeployedPackage]
) -> tuple[Wanted, ...]:
    """What should answer: the desired state, but for what a job brought since.

    Without a desired state: what answers now.
    """
    wanted = {one.inspection: one for one in desired.packages} if desired is not None else {}
    by_job = {
        name: Wanted(inspection=name, digest=one.digest, url=one.url)
        for name, one in deployed.items()
        if desired is None or _holds(one, desired)
    }
    return tuple({**wanted, **by_job}.values())


def settled(
    desired: Desired | None, deployed: Mapping[str, DeployedPackage]
) -> dict[str, DeployedPackage]:
    """The same while the desired state has not changed; else no package is a job's any more."""
    if desired is None:
        return dict(deployed)
    return {
        name: one
        if _holds(one, desired)
        else replace(one, by_job=False, desired_digest="", desired_revision=0)
        for name, one in deployed.items()
    }


def _holds(one: DeployedPackage, desired: Desired) -> bool:
    known = (one.desired_digest, one.desired_revision)
    return one.by_job and known == desired.of(one.inspection)


def read_deployment(folder: Path) -> Deployment:
    """What the folder says; an empty one where nothing was ever deployed.

    Raises:
        RefusedError: file and copy are damaged: without them, older could not be told from newer.
    """
    damage: InvalidError | None = None
    for name in (_FILE, _COPY):
        path = folder / name
        try:
            return decode(Deployment, path.read_bytes(), where=str(path))
        except FileNotFoundError:
            continue
        except InvalidError as error:
            damage = damage or error
    if damage is not None:
        raise RefusedError(
            f"cannot be read: {damage.message}",
            where=str(folder / _FILE),
            fix=f"Restore it; or delete it and {_COPY}, and any signed version is taken.",
        ) from damage
    return _upgraded(folder)


def keep_deployment(folder: Path, deployment: Deployment) -> None:
    """Replace file and copy.

    Raises:
        UnavailableError: the disk does not take it.
    """
    data = encode(deployment)
    replace_durably(folder / _FILE, data)
    replace_durably(folder / _COPY, data)


def upgrade(folder: Path) -> None:
    """Make one file of the three that older agents kept; nothing to do where there are none."""
    if not any((folder / name).exists() for name in _OLDER):
        return
    if not (folder / _FILE).exists():
        keep_deployment(folder, read_deployment(folder))
    for name in _OLDER:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def read_installed(folder: Path) -> Mapping[str, Installed]:
    """The signed version that was installed last, by inspection; raises as ``read_deployment``."""
    return {one.inspection: one for one in read_deployment(folder).installed}


# ---- files of older agents


@dataclass(frozen=True, slots=True, kw_only=True)
class _OlderInstalled:
    schema: Literal["lineside.installed/1"] = "lineside.installed/1"
    packages: tuple[Installed, ...] = ()


def _upgraded(folder: Path) -> Deployment:
    desired, placed, installed = (folder / name for name in _OLDER)
    found = Deployment()
    with contextlib.suppress(OSError, LinesideError):
        found = replace(found, desired=read_desired(desired.read_bytes(), where=str(desired)))
    with contextlib.suppress(OSError, LinesideError):
        rows = decode_json(placed.read_bytes(), where=str(placed))["packages"]
        found = replace(found, packages=tuple(_of_older(row) for row in rows))
    with contextlib.suppress(FileNotFoundError):
        try:
            kept = decode(_OlderInstalled, installed.read_bytes(), where=str(installed))
        except InvalidError as error:
            raise RefusedError(
                f"cannot be read: {error.message}",
                where=str(installed),
                fix="Restore it; or delete it, and any signed version is taken.",
            ) from error
        found = replace(found, installed=kept.packages)
    return found


def _of_older(row: Mapping[str, Any]) -> DeployedPackage:
    body = {
        "inspection": row["inspection"], "digest": row["digest"],
        "previous": row.get("before", ""), "url": row.get("url", ""),
        "by_job": row.get("by_job", False), "desired_digest": row.get("instead_of", ""),
    }  # fmt: skip
    return decode(DeployedPackage, body, where="placed.json")
