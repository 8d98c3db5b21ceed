"""Apply a bundle from a stick to a device; no network takes part.

1. The bundle is read by the same verifier as a hub is, from the root the device trusts.
2. Every package in it is verified, loaded and asked its golden pictures before anything of the
   device changes; then archives, and ``deployment.json`` last, are written, each atomically.
3. Older than what is in use: only with a signed way back and when it was asked for.
"""

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import Clock, InvalidError, RefusedError, short
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.identity.trust import TRUST
from lineside.edge.machine import sole_user, this_platform
from lineside.edge.messages import Desired, DesiredPackage
from lineside.edge.packages import LoadPackage, loading
from lineside.fleet import Installed, Signers, Target, UpdateClient, pin_root
from lineside.fleet.agent_order import check_may_replace, installed_of
from lineside.fleet.trust.bundle import Bundle, open_bundle
from lineside.fleet.trust.roles import prefixed

_INCOMING = "incoming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Packages and wheels of an applied bundle.

    Attributes:
        packages: now wished for; ``signed_by``: who signed each.
        wheels: verified files of the runtime, for ``pip install --no-index --find-links``.
    """

    packages: tuple[Installed, ...]
    signed_by: tuple[Signers, ...]
    wheels: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    target: Target
    file: Path
    signers: Signers


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
        checked = [
            _check(client, name, folder=folder, make_ready=make_ready)
            for name in bundle.listed.packages
        ]
        _check_versions(checked, installed=installed, rollback=rollback)
        wheels = _wheels(client, bundle, folder=folder)
        _put_in_place(checked, folder=folder)
        made = tuple(installed_of(one.target) for one in checked)
    return Applied(packages=made, signed_by=tuple(one.signers for one in checked), wheels=wheels)


def _check(client: UpdateClient, path: str, *, folder: Path, make_ready: LoadPackage) -> _Checked:
    target = client.target(path)
    if not path.startswith("packages/"):
        raise InvalidError("no package", where=path, fix="Write the bundle again.")
    file = client.fetch(target, into=folder / _INCOMING, progress=_silent)
    asked, ready = installed_of(target), make_ready(file.read_bytes())
    if ready.digest != asked.digest or ready.inspection not in ("", asked.inspection):
        raise RefusedError(
            f"the package is {short(ready.digest)} for {ready.inspection!r}, "
            f"signed is {short(asked.digest)} for {asked.inspection!r}",
            where=path,
            fix="Publish the package again.",
        )
    return _Checked(target=target, file=file, signers=client.signers(path))


def _check_versions(
    checked: Iterable[_Checked], *, installed: Mapping[str, Installed], rollback: bool
) -> None:
    seen: set[str] = set()
    for one in checked:
        inspection = installed_of(one.target).inspection
        if inspection in seen:
            raise InvalidError(
                f"two packages for inspection {inspection!r}",
                where=one.target.path,
                fix="Write a bundle with one of them.",
            )
        seen.add(inspection)
        check_may_replace(
            one.target, installed=installed.get(inspection), rollback=rollback,
            platform=this_platform(),
        )  # fmt: skip


def _wheels(client: UpdateClient, bundle: Bundle, *, folder: Path) -> tuple[Path, ...]:
    """Verified wheels under their own names; they are installed by whoever applies the bundle."""
    found = []
    for path in bundle.listed.wheels:
        file = client.fetch(client.target(path), into=folder / _INCOMING, progress=_silent)
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        found.append(file.replace(place))
    return tuple(found)


def _put_in_place(checked: Iterable[_Checked], *, folder: Path) -> None:
    store = DeploymentStore(folder)
    store.open()
    known = store.read()
    desired = known.desired or Desired(schema="lineside.desired/1")
    installed = {one.inspection: one for one in known.installed}
    wanted = {one.inspection: one for one in desired.packages}
    for one in checked:
        asked = installed_of(one.target)
        store.put(asked.digest, one.file.read_bytes())
        url = f"/tuf/targets/{prefixed(one.target.path, one.target.sha256)}"
        wanted[asked.inspection] = DesiredPackage(
            inspection=asked.inspection, digest=asked.digest, url=url
        )
        installed[asked.inspection] = asked
    store.write(
        replace(
            known,
            desired=replace(desired, packages=tuple(wanted.values())),
            installed=tuple(installed[name] for name in sorted(installed)),
        )
    )


def _silent(there: int, whole: int) -> None:
    del there, whole
