"""The hub's own certificate: made by the site's authority, renewed at a start, looked at by doctor.

Files below ``data_dir/tls``: ``server.crt`` (with the authority's certificate behind it) and
``server.key`` (mode 0600). Both are replaced one after the other, the key last: a start that finds
a pair that does not fit makes a new one.
"""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    UnavailableError,
    replace_durably,
)
from lineside.core.config import LOOPBACK
from lineside.fleet import CertificateAuthority, renewal_due, server_certificate
from lineside.fleet.trust.certificate_authority import KEY_FILE, ServerCertificate, is_host
from lineside.hub.config import HubConfig

logger = logging.getLogger(__name__)

REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not listened at
"""Addresses that stand for all of a machine's, and where it reaches itself by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFiles:
    """Paths of the web server's certificate and key."""

    certificate: Path
    key: Path


def site_files(config: HubConfig) -> ServerFiles:
    """Return the paths of a certificate by the site's authority, whether or not it exists."""
    folder = config.folder / "tls"
    return ServerFiles(certificate=folder / "server.crt", key=folder / "server.key")


def server_files(config: HubConfig, *, clock: Clock) -> ServerFiles | None:
    """Return certificate and key of the web server; None without TLS.

    Raises:
        NotFoundError: files that are named are not there, or there is no authority yet.
        InvalidError: certificate and key do not fit.
    """
    if not config.secure:
        return None
    if config.tls:
        _renewed(config, clock=clock)
        files = site_files(config)
    else:
        files = ServerFiles(certificate=Path(config.tls_cert), key=Path(config.tls_key))
    _check_pair(files)
    return files


def check_ca(config: HubConfig, *, clock: Clock) -> None:
    """Ask for the site's authority, where one is needed, before a start makes anything.

    Raises:
        NotFoundError: there is none, nor a certificate that it gave earlier.
        InvalidError: its files are no certificate with its key.
    """
    if (
        not (config.tls or config.bus_tls or config.iot_jobs_tls)
        or site_files(config).certificate.is_file()
    ):
        return
    try:
        CertificateAuthority.open(config.ca_folder, clock=clock)
    except NotFoundError as error:
        raise NotFoundError(
            error.message, where=error.where,
            fix="Run lineside hub init --config hub.toml; nothing was made.",
        ) from error  # fmt: skip


def device_server_files(config: HubConfig, *, clock: Clock) -> ServerFiles:
    """Return certificate and key for devices on the bus, of the site's authority.

    Raises:
        NotFoundError: there is no authority yet.
    """
    of_site = replace(config, tls="site", tls_cert="", tls_key="")
    _renewed(of_site, clock=clock)
    files = site_files(of_site)
    _check_pair(files)
    return files


def hosts_of(config: HubConfig, *, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Names and addresses under which the hub is reached: those named, or of its settings.

    The addresses at which it, its bus and ``iot_jobs_tls`` listen, and loopback, by which commands
    beside it come, are always among them.
    """
    from urllib.parse import urlsplit

    named = named or [urlsplit(config.public_url).hostname or "", *config.allowed_hosts]
    listeners = (
        one.rpartition(":")[0].strip("[]") for one in (config.bus_tls, config.iot_jobs_tls)
    )
    reached = (*named, config.host, *listeners)
    wanted = [name.lower() for name in reached if name and name not in REACHED_AT]
    return tuple(dict.fromkeys([*wanted, *LOOPBACK]))


def issue_own(config: HubConfig, *, hosts: Sequence[str], clock: Clock) -> ServerCertificate:
    """A new certificate of the site's authority for the hub, in place of any before."""
    authority = CertificateAuthority.open(config.ca_folder, clock=clock)
    pair = authority.issue_server(hosts)
    files = site_files(config)
    files.certificate.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_durably(files.certificate, pair.certificate + authority.certificate, mode=0o600)
    replace_durably(files.key, pair.key, mode=0o600)
    return server_certificate(pair.certificate, where=str(files.certificate))


def issue_for(
    config: HubConfig, *, hosts: Sequence[str], folder: Path, clock: Clock
) -> ServerFiles:
    """A certificate of the site's authority for another server, such as a device's own page.

    Written as ``server.crt`` (with the authority's certificate behind it) and ``server.key`` (mode
    0600), in place of any before.

    Raises:
        NotFoundError: there is no authority yet.
        InvalidError: a host that is none.
        UnavailableError: the folder cannot be written.
    """
    authority = CertificateAuthority.open(config.ca_folder, clock=clock)
    pair = authority.issue_server(hosts)
    files = ServerFiles(certificate=folder / "server.crt", key=folder / "server.key")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UnavailableError(
            f"cannot be made: {error.strerror}", where=str(folder), fix="Name another folder."
        ) from error
    replace_durably(files.certificate, pair.certificate + authority.certificate, mode=0o644)
    replace_durably(files.key, pair.key, mode=0o600)
    return files


def own_certificate(config: HubConfig) -> ServerCertificate:
    """Return the facts of the hub's own certificate.

    Raises:
        NotFoundError: there is none.
    """
    path = site_files(config).certificate if config.tls else Path(config.tls_cert)
    try:
        return server_certificate(path.read_bytes(), where=str(path))
    except FileNotFoundError as error:
        raise NotFoundError(
            "no certificate for the hub", where=str(path), fix="Run lineside hub init."
        ) from error


def _renewed(config: HubConfig, *, clock: Clock) -> None:
    """Make a new one where it is soon over, lacks a name of the settings, or is half of one."""
    try:
        kept = own_certificate(config)
        _check_pair(site_files(config))
    except LinesideError:
        kept = None
    known = kept.hosts if kept is not None else ()
    hosts = tuple(dict.fromkeys([*known, *filter(is_host, hosts_of(config))]))
    lacks = set(hosts) - set(known) and (config.ca_folder / KEY_FILE).is_file()
    if kept is None or lacks or renewal_due(kept, now=clock.now()):
        made = issue_own(config, hosts=hosts, clock=clock)
        logger.info("certificate issued hosts=%s until=%s", ",".join(made.hosts), made.ends_at)


def _check_pair(files: ServerFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key)
    except FileNotFoundError as error:
        raise NotFoundError(
            "no certificate or no key", where=f"{files.certificate}, {files.key}",
            fix="Name files that are there.",
        ) from error  # fmt: skip
    except (ssl.SSLError, OSError) as error:
        raise InvalidError(
            f"certificate and key do not fit: {getattr(error, 'reason', error)}",
            where=f"{files.certificate}, {files.key}",
            fix="Name the key that the certificate was made for, without a password.",
        ) from error
