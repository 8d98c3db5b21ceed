"""First set-up of a site: an authority, the hub's certificate, the first user, a trust root.

Each is made only where it is absent, and nothing is overwritten: doing it again makes what is
missing and says what is there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import Clock, ConflictError, RefusedError, load_plant
from lineside.fleet import CertificateAuthority, renewal_due
from lineside.hub.access.accounts import Accounts
from lineside.hub.access.auth import find_user
from lineside.hub.access.permissions import Role
from lineside.hub.access.tls import hosts_of, issue_own, own_certificate, site_files
from lineside.hub.config import HubConfig
from lineside.hub.eventlog.ledger import RecordsJournal
from lineside.hub.models.releases import Releases
from lineside.store import Records, open_blobs, open_records


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStep:
    """One thing of a site: whether it was made now, and a sentence."""

    what: str
    made: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSite:
    """Steps of the set-up, and the files that should leave the machine."""

    steps: tuple[SiteStep, ...]
    take_offline: tuple[str, ...]


def init_site(
    config: HubConfig, *, clock: Clock, password: Callable[[], str], name: str = "",
    hosts: tuple[str, ...] = (), user: str = "",
) -> NewSite:  # fmt: skip
    """Make what is missing.

    Args:
        config: of the hub.
        clock: for certificates and keys.
        password: asked only where the user is not there yet.
        name: of the authority; empty: the plant file's site.
        hosts: names and addresses of the hub; empty: those of its settings.
        user: the first administrator; empty: none.

    Raises:
        ConflictError: the hub's certificate is for other hosts than those given.
        InvalidError: a host, name or password that is none.
    """
    site = load_plant(Path(config.plant)).site
    config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca = make_ca(config, site=name or site, clock=clock)
    steps = [ca, _certificate(config, hosts, clock=clock)]
    with open_records(config.records_url, clock=clock) as records:
        if user:
            steps.append(_user(records, user, password=password, site=site, clock=clock))
        blobs = open_blobs(config.blobs_url)
        try:
            releases = Releases(records, blobs, folder=config.trust_folder, clock=clock)
            steps.append(make_trust(config, releases))
        finally:
            blobs.close()
    return NewSite(steps=tuple(steps), take_offline=offline_files(config))


def make_ca(config: HubConfig, *, site: str, clock: Clock) -> SiteStep:
    """Make the authority that certifies devices and the hub, where absent.

    The hub's own certificate is not made here: a start with TLS makes it for the hosts of the
    settings then.
    """
    folder = config.ca_folder
    made = not folder.exists()
    if made:
        try:
            CertificateAuthority.create(folder, site=site, clock=clock)
        except ConflictError:  # somebody else was first
            made = False
    if not made:
        CertificateAuthority.open(folder, clock=clock).crl()
    return SiteStep(what="authority", made=made, detail=f"certificates are signed in {folder}")


def _certificate(config: HubConfig, hosts: tuple[str, ...], *, clock: Clock) -> SiteStep:
    path, wanted = site_files(config).certificate, hosts_of(config, named=hosts)
    if not path.exists():
        made = issue_own(config, hosts=wanted, clock=clock)
        return SiteStep(what="certificate", made=True, detail=f"for {', '.join(made.hosts)}")
    current = own_certificate(replace(config, tls="site", tls_cert="", tls_key="")).hosts
    if set(hosts) - set(current):
        raise ConflictError(
            f"the hub has a certificate for {', '.join(current)}",
            where=str(path),
            fix=f"Remove {path.parent} and do this again; devices and browsers keep trusting it.",
        )
    return SiteStep(what="certificate", made=False, detail=f"for {', '.join(current)}")


def _user(
    records: Records, name: str, *, password: Callable[[], str], site: str, clock: Clock
) -> SiteStep:
    if find_user(records.documents, name) is not None:
        return SiteStep(what="user", made=False, detail=f"{name} is there")
    accounts = Accounts(records, journal=RecordsJournal(records), site=site, clock=clock)
    made = accounts.add(name, role=Role.ADMIN, password=password(), by="hub init")
    return SiteStep(what="user", made=True, detail=f"{made.name}, {made.role}")


def make_trust(config: HubConfig, releases: Releases) -> SiteStep:
    """Make the update repository whose root devices are given at enrolment, where absent."""
    made = releases.ensure(keys=config.keys_folder)
    return SiteStep(
        what="trust root", made=made, detail=f"packages are signed in {config.trust_folder}"
    )


def offline_files(config: HubConfig) -> tuple[str, ...]:
    """Return the files that should leave the machine, each with its reason."""
    keys = config.keys_folder
    root = (f"{keys}: the root keys of the trust, which the hub does not need",)
    copy = f"a copy of {config.ca_folder / 'authority.key'}, to go on after a lost disk"
    return (*(root if keys.exists() else ()), copy)


def certificate_words(config: HubConfig, *, clock: Clock) -> str:
    """Until when the certificates hold, for ``lineside doctor``.

    Raises:
        NotFoundError: one is absent.
        RefusedError: it is over, or soon over.
    """
    if not config.secure:
        return "pages are served without TLS"
    found = own_certificate(config)
    days = (found.ends_at - clock.now()).days
    if days < 0 or renewal_due(found, now=clock.now()):
        raise RefusedError(
            f"the hub's certificate {'is over' if days < 0 else f'ends in {days} days'}",
            fix="Restart the hub, which renews it." if config.tls else "Renew tls_cert.",
        )
    if config.tls:
        CertificateAuthority.open(config.ca_folder, clock=clock)
    return f"for {', '.join(found.hosts)}, {days} days left"
