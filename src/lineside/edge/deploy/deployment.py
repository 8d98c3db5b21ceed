"""Deployment of a device: desired state, packages in use, packages before: ``deployment.json``.

1. The hub's desired state is what the hub wants for good; a job proposes a package to some devices
   first. What a job brought stays until the desired state of its inspection is another one, or has
   another revision, than it had when the job was confirmed.
2. A desired state that is not known (lost with a part of the disk, never heard) changes nothing.
3. The previous package stays on the disk; it goes on when the one in use must not run any more.
4. Which signed version was installed last is what a version must be newer than. It is kept also
   where nothing is in use any more. So is the highest operating point of each package.
5. One file, replaced at once, with a copy for a disk that damages one of them.
"""

import contextlib
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lineside.core import (
    Digest,
    InvalidError,
    LinesideError,
    RefusedError,
    UnavailableError,
    decode,
    encode,
    replace_durably,
)
from lineside.fleet import Installed
from lineside.fleet.contract import Desired, DesiredPackage, DesiredPoint
from lineside.models.operating_point import OperatingPoint

_FILE = "deployment.json"
_COPY = "deployment-copy.json"
_PACKAGES = "packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPackage:
    """Package in use for one inspection.

    Attributes:
        digest: of the package in use.
        previous: of the one before it; "": none.
        url: where it may be had again; "": the update repository says so.
        by_job: whether a job brought it, and the desired state has not changed since.
        desired_digest, desired_revision: of the desired state then; "": it named none.
        operating_point: digest of the limits that it decided by last; "": its own.
    """

    inspection: str
    digest: Digest
    previous: str = ""
    url: str = ""
    by_job: bool = False
    desired_digest: str = ""
    desired_revision: int = 0
    operating_point: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedPoint:
    """Operating point of the highest version that a package ever decided by on this device.

    Attributes:
        version: a lower one is refused; 0: not known, as records of older agents do not say it.
        digest: of the point, whose bytes stay beside the packages.
    """

    inspection: str
    package: Digest
    version: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """``lineside.deployment/1``.

    Attributes:
        desired: as the hub said it last; None: it was never heard.
        packages: in use.
        installed: the signed version that was installed last for each inspection.
        points: the highest operating point of each package that ever decided by one.
    """

    schema: Literal["lineside.deployment/1"] = "lineside.deployment/1"
    desired: Desired | None = None
    packages: tuple[DeployedPackage, ...] = ()
    installed: tuple[Installed, ...] = field(default=())
    points: tuple[UsedPoint, ...] = field(default=())

    def deployed(self) -> dict[str, DeployedPackage]:
        """By inspection."""
        return {one.inspection: one for one in self.packages}

    def used_points(self) -> dict[tuple[str, str], UsedPoint]:
        """By inspection and package, also those of records that name the last one only."""
        last = {
            (one.inspection, str(one.digest)): UsedPoint(
                inspection=one.inspection, package=one.digest, version=0,
                digest=Digest(one.operating_point),
            )
            for one in self.packages
            if one.operating_point
        }  # fmt: skip
        return last | {(one.inspection, str(one.package)): one for one in self.points}

    def having(
        self,
        packages: Mapping[str, DeployedPackage],
        *,
        installed: Installed | None = None,
        points: Collection[UsedPoint] | None = None,
    ) -> "Deployment":
        """With other packages in use, one more installed, and other points; None: the same."""
        known = {one.inspection: one for one in self.installed}
        if installed is not None:
            known[installed.inspection] = installed
        return replace(
            self,
            packages=tuple(packages[name] for name in sorted(packages)),
            installed=tuple(known[name] for name in sorted(known)),
            points=self.points if points is None else tuple(points),
        )


def check_not_older(point: OperatingPoint, used: Mapping[tuple[str, str], UsedPoint]) -> None:
    """Refuse an operating point below the highest one of its package on this device.

    Raises:
        RefusedError: an older one.
    """
    last = used.get((point.inspection, str(point.package)))
    if last is not None and point.version < last.version:
        raise RefusedError(
            f"operating point {point.version} is older than {last.version}, which was in use",
            where=point.inspection,
            fix="Roll back on the hub: that makes a new version of the earlier limits.",
        )


def wanted_now(
    desired: Desired | None, deployed: Mapping[str, DeployedPackage]
) -> tuple[DesiredPackage, ...]:
    """The packages that should answer: the desired state, but for those a job brought since.

    Without a desired state: what answers now. What no desired state names keeps its point.
    """
    wanted = {one.inspection: one for one in desired.packages} if desired is not None else {}
    by_job = {
        name: DesiredPackage(
            inspection=name, digest=one.digest, url=one.url, operating_point=_last_point(one)
        )
        for name, one in deployed.items()
        if desired is None or _holds(one, desired)
    }
    return tuple({**wanted, **by_job}.values())


def _last_point(one: DeployedPackage) -> DesiredPoint | None:
    digest = one.operating_point
    return DesiredPoint(digest=Digest(digest), url="") if digest else None


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


class DeploymentStore:
    """Deployment and packages of one device in its folder; for one process, safe from threads.

    ``deployment.json``, and ``packages/<hex of the digest>.lspkg``, each replaced atomically. What
    stands here is verified again whenever it is loaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packages = folder / _PACKAGES
        self._writing = threading.Lock()

    def open(self) -> None:
        """Make the folders.

        Raises:
            UnavailableError: that is not allowed.
        """
        try:
            self._packages.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"cannot write: {error.strerror}",
                where=str(self._packages),
                fix="Free space, and allow writing.",
            ) from error

    # ---- deployment

    def read(self) -> Deployment:
        """Read the deployment; an empty one where nothing was ever deployed.

        Raises:
            RefusedError: file and copy are damaged: without them, older could not be told from
                newer.
        """
        damage: InvalidError | None = None
        for name in (_FILE, _COPY):
            path = self.folder / name
            try:
                return decode(Deployment, path.read_bytes(), where=str(path))
            except FileNotFoundError:
                continue
            except InvalidError as error:
                damage = damage or error
        if damage is not None:
            raise RefusedError(
                f"cannot be read: {damage.message}",
                where=str(self.folder / _FILE),
                fix=f"Restore it; or delete it and {_COPY}, and any signed version is taken.",
            ) from damage
        return Deployment()

    def write(self, deployment: Deployment) -> None:
        """Replace file and copy.

        Raises:
            UnavailableError: the disk does not take it.
        """
        data = encode(deployment)
        replace_durably(self.folder / _FILE, data)
        replace_durably(self.folder / _COPY, data)

    def installed(self) -> dict[str, Installed]:
        """Signed version that was installed last, by inspection; raises as ``read``."""
        return {one.inspection: one for one in self.read().installed}

    def desired(self) -> Desired | None:
        """Desired state that was kept last; None where there is none that can be read."""
        return self._readable().desired

    def keep_desired(self, desired: Desired) -> None:
        """Keep the hub's desired state; the same one again is not written."""
        with self._writing:
            known = self.read()
            if known.desired != desired:
                self.write(replace(known, desired=desired))

    def deployed(self) -> dict[str, DeployedPackage]:
        """Packages that were in use last, by inspection; none where that cannot be read."""
        return self._readable().deployed()

    def used_points(self) -> dict[tuple[str, str], UsedPoint]:
        """Highest operating points by inspection and package; none where that cannot be read."""
        return self._readable().used_points()

    def keep_deployed(
        self,
        deployed: Mapping[str, DeployedPackage],
        *,
        installed: Installed | None = None,
        points: Collection[UsedPoint] | None = None,
    ) -> None:
        """Keep the packages in use, the version installed for one of them, and used points."""
        with self._writing:
            self.write(self.read().having(deployed, installed=installed, points=points))

    def _readable(self) -> Deployment:
        try:
            return self.read()
        except (OSError, LinesideError):
            return Deployment()

    # ---- packages

    def path(self, digest: Digest) -> Path:
        """Path of an archive or an operating point, whether it is there or not."""
        return self._packages / f"{digest.removeprefix('sha256:')}.lspkg"

    def get(self, digest: Digest) -> bytes | None:
        """The bytes of this digest; None where they are not here."""
        try:
            return self.path(digest).read_bytes()
        except OSError:
            return None

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep an archive or an operating point."""
        replace_durably(self.path(digest), data)

    def remove(self, digest: Digest) -> None:
        """Remove an archive, as one that turned out to be damaged."""
        with contextlib.suppress(OSError):
            self.path(digest).unlink()

    def sweep(self, *, keep: Collection[Digest]) -> None:
        """Remove everything but these."""
        names = {self.path(digest).name for digest in keep}
        for path in self._packages.glob("*"):
            if path.name not in names:
                with contextlib.suppress(OSError):
                    path.unlink()
