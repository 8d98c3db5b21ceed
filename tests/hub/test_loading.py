"""Packages that a program of one's own loads from a hub by name: signed ones, and nothing else."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import lineside
from lineside.core import (
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.fleet import Target, create_repository
from lineside.fleet.trust.roles import prefixed
from lineside.hub import Registration, Services
from lineside.library.client import HubClient
from lineside.library.hub import Hub
from lineside.models import Package, build_package
from lineside.testing import FakeClock
from tests.edge.conftest import PackageServer
from tests.hub.conftest import serve_hub

OTHER = "0123"  # no token of this hub


def renamed(archive: bytes, name: str) -> bytes:
    """The same network as another package."""
    package = Package.read(archive)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    return build_package(replace(package.manifest, name=name), files)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hub with one approved version and one that nobody approved."""

    hub: Services
    archive: bytes
    approved: str
    candidate: str
    token: str

    @property
    def target(self) -> Target:
        found = self.hub.releases.target_of(self.approved)
        assert found is not None
        return found

    @property
    def root(self) -> bytes:
        return self.hub.releases.repository.first_root()

    def connect(self, url: str, *, root: bytes | None = None, token: str = "") -> Hub:
        client = HubClient(url, token=token or self.token)
        return Hub(client, root=root, clock=self.hub.clock)


@pytest.fixture
def site(trusted: Services, archive: bytes) -> Site:
    digests = []
    for data in (archive, renamed(archive, "candidate")):
        digests.append(trusted.packages.add(data, by="ada").digest)
        trusted.models.register("discs", Registration(package=digests[-1]), by="ada")
    approved = trusted.models.approve("discs", 1, by="eve", reason="good")
    trusted.releases.publish(trusted.models.release(approved))
    return Site(
        hub=trusted, archive=archive, approved=digests[0], candidate=digests[1],
        token=trusted.auth.issue_token("notebook", kind="api"),
    )  # fmt: skip


@pytest.fixture
def copied(site: Site) -> Iterator[PackageServer]:
    """Another server that answers as the hub does; a test changes what it answers."""
    with closing(PackageServer()) as server:
        files = site.hub.releases.repository.mirror()
        server.answers = {f"/tuf/metadata/{name}": (200, data, {}) for name, data in files.items()}
        server.answers[place(site)] = (200, site.archive, {})
        yield server


def place(site: Site) -> str:
    return f"/tuf/targets/{prefixed(site.target.path, site.target.sha256)}"


def test_a_signed_version_is_loaded_by_number_and_by_digest(
    site: Site, served: str, jpeg: Callable[..., bytes]
) -> None:
    for name in ("discs/1", site.approved):
        for root in (None, site.root):
            model = lineside.load(name, hub=site.connect(served, root=root), reject=["blue"])
            assert (model.digest, model.predict(jpeg()).task) == (site.approved, "multilabel")


def test_a_version_that_is_not_signed_is_loaded_only_where_that_is_allowed(
    site: Site, served: str, tmp_path: Path
) -> None:
    for name in ("discs/2", site.candidate, "discs/9", "discs", "", "sha256:" + "0" * 64, "../1"):
        with pytest.raises(NotFoundError, match=r"nothing of this name is signed.*fix: Approve"):
            lineside.load(name, hub=site.connect(served))
    allowed = lineside.connect(served, token=site.token, unsigned="allowed")
    for name in ("discs/2", site.candidate):
        assert lineside.load(name, hub=allowed).digest == site.candidate
    for name, error in (("discs/9", NotFoundError), ("discs", InvalidError)):
        with pytest.raises(error):
            lineside.load(name, hub=allowed)
    (tmp_path / "root.json").write_bytes(site.root)
    strict = lineside.connect(
        served, token=site.token, root=tmp_path / "root.json", unsigned="allowed"
    )
    strict._clock = site.hub.clock
    with pytest.raises(NotFoundError, match="signed"):
        lineside.load("discs/2", hub=strict)


def test_no_file_stays_of_a_package_that_was_loaded(
    site: Site, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.disable()
    try:
        lineside.load("discs/1", hub=site.connect(served))
        assert not list(tmp_path.glob("lineside-trust-*"))
    finally:
        gc.enable()


def test_a_withdrawn_version_and_metadata_that_expired_are_refused(
    site: Site, served: str, clock: FakeClock
) -> None:
    hub = site.connect(served)
    site.hub.releases.repository.withdraw(site.target.path)
    with pytest.raises(NotFoundError, match="signed"):
        lineside.load("discs/1", hub=hub)
    clock.advance(8 * 86_400)
    with pytest.raises(RefusedError, match=r"timestamp\.json is expired"):
        lineside.load("discs/1", hub=hub)


@pytest.mark.parametrize("altered", ["a bit", "another package", "cut", "longer"])
def test_a_package_that_was_altered_on_the_way_is_not_loaded(
    site: Site, copied: PackageServer, altered: str
) -> None:
    assert lineside.load("discs/1", hub=site.connect(copied.url)).digest == site.approved
    data = bytearray(site.archive)
    data[len(data) // 2] ^= 1
    copied.answers[place(site)] = (200, {
        "a bit": bytes(data), "another package": renamed(site.archive, "other"),
        "cut": site.archive[:-1], "longer": site.archive + b"0",
    }[altered], {})  # fmt: skip
    with pytest.raises((RefusedError, UnavailableError), match=r"signed|broke off|bytes"):
        lineside.load("discs/1", hub=site.connect(copied.url))


def test_without_a_signature_the_digest_that_was_asked_for_holds(
    site: Site, copied: PackageServer
) -> None:
    path = f"/api/v1/packages/{site.approved.replace(':', '%3A')}/content"
    copied.answers[path] = (200, renamed(site.archive, "other"), {})
    allowed = lineside.connect(copied.url, token=site.token, unsigned="allowed")
    with pytest.raises(RefusedError, match=r"has digest sha256:.*wanted sha256:.*fix: Look"):
        lineside.load(site.approved, hub=allowed)
    copied.answers["/api/v1/models/discs/versions/1"] = (200, b"{}", {})
    with pytest.raises(InvalidError, match="the answer has no str 'digest'"):
        lineside.load("discs/1", hub=allowed)
    with pytest.raises(InvalidError, match="is no version"):
        lineside.load(f"discs/{'1' * 5000}", hub=allowed)


def test_another_sites_repository_is_not_believed_by_who_has_the_root(
    site: Site, copied: PackageServer, tmp_path: Path, clock: FakeClock
) -> None:
    other = create_repository(tmp_path, keys=tmp_path / "keys", clock=clock, read=lambda _: b"")
    for name, data in other.mirror().items():
        copied.answers[f"/tuf/metadata/{name}"] = (200, data, {})
    with pytest.raises(NotFoundError):  # who has no root believes whoever answers
        lineside.load("discs/1", hub=site.connect(copied.url))
    with pytest.raises(RefusedError, match="not signed as it must be"):
        lineside.load("discs/1", hub=site.connect(copied.url, root=site.root))
    for root in (b"{}", b""):
        with pytest.raises(RefusedError, match="fix: "):
            lineside.load("discs/1", hub=site.connect(copied.url, root=root))
    with pytest.raises(RefusedError, match=r"without TLS would be believed.*fix: Give root="):
        lineside.load("discs/1", hub=site.connect("http://hub.invalid"))
    with pytest.raises(UnavailableError):
        lineside.load("discs/1", hub=site.connect("http://hub.invalid", root=site.root))
    with pytest.raises(NotFoundError, match=r"the root cannot be read.*fix: Name the file"):
        lineside.connect(copied.url, token="", root=tmp_path / "none.json")
    (tmp_path / "empty.json").touch()
    with pytest.raises(RefusedError, match=r"the root is empty.*fix: Name the file"):
        lineside.connect(copied.url, token="", root=tmp_path / "empty.json")


def test_a_hub_that_is_away_or_refuses_the_token_says_so(site: Site) -> None:
    with serve_hub(site.hub) as url:
        with pytest.raises(RefusedError, match="refuses the token"):
            lineside.load("discs/1", hub=site.connect(url, token=OTHER))
        ingest = site.hub.auth.issue_token("camera", kind="ingest")
        with pytest.raises(RefusedError, match="the hub refuses"):
            lineside.load("discs/1", hub=site.connect(url, token=ingest))
    with pytest.raises(UnavailableError, match="does not answer"):
        lineside.load("discs/1", hub=site.connect(url))
