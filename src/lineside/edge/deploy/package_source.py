"""Source of packages, and the rules of what may run here.

1. A device with a trust root runs what is signed in its site's update repository and nothing else,
   whoever asks: a wish, a job, or a file that lies on its disk already.
2. What lies on the disk is held against what is signed each time it is loaded: bytes that changed
   since they were verified are refused. This needs no network.
3. A device without a trust root runs nothing, unless its settings say ``unsigned = "allowed"``.
4. An older version than the one in use needs a way back that is signed, and an order that says so:
   a job with ``rollback``, or a wish, which a person made.
5. Nothing that the hub sends is believed here; the token goes to the configured hub only, and
   redirects are not followed (``hub_client``).
6. An operating point is a signed target like a package, and is held against what is signed
   whenever it is taken from the disk or fetched.
7. A text of the plant file is taken over when its digest is signed under a higher number than that
   of the file it replaces: so neither an older one nor a device's own file is ever replaced.

Apply a bundle from a stick to a device; no network takes part.

1. The bundle is read by the same verifier as a hub is, from the root the device trusts.
2. Every package in it is verified, loaded and asked its golden pictures before anything of the
   device changes; then archives, and ``deployment.json`` last, are written, each atomically.
3. Older than what is in use: only with a signed way back and when it was asked for.
4. A package decides by the operating point that the bundle brings for it, which is signed, fits
   the package and is not older than the last one here; without one by the point it had here.
"""

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode,
    digest_of,
    encode,
    short,
)
from lineside.core.plant_check import PLANT_GROUP, PlantText
from lineside.edge.config import EdgeConfig
from lineside.edge.deploy.deployment import DeploymentStore, check_not_older
from lineside.edge.hub_client import Access, HubClient
from lineside.edge.identity.trust import TRUST, SignedPackages, no_trust, of_archive, pinned
from lineside.edge.machine import sole_user, this_platform
from lineside.edge.packages import LoadedPackage, LoadPackage, loading
from lineside.fleet import (
    Installed,
    JobDocument,
    Progress,
    Signers,
    Source,
    Target,
    UpdateClient,
    newer,
    pin_root,
    version_key,
)
from lineside.fleet.agent import check_may_replace, check_signed, installed_of
from lineside.fleet.contract import Desired, DesiredPackage, DesiredPoint
from lineside.fleet.trust.bundle import Bundle, open_bundle, package_of_each
from lineside.fleet.trust.roles import prefixed
from lineside.models.operating_point import OperatingPoint

_INCOMING = "incoming"
_PARTS_KEPT = 2
_MOST_PLANT_BYTES = 1_000_000  # of a file that the hub reads


class DamagedError(RefusedError):
    """Bytes on this device's disk are not those that were verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A package that may come here.

    Attributes:
        inspection: which it will answer for; "": the package says so.
        digest: of the package; "": whatever comes.
        url: where it is, for a device that fetches by address.
        target: what is signed of it.
        installed: what will be kept of it, once it is in use.
    """

    inspection: str
    digest: str
    url: str = ""
    target: Target | None = None
    installed: Installed | None = None


class PackageSource:
    """Where this device has its packages from; safe from several threads.

    One of three: the site's update repository; addresses of the hub, without signatures, where the
    settings allow that; or none, and nothing may run.
    """

    def __init__(
        self,
        store: DeploymentStore,
        *,
        clock: Clock,
        repository: Source | None = None,
        fetch: Callable[[str], bytes] | None = None,
        unsigned: Callable[[str], bytes] | None = None,
        platform: str = "",
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Read nothing yet.

        Args:
            store: of the device; a root is pinned in its folder where there is a repository.
            clock: of expiry.
            repository: files of the update repository.
            fetch: bytes of a plant file's address at the hub; None: none is fetched.
            unsigned: bytes of an address, where unsigned packages may run.
            platform: of this machine.
            close: ends the requests that the functions above send.
        """
        self.close = close
        self._store = store
        self._packages = (
            SignedPackages(store.folder, source=repository, clock=clock) if repository else None
        )
        self._fetch = fetch
        self._unsigned = unsigned
        self._platform = platform or this_platform()
        self._fetching = threading.Lock()

    @property
    def signed(self) -> bool:
        """True where only signed packages run."""
        return self._unsigned is None

    def check(self, data: bytes, *, wanted: DesiredPackage, changes: bool) -> Installed | None:
        """Check bytes of this device's disk before they are loaded; asks nobody else.

        Args:
            data: of an archive.
            wanted: the package that they should be.
            changes: whether they will take the place of another package, or go on.

        Raises:
            RefusedError: they may not run here.
            InvalidError: made for another platform.
        """
        if self._unsigned is not None:
            return None
        signed = self._signed_as(wanted.digest)
        if not signed:
            raise _not_signed(wanted.digest)
        whole = of_archive(signed, data)
        if not whole:
            raise DamagedError(
                "the archive on this device's disk was changed after it was verified",
                where=short(wanted.digest),
                fix="It is fetched anew; look after who may write there.",
            )
        target = _newest(whole, inspection=wanted.inspection)
        if changes:
            self._check_order(target, inspection=wanted.inspection, rollback=True)
        return installed_of(target, inspection=wanted.inspection)

    def of_desired(self, wanted: DesiredPackage) -> Choice:
        """The package to fetch for the desired state.

        Raises:
            RefusedError, InvalidError, UnavailableError: nothing, and why.
        """
        if self._unsigned is not None:
            return Choice(inspection=wanted.inspection, digest=wanted.digest, url=wanted.url)
        self._trusted(str(wanted.inspection)).refresh()
        signed = self._signed_as(wanted.digest)
        if not signed:
            raise _not_signed(wanted.digest)
        target = _newest(signed, inspection=wanted.inspection)
        self._check_order(target, inspection=wanted.inspection, rollback=True)
        return _choice(target, inspection=wanted.inspection)

    def of_job(self, order: JobDocument) -> Choice:
        """The package to fetch for a job; ``refresh`` comes first.

        Raises:
            RefusedError, InvalidError: nothing, and why.
        """
        if self._unsigned is not None:
            return self._unsigned_choice(order)
        target = self._trusted(order.model_name).target(order.target)
        check_signed(order, target)
        inspection = order.inspection or target.inspections[0]
        self._check_order(target, inspection=inspection, rollback=order.rollback)
        return _choice(target, inspection=inspection)

    def refresh(self) -> None:
        """Fetch what is signed now.

        Raises:
            RefusedError: what came cannot be believed.
            UnavailableError: the hub is away.
        """
        if self._packages is not None:
            self._packages.refresh()

    def fetch(self, choice: Choice, *, progress: Progress) -> bytes:
        """The archive, verified; goes on where an earlier fetch broke off.

        Raises:
            RefusedError, InvalidError, NotFoundError, UnavailableError: why not.
        """
        if self._unsigned is not None:
            data = self._unsigned(choice.url)
            progress(len(data), len(data))
            return data
        client = self._trusted().client()
        assert choice.target is not None  # noqa: S101  made by this class
        with self._fetching:
            into = self._store.folder / _INCOMING
            _forget_parts(into, but=choice.target.sha256)
            used = self._store.installed().get(choice.inspection)
            # The archive whose place this one takes: much of it may be the same.
            previous = self._store.path(used.digest) if used is not None else None
            path = client.fetch(choice.target, into=into, progress=progress, previous=previous)
            try:
                return path.read_bytes()
            except OSError as error:
                raise UnavailableError(
                    f"cannot be read: {error.strerror}", where=str(path), fix="Check the disk."
                ) from error

    def point(self, wanted: DesiredPoint, *, inspection: str) -> OperatingPoint:
        """Return an operating point, of the disk or fetched; what was fetched is kept.

        Raises:
            RefusedError, InvalidError: it is not signed for this inspection, or is not the one
                that was wanted.
            UnavailableError, NotFoundError: it cannot be had now.
        """
        kept = self._store.get(wanted.digest)
        is_kept = kept is not None and digest_of(kept) == wanted.digest
        data = kept if kept is not None and is_kept else self._fetched_point(wanted)
        if digest_of(data) != wanted.digest:
            raise RefusedError(
                f"the operating point has digest {short(digest_of(data))}, wanted"
                f" {short(wanted.digest)}",
                where=inspection,
                fix="Look after who changed it on the way; the hub has the right one.",
            )
        if self._unsigned is None:
            signed = of_archive(self._signed_as(wanted.digest), data)
            if not any(one.custom.get("inspection") == inspection for one in signed):
                raise _not_signed(wanted.digest, what="operating point")
        point = decode(OperatingPoint, data, where=f"operating point of {inspection}")
        if point.inspection != inspection:
            raise InvalidError(
                f"the operating point is for {point.inspection!r}",
                where=inspection,
                fix="Propose one for this inspection.",
            )
        if not is_kept:
            self._store.put(wanted.digest, data)
        return point

    def check_plant(self, digest: str, *, before: str) -> None:
        """Check that a plant file may take the place of another one; both by their digests.

        Raises:
            RefusedError: it is not signed, or not as a later version than the one before it.
            UnavailableError: the hub is away, so that this cannot be known now.
        """
        if self._unsigned is not None:
            return
        with contextlib.suppress(RefusedError):  # nothing is on the disk yet
            if self._follows(digest, before):
                return
        self._trusted("plant file").refresh()
        if not self._follows(digest, before):
            raise RefusedError(
                "this version is not signed as one that follows the file here",
                where="plant file",
                fix="Look after who publishes on the bus; the hub signs what is set up there.",
            )

    def plant_text(self, version: PlantText) -> bytes:
        """Return the text of a version of the plant file, fetched where the message has none.

        Raises:
            UnavailableError: the hub is away, or does not hand this version out now: an older hub,
                a token that is being replaced or a proxy may be the cause, and the same message
                is not sent again.
        """
        if version.text or self._fetch is None:
            return version.text.encode()
        try:
            return self._fetch(f"/api/v1/plant/versions/{version.number}/content")
        except (RefusedError, NotFoundError, InvalidError) as error:
            raise UnavailableError(error.message, where=error.where, fix=error.fix) from error

    def _follows(self, digest: str, before: str) -> bool:
        """Return whether a digest is signed after another one, as far as this device knows."""
        numbers = {
            name: max(
                (
                    version_key(str(one.custom["version"]))
                    for one in self._signed_as(name)
                    if one.custom.get("group") == PLANT_GROUP
                ),
                default=(),
            )
            for name in (digest, before)
        }
        return () < numbers[before] < numbers[digest]

    def _fetched_point(self, wanted: DesiredPoint) -> bytes:
        if self._unsigned is not None:
            return self._unsigned(wanted.url)
        trusted = self._trusted()
        trusted.refresh()
        target = next(iter(self._signed_as(wanted.digest)), None)
        if target is None:
            raise _not_signed(wanted.digest, what="operating point")
        with self._fetching:
            into = self._store.folder / _INCOMING
            path = trusted.client().fetch(target, into=into, progress=_silent)
            data = path.read_bytes()
            path.unlink()
        return data

    def done(self, choice: Choice) -> None:
        """Remove what was fetched of a package that is in the store by now."""
        if choice.target is not None:
            with contextlib.suppress(OSError):
                (self._store.folder / _INCOMING / f"{choice.target.sha256}.lspkg").unlink()

    def _trusted(self, where: str = "") -> SignedPackages:
        if self._packages is None:
            raise no_trust(where)
        return self._packages

    def _signed_as(self, digest: str) -> list[Target]:
        signed = self._trusted().targets()
        return [one for one in signed if one.custom.get("digest") == digest]

    def _check_order(self, target: Target, *, inspection: str, rollback: bool) -> None:
        """Refuse another platform, and an older version without a rollback."""
        check_may_replace(
            target,
            installed=self._store.installed().get(inspection),
            rollback=rollback,
            platform=self._platform,
        )

    def _unsigned_choice(self, order: JobDocument) -> Choice:
        for one in self._store.installed().values():
            same = one.group == order.model_name and order.inspection in ("", one.inspection)
            older = same and newer(one.version, than=order.model_version)
            if older and not order.rollback:
                raise RefusedError(
                    f"version {order.model_version} is older than {one.version}, which is in use",
                    where="model_version",
                    fix="Ask for a rollback.",
                )
        return Choice(
            inspection=order.inspection,
            digest=order.digest,
            url=f"/s3/{order.model_package_bucket}/{order.target or order.model_package_key}",
            installed=Installed(
                inspection=order.inspection,
                group=order.model_name,
                version=order.model_version,
                digest=Digest(order.digest),
                target="",
            ),
        )


def source_for(config: EdgeConfig, *, store: DeploymentStore, clock: Clock) -> PackageSource:
    """The source that the settings name.

    Raises:
        RefusedError: the root of trust is none, or is not there.
        ConflictError: another one is pinned.
    """
    access = Access(
        token_file=config.token_file, ca=config.ca, cert=config.certificate, key=config.key
    )
    hub = HubClient(config.hub, token=access.token, tls=access.tls)
    fetch = partial(hub.fetch, most_bytes=_MOST_PLANT_BYTES)
    if pinned(config.folder, trust_root=config.trust_root):
        return PackageSource(store, repository=hub, fetch=fetch, close=hub.close, clock=clock)
    if config.unsigned == "allowed":
        return PackageSource(store, fetch=fetch, unsigned=hub.fetch, close=hub.close, clock=clock)
    return PackageSource(store, clock=clock)


def _choice(target: Target, *, inspection: str) -> Choice:
    asked = installed_of(target, inspection=inspection)
    return Choice(
        inspection=asked.inspection, digest=asked.digest, target=target, installed=asked
    )  # fmt: skip


def _newest(found: Iterable[Target], *, inspection: str) -> Target:
    """Of several that name one package: for this inspection, the highest version."""
    fitting = [one for one in found if inspection in one.inspections]
    if not fitting:
        raise InvalidError(
            "the package is signed for another inspection",
            where=inspection,
            fix="Release it for this one: lineside rollout start GROUP/NUMBER --inspection NAME.",
        )
    return max(fitting, key=lambda one: version_key(str(one.custom["version"])))


def _not_signed(digest: str, *, what: str = "package") -> RefusedError:
    return RefusedError(
        f"{what} {short(Digest(digest))} is not signed for this device",
        where="trust",
        fix="Approve and publish it on the hub.",
    )


def _forget_parts(folder: Path, *, but: str) -> None:
    """Of broken-off fetches the newest few stay; a full disk helps nobody."""
    parts: Mapping[Path, float] = {
        path: path.stat().st_mtime for path in folder.glob("*") if path.stem != but
    }
    for path in sorted(parts, key=parts.__getitem__, reverse=True)[_PARTS_KEPT:]:
        with contextlib.suppress(OSError):
            path.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Packages and wheels of an applied bundle.

    Attributes:
        packages: now wished for; ``signed_by``: who signed each.
        points: operating points that the bundle brought for them.
        wheels: verified files of the runtime, for ``pip install --no-index --find-links``.
    """

    packages: tuple[Installed, ...]
    signed_by: tuple[Signers, ...]
    wheels: tuple[Path, ...]
    points: tuple[OperatingPoint, ...] = ()


class _Checked(NamedTuple):
    target: Target
    package: Installed
    file: Path
    signers: Signers
    ready: LoadedPackage


def apply_bundle(
    path: Path,
    *,
    folder: Path,
    clock: Clock,
    root: bytes = b"",
    rollback: bool = False,
    make_ready: LoadPackage | None = None,
) -> Applied:
    """Verify a bundle and make its packages what the device runs from its next start on.

    Args:
        path: the bundle.
        folder: the agent's ``data_dir``; made when absent.
        clock: what expiry is judged by.
        root: the site's first root, for a device that trusts none yet.
        rollback: whether going back to an older version is meant.
        make_ready: how an archive becomes a package at work; None: as the agent does it.

    Raises:
        NotFoundError, InvalidError: no bundle, or a package that does not fit.
        RefusedError: something in it cannot be believed, or leads back.
        ConflictError: the agent runs on this folder, or it trusts another root.
        UnavailableError: stick or disk fails, or the clock is wrong.
    """
    make_ready = make_ready or loading(clock)
    with sole_user(folder), contextlib.ExitStack() as stack:
        if root:
            pin_root(folder / TRUST, root)
        stack.callback(shutil.rmtree, folder / _INCOMING, ignore_errors=True)
        bundle = stack.enter_context(open_bundle(path))
        client = UpdateClient(folder / TRUST, source=bundle, clock=clock)
        client.refresh()
        installed = DeploymentStore(folder).installed()
        checked: dict[str, _Checked] = {}
        targets = [_package(client, name) for name in dict.fromkeys(bundle.listed.packages)]
        answering = package_of_each(targets)
        for target in targets:
            names = [name for name, one in answering.items() if one == target]
            for one in _check(client, target, names, folder=folder, make_ready=make_ready):
                inspection = one.package.inspection
                check_may_replace(
                    one.target, installed=installed.get(inspection), rollback=rollback,
                    platform=this_platform(),
                )  # fmt: skip
                checked[inspection] = one
        points = _points(client, bundle, checked, folder=folder)
        wheels = _wheels(client, bundle, folder=folder)
        _put_in_place(checked.values(), points, folder=folder)
    return Applied(
        packages=tuple(one.package for one in checked.values()),
        signed_by=tuple(one.signers for one in checked.values()),
        wheels=wheels,
        points=tuple(points.values()),
    )


def _points(
    client: UpdateClient, bundle: Bundle, checked: Mapping[str, _Checked], *, folder: Path
) -> dict[str, OperatingPoint]:
    """Inspection → its operating point, verified and decided by, out of the bundle."""
    used, found = DeploymentStore(folder).used_points(), {}
    for path in bundle.listed.points:
        target = client.target(path)
        data = client.fetch(target, into=folder / _INCOMING, progress=_silent).read_bytes()
        point = decode(OperatingPoint, data, where=path)
        one = checked.get(point.inspection)
        if one is None or digest_of(data) != target.custom.get("digest"):
            raise RefusedError(
                "the operating point is for no package of the bundle", where=path,
                fix="Write the bundle again.",
            )  # fmt: skip
        check_not_older(point, used)
        one.ready.judge.decide_by(point)
        found[point.inspection] = point
    signed = client.targets().values()
    for inspection, one in checked.items():
        brought = found.get(inspection)
        _check_newest(brought.version if brought else 0, one.package, signed=signed)
    return found


def _check_newest(version: int, package: Installed, *, signed: Iterable[Target]) -> None:
    """Refuse a bundle whose list lacks the newest point that is signed for a package."""
    versions = [
        number
        for one in signed
        if one.custom.get("package") == package.digest
        and one.custom.get("inspection") == package.inspection
        and isinstance(number := one.custom.get("point"), int)
    ]
    newest = max(versions, default=0)
    if newest > version:
        raise RefusedError(
            f"operating point {newest} is signed for the package, and the bundle does not bring it",
            where=package.inspection, fix="Write the bundle again.",
        )  # fmt: skip


def _package(client: UpdateClient, path: str) -> Target:
    target = client.target(path)
    if not path.startswith("packages/"):
        raise InvalidError("no package", where=path, fix="Write the bundle again.")
    return target


def _check(
    client: UpdateClient, target: Target, inspections: Iterable[str], *, folder: Path,
    make_ready: LoadPackage,
) -> list[_Checked]:  # fmt: skip
    """A package of the bundle, for each inspection that it will answer for."""
    file = client.fetch(target, into=folder / _INCOMING, progress=_silent)
    data, signers, found = file.read_bytes(), client.signers(target.path), []
    for inspection in inspections:
        asked = installed_of(target, inspection=inspection)
        ready = make_ready(data, inspection)
        if ready.digest != asked.digest:
            raise RefusedError(
                f"the package is {short(ready.digest)}, signed is {short(asked.digest)}",
                where=target.path,
                fix="Publish the package again.",
            )
        found.append(_Checked(target, asked, file, signers, ready))
    return found


def _wheels(client: UpdateClient, bundle: Bundle, *, folder: Path) -> tuple[Path, ...]:
    """Verified wheels under their own names; they are installed by whoever applies the bundle."""
    found = []
    for path in bundle.listed.wheels:
        file = client.fetch(client.target(path), into=folder / _INCOMING, progress=_silent)
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        found.append(file.replace(place))
    return tuple(found)


def _put_in_place(
    checked: Iterable[_Checked], points: Mapping[str, OperatingPoint], *, folder: Path
) -> None:
    store = DeploymentStore(folder)
    store.open()
    known = store.read()
    desired = known.desired or Desired(schema="lineside.desired/1")
    installed = {one.inspection: one for one in known.installed}
    wanted, used = {one.inspection: one for one in desired.packages}, known.used_points()
    for one in checked:
        package, url = one.package, f"/tuf/targets/{prefixed(one.target.path, one.target.sha256)}"
        store.put(package.digest, one.file.read_bytes())
        before = wanted.get(package.inspection)
        point = before.operating_point if before and before.digest == package.digest else None
        last = used.get((package.inspection, str(package.digest)))
        brought = points.get(package.inspection)
        if brought is not None:
            store.put(brought.digest, encode(brought))
            point = DesiredPoint(digest=brought.digest, url="")
        elif point is None and last is not None:
            point = DesiredPoint(digest=last.digest, url="")
        wanted[package.inspection] = DesiredPackage(
            inspection=package.inspection, digest=package.digest, url=url, operating_point=point
        )
        installed[package.inspection] = package
    store.write(
        replace(
            known,
            desired=replace(desired, packages=tuple(wanted.values())),
            installed=tuple(installed[name] for name in sorted(installed)),
        )
    )


def _silent(there: int, whole: int) -> None:
    del there, whole
