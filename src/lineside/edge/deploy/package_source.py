"""Where packages come from, and what may run here.

1. A device with a trust root runs what is signed in its site's update repository and nothing else,
   whoever asks: a wish, a job, or a file that lies on its disk already.
2. What lies on the disk is held against what is signed each time it is loaded: bytes that changed
   since they were verified are refused. This needs no network.
3. A device without a trust root runs nothing, unless its settings say ``unsigned = "allowed"``.
4. An older version than the one in use needs a way back that is signed, and an order that says so:
   a job with ``rollback``, or a wish, which a person made.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lineside.core import Clock, Digest, InvalidError, RefusedError, UnavailableError, short
from lineside.edge.config import EdgeConfig
from lineside.edge.deploy.deployment import read_installed
from lineside.edge.deploy.hub_source import HubSource
from lineside.edge.deploy.package_store import kept_at
from lineside.edge.hub_client import Access, fetch
from lineside.edge.identity.trust import TRUST, no_trust, pinned
from lineside.edge.machine import this_platform
from lineside.edge.messages import Wanted
from lineside.fleet import (
    Installed,
    JobDocument,
    Progress,
    Source,
    Target,
    UpdateClient,
    newer,
    version_key,
)
from lineside.fleet.agent_order import check_may_replace, check_signed, installed_of

_INCOMING = "incoming"
_PARTS_KEPT = 2


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


class Supply(Protocol):
    """Safe from several threads."""

    @property
    def signed(self) -> bool:
        """Whether only signed packages run."""
        ...

    def kept(self, data: bytes, *, wanted: Wanted, changes: bool) -> Installed | None:
        """Look at bytes of this device's disk before they are loaded; asks nobody else.

        Args:
            data: of an archive.
            wanted: what they should be.
            changes: whether they will take the place of another package, or go on.

        Raises:
            RefusedError: they may not run here.
            InvalidError: made for another platform.
        """
        ...

    def wished(self, wanted: Wanted) -> Choice:
        """What to fetch for a wish.

        Raises:
            RefusedError, InvalidError, UnavailableError: nothing, and why.
        """
        ...

    def ordered(self, order: JobDocument) -> Choice:
        """What to fetch for a job; ``refresh`` comes first.

        Raises:
            RefusedError, InvalidError: nothing, and why.
        """
        ...

    def refresh(self) -> None:
        """Hear what is signed now.

        Raises:
            RefusedError: what came cannot be believed.
            UnavailableError: the hub is away.
        """
        ...

    def fetch(self, choice: Choice, *, progress: Progress) -> bytes:
        """The archive, verified; goes on where an earlier fetch broke off.

        Raises:
            RefusedError, InvalidError, NotFoundError, UnavailableError: why not.
        """
        ...

    def done(self, choice: Choice) -> None:
        """The package is kept elsewhere: what was fetched of it is not needed any more."""
        ...


class SignedSupply:
    """From the site's update repository."""

    signed = True

    def __init__(self, folder: Path, *, source: Source, clock: Clock, platform: str = "") -> None:
        """Read nothing yet.

        Args:
            folder: the agent's ``data_dir``; a root is pinned in its ``trust``.
            source: of the repository.
            clock: what expiry is judged by.
            platform: of this machine.
        """
        self._folder = folder
        self._source = source
        self._clock = clock
        self._platform = platform or this_platform()
        self._metadata = threading.Lock()
        self._fetching = threading.Lock()

    def kept(self, data: bytes, *, wanted: Wanted, changes: bool) -> Installed | None:
        sha256 = hashlib.sha256(data).hexdigest()
        with self._metadata:
            found = _signed_as(wanted.digest, client=self._recalled())
        whole = [one for one in found if (one.sha256, one.size_bytes) == (sha256, len(data))]
        if not found:
            raise _unsigned(wanted.digest)
        if not whole:
            raise DamagedError(
                "the archive on this device's disk was changed after it was verified",
                where=short(wanted.digest),
                fix="It is fetched anew; look after who may write there.",
            )
        target = _newest(whole, inspection=wanted.inspection)
        if changes:
            self._check(target, rollback=True)
        return installed_of(target)

    def wished(self, wanted: Wanted) -> Choice:
        self.refresh()
        with self._metadata:
            found = _signed_as(wanted.digest, client=self._recalled())
        if not found:
            raise _unsigned(wanted.digest)
        target = _newest(found, inspection=wanted.inspection)
        self._check(target, rollback=True)
        return _choice(target)

    def ordered(self, order: JobDocument) -> Choice:
        with self._metadata:
            target = self._recalled().target(order.target)
        check_signed(order, target)
        self._check(target, rollback=order.rollback)
        return _choice(target)

    def refresh(self) -> None:
        with self._metadata:
            client = self._client()
            client.refresh()
            client.targets()  # every role's metadata are on the disk then, for ``recall``

    def fetch(self, choice: Choice, *, progress: Progress) -> bytes:
        assert choice.target is not None  # noqa: S101  made by this class
        with self._fetching:
            into = self._folder / _INCOMING
            _forget_parts(into, but=choice.target.sha256)
            path = self._client().fetch(
                choice.target, into=into, progress=progress, previous=self._in_use(choice)
            )
            try:
                return path.read_bytes()
            except OSError as error:
                raise UnavailableError(
                    f"cannot be read: {error.strerror}", where=str(path), fix="Check the disk."
                ) from error

    def done(self, choice: Choice) -> None:
        if choice.target is not None:
            with contextlib.suppress(OSError):
                (self._folder / _INCOMING / f"{choice.target.sha256}.lspkg").unlink()

    def _in_use(self, choice: Choice) -> Path | None:
        """The archive whose place this one takes: much of it may be the same."""
        used = read_installed(self._folder).get(choice.inspection)
        return kept_at(self._folder, used.digest) if used is not None else None

    def _client(self) -> UpdateClient:
        return UpdateClient(self._folder / TRUST, source=self._source, clock=self._clock)

    def _recalled(self) -> UpdateClient:
        client = self._client()
        try:
            client.recall()
        except UnavailableError as error:
            raise RefusedError(error.message, where=error.where, fix=error.fix) from error
        return client

    def _check(self, target: Target, *, rollback: bool) -> None:
        asked = installed_of(target)
        check_may_replace(
            target,
            installed=read_installed(self._folder).get(asked.inspection),
            rollback=rollback,
            platform=self._platform,
        )


class OpenSupply:
    """From the hub, by address, without signatures: for the settings that allow it."""

    signed = False

    def __init__(self, folder: Path, *, fetch: Callable[[str], bytes]) -> None:
        """``fetch``: bytes of an address."""
        self._folder = folder
        self._fetch = fetch

    def kept(self, data: bytes, *, wanted: Wanted, changes: bool) -> Installed | None:
        del data, wanted, changes
        return None

    def wished(self, wanted: Wanted) -> Choice:
        return Choice(inspection=wanted.inspection, digest=wanted.digest, url=wanted.url)

    def ordered(self, order: JobDocument) -> Choice:
        known = read_installed(self._folder)
        for one in known.values():
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
            url=f"/s3/{order.model_package_bucket}/{order.model_package_key}",
            installed=Installed(
                inspection=order.inspection,
                group=order.model_name,
                version=order.model_version,
                digest=Digest(order.digest),
                target="",
            ),
        )

    def refresh(self) -> None:
        """Nothing is signed."""

    def fetch(self, choice: Choice, *, progress: Progress) -> bytes:
        data = self._fetch(choice.url)
        progress(len(data), len(data))
        return data

    def done(self, choice: Choice) -> None:
        """Nothing was kept."""


class NoSupply:
    """Nothing may run: no trust root, and unsigned packages are not allowed."""

    signed = True

    def kept(self, data: bytes, *, wanted: Wanted, changes: bool) -> Installed | None:
        del data, wanted, changes
        raise no_trust()

    def wished(self, wanted: Wanted) -> Choice:
        raise no_trust(str(wanted.inspection))

    def ordered(self, order: JobDocument) -> Choice:
        raise no_trust(order.model_name)

    def refresh(self) -> None:
        """Nobody is asked."""

    def fetch(self, choice: Choice, *, progress: Progress) -> bytes:
        del choice, progress
        raise no_trust()

    def done(self, choice: Choice) -> None:
        """Nothing was fetched."""


def supply_of(config: EdgeConfig, *, clock: Clock) -> Supply:
    """As the settings say.

    Raises:
        RefusedError: the root of trust is none, or is not there.
        ConflictError: another one is pinned.
    """
    access = Access(
        token_file=config.token_file, ca=config.ca, cert=config.certificate, key=config.key
    )
    if pinned(config.folder, trust_root=config.trust_root):
        source = HubSource(config.hub, token=access.token, tls=access.tls)
        return SignedSupply(config.folder, source=source, clock=clock)
    if config.unsigned == "allowed":
        return OpenSupply(
            config.folder,
            fetch=lambda url: fetch(url, hub=config.hub, token=access.token(), tls=access.tls()),
        )
    return NoSupply()


def _choice(target: Target) -> Choice:
    asked = installed_of(target)
    return Choice(
        inspection=asked.inspection, digest=asked.digest, target=target, installed=asked
    )  # fmt: skip


def _newest(found: Iterable[Target], *, inspection: str) -> Target:
    """Of several that name one package: for this inspection, the highest version."""
    fitting = [one for one in found if one.custom.get("inspection") == inspection]
    if not fitting:
        raise InvalidError(
            "the package is signed for another inspection",
            where=inspection,
            fix="Publish it for this one.",
        )
    return max(fitting, key=lambda one: version_key(str(one.custom["version"])))


def _signed_as(digest: str, *, client: UpdateClient) -> list[Target]:
    return [one for one in client.targets().values() if one.custom.get("digest") == digest]


def _unsigned(digest: str) -> RefusedError:
    return RefusedError(
        f"package {short(Digest(digest))} is not signed for this device",
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
