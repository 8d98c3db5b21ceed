"""Packages loaded by name on a device that trusts an update repository."""

import hashlib
from pathlib import Path

import pytest

from lineside.compat.aws import agent_pb2
from lineside.core import ConflictError, Digest, RefusedError, digest_of
from lineside.edge import TRUST, apply_bundle
from lineside.edge.identity.trust import verifier
from lineside.fleet import Release, UpdateRepository, create_repository
from lineside.fleet.trust.bundle import write_bundle
from lineside.models import Package, build_package
from lineside.testing import FakeClock
from tests.edge.serving import STARTED_S, edge_config, refused, served
from tests.models.conftest import package_parts


@pytest.fixture
def repository(tmp_path: Path, archive: bytes, clock: FakeClock) -> UpdateRepository:
    """With the package published."""
    blobs: dict[Digest, bytes] = {digest_of(archive): archive}
    hub = tmp_path / "hub"
    made = create_repository(hub / "trust", keys=hub / "keys", clock=clock, read=blobs.__getitem__)
    package = Package.read(archive)
    release = Release(
        group="bright", version="1", inspection=package.manifest.inspection,
        digest=package.digest, sha256=hashlib.sha256(archive).hexdigest(),
        size_bytes=len(archive),
    )  # fmt: skip
    path = made.publish(release, archive).path
    write_bundle(made, (path,), to=tmp_path / "site.lsbundle", wheels=())
    return made


@pytest.fixture
def enrolled(tmp_path: Path, repository: UpdateRepository, clock: FakeClock) -> Path:
    """The folder of a device that believes the repository."""
    folder = tmp_path / "data"
    apply_bundle(
        tmp_path / "site.lsbundle", folder=folder, clock=clock, root=repository.first_root()
    )
    return folder


def test_a_signed_package_is_loaded_and_another_one_is_not(
    tmp_path: Path, enrolled: Path, archive: bytes, clock: FakeClock
) -> None:
    assert enrolled == tmp_path / "data"
    place = tmp_path / "bright" / "1"
    place.mkdir(parents=True)
    with served(edge_config(tmp_path), clock=clock) as device:
        request = agent_pb2.LoadModelRequest(url=str(place), name="bright-1")
        (place / "a.lspkg").write_bytes(build_package(*package_parts(), signatures={"x.sig": b"x"}))
        code, sentence = refused(device.client.agent.LoadModel, request)
        assert code == "FAILED_PRECONDITION"
        assert "not signed for this device" in sentence
        (place / "a.lspkg").write_bytes(archive)
        device.client.agent.LoadModel(request, timeout=STARTED_S)


def test_a_device_that_trusts_nothing_runs_nothing(tmp_path: Path, clock: FakeClock) -> None:
    verify = verifier(tmp_path, trust_root="", clock=clock)
    assert verify is not None
    with pytest.raises(RefusedError, match="trusts no update repository"):
        verify(b"", "here")


def test_where_unsigned_packages_are_allowed_no_proof_is_asked(
    tmp_path: Path, clock: FakeClock
) -> None:
    assert verifier(tmp_path, trust_root="", clock=clock, unsigned="allowed") is None


def test_a_trust_folder_without_a_root_refuses_everything(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / TRUST).mkdir()
    verify = verifier(tmp_path, trust_root="", clock=clock)
    assert verify is not None
    with pytest.raises(RefusedError):
        verify(b"anything", "here")


def test_a_root_that_was_handed_over_is_pinned_and_proves_after_a_refresh(
    tmp_path: Path, repository: UpdateRepository, archive: bytes, clock: FakeClock
) -> None:
    roots = tmp_path / "root"
    roots.mkdir()
    (roots / "root.json").write_bytes(repository.first_root())
    verify = verifier(tmp_path / "data", trust_root=str(roots), clock=clock)
    assert verify is not None
    with pytest.raises(RefusedError):
        verify(archive, "before anything was believed")
    apply_bundle(tmp_path / "site.lsbundle", folder=tmp_path / "data", clock=clock)
    verify(archive, "now")
    with pytest.raises(RefusedError, match="not signed"):
        verify(archive + b"x", "longer")


def test_a_root_that_is_none_or_another_is_refused(
    tmp_path: Path, enrolled: Path, clock: FakeClock
) -> None:
    with pytest.raises(RefusedError, match=r"no root\.json"):
        verifier(tmp_path / "new", trust_root=str(tmp_path / "none"), clock=clock)
    # What was pinned stays when the file it came from is gone.
    assert verifier(enrolled, trust_root=str(tmp_path / "none"), clock=clock) is not None
    (tmp_path / "root.json").write_bytes(b"{}")
    with pytest.raises(RefusedError):
        verifier(enrolled, trust_root=str(tmp_path), clock=clock)
    other = create_repository(
        tmp_path / "other", keys=tmp_path / "keys", clock=clock, read=lambda _: b""
    )
    (tmp_path / "root.json").write_bytes(other.first_root())
    with pytest.raises(ConflictError, match="trusts another root"):
        verifier(enrolled, trust_root=str(tmp_path), clock=clock)
